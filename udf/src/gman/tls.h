/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * TLS over a non-blocking socket. OpenSSL is neither linked nor needed to build: when TLS is first enabled,
 * the copy of the server's process is used, or else the system's is loaded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "address.h"
#include "failure.h"
#include "shared/buffer.h"

struct tls; /* one session */

/* Changes with the configuration: older connections are not used again. */
unsigned tls_generation(void);
/* After a change of the settings: read the files (again). Nothing else reads them. False with the reason when
 * they are not usable: then a working configuration stays, and without one every connection fails. Never falls
 * back to plain connections. only_changed: do nothing when the files are those that were read last. */
bool tls_reload(bool only_changed, char problem[WHAT_MAX]);
/* Free everything except OpenSSL itself. */
void tls_unload(void);

/* A session with the server of the address. NULL with the reason. */
struct tls *tls_begin(const struct address *address, char problem[WHAT_MAX]);
void tls_end(struct tls *tls, int fd);
/* IO_OK: the server is verified, and data may be sent. IO_TIMEOUT: call again. Otherwise the reason is in
 * problem. */
enum io_result tls_handshake(struct tls *tls, int fd, char problem[WHAT_MAX]);
/* Output is pending: also wait until the socket is writable. */
bool tls_has_output(const struct tls *tls);
/* Send pending output, and then some of the data: *taken bytes are sent completely, now or by the next call.
 * IO_OK: no output is pending. */
enum io_result tls_write(struct tls *tls, int fd, struct slice data, size_t *taken);
/* IO_INSECURE: the reason is in problem. */
enum io_result tls_read(struct tls *tls, int fd, void *data, size_t size, size_t *got,
                        char problem[WHAT_MAX]);
