/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * TLS over a socket that never blocks. OpenSSL is neither linked nor needed to build: it is taken from the server's process, or else
 * from the system, when TLS is first switched on.
 */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "address.h"

enum { TLS_PROBLEM_MAX = 128 };

enum tls_result {
    TLS_OK,
    TLS_WAIT,   /* nothing more without waiting */
    TLS_CLOSED, /* the other side has closed the connection */
    TLS_BROKEN, /* what came is not what it should be */
};

struct tls; /* one session */

/* Changes with every change of the configuration: connections made before it are not used again. */
unsigned tls_generation(void);
/* After a change of the settings: read the files (again). False, with the reason, when they are of no use: then a configuration that
 * works stays, and without one every connection fails. It never falls back to plain connections. */
bool tls_reload(char *problem, size_t size);
/* Free everything but OpenSSL itself. */
void tls_unload(void);

/* A session with the server that the address names. NULL with the reason. load: without a configuration, try to make one, which reads files. */
struct tls *tls_begin(const struct address *address, bool load, char problem[TLS_PROBLEM_MAX]);
void tls_end(struct tls *tls, int fd);
/* TLS_OK: the server is who it should be, and data may flow. Otherwise, but for TLS_WAIT, problem says why not. */
enum tls_result tls_handshake(struct tls *tls, int fd, char problem[TLS_PROBLEM_MAX]);
/* Output is left over: who waits for the session waits until it can be sent, too. */
bool tls_has_output(const struct tls *tls);
/* Send what is left over of earlier output. */
enum tls_result tls_flush(struct tls *tls, int fd);
/* Take some of the data, after tls_flush has said TLS_OK: *taken bytes of it will go out whole, now or with tls_flush. */
enum tls_result tls_write(struct tls *tls, const void *data, size_t length, size_t *taken);
/* Why tls_read has said TLS_BROKEN; otherwise "". */
const char *tls_problem(const struct tls *tls);
enum tls_result tls_read(struct tls *tls, int fd, void *data, size_t size, size_t *got);

#endif
