/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * TLS over a non-blocking socket. OpenSSL is neither linked nor needed to build: when TLS is first enabled,
 * the copy of the server's process is used, or else the system's is loaded.
 */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "address.h"

enum { TLS_PROBLEM_MAX = 128 };

enum tls_result {
    TLS_OK,
    TLS_WAIT,   /* cannot continue without waiting */
    TLS_CLOSED, /* the other side has closed the connection */
    TLS_BROKEN, /* protocol error, or an invalid certificate */
};

struct tls; /* one session */

/* Changes with the configuration: older connections are not used again. */
unsigned tls_generation(void);
/* After a change of the settings: read the files (again). Nothing else reads them. False with the reason when
 * they are not usable: then a working configuration stays, and without one every connection fails. Never falls
 * back to plain connections. only_changed: do nothing when the files are those that were read last. */
bool tls_reload(bool only_changed, char *problem, size_t size);
/* Free everything except OpenSSL itself. */
void tls_unload(void);

/* A session with the server of the address. NULL with the reason. */
struct tls *tls_begin(const struct address *address, char problem[TLS_PROBLEM_MAX]);
void tls_end(struct tls *tls, int fd);
/* TLS_OK: the server is verified, and data may be sent. TLS_WAIT: call again. Otherwise the reason is in
 * problem. */
enum tls_result tls_handshake(struct tls *tls, int fd, char problem[TLS_PROBLEM_MAX]);
/* Output is pending: also wait until the socket is writable. */
bool tls_has_output(const struct tls *tls);
/* Send pending output. */
enum tls_result tls_flush(struct tls *tls, int fd);
/* Accept some of the data, after tls_flush has returned TLS_OK: *taken bytes are sent completely, now or by
 * tls_flush. */
enum tls_result tls_write(struct tls *tls, const void *data, size_t length, size_t *taken);
/* The reason why tls_read returned TLS_BROKEN; otherwise "". */
const char *tls_problem(const struct tls *tls);
enum tls_result tls_read(struct tls *tls, int fd, void *data, size_t size, size_t *got);

#endif
