/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One connection to a job server: TCP, and TLS over it when that is configured. Every wait ends at a deadline, given as a time of clock_ns().
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "breaker.h"
#include "endpoint.h"
#include "protocol.h"

enum io_result {
    IO_OK,
    IO_TIMEOUT,
    IO_CLOSED,  /* closed or reset by the other side */
    IO_GARBAGE, /* what came is no answer packet, or too long a one */
    IO_MEMORY,
    IO_INSECURE, /* TLS is wanted and could not be had */
};

enum { WHAT_MAX = 128 }; /* bytes of a reason */

struct connection {
    struct connection *newer, *older; /* in the pool */
    int fd;
    struct tls *tls;     /* NULL: plain */
    unsigned generation; /* of the TLS configuration when it was made */
    struct pass pass;   /* what the breaker let it pass with */
    bool kept;          /* it comes from the pool, so the server may have closed it without our knowing */
    int64_t idle_since;
    unsigned char *input;
    size_t start, end, capacity; /* what was received and not yet taken lies between start and end */
};

/* Monotonic, in nanoseconds. */
int64_t clock_ns(void);

/* Until the socket is ready: 0 at the deadline, otherwise the events. */
short socket_wait(int fd, short events, int64_t deadline);
/* Begin to connect, without waiting: a socket, or -1 with errno. */
int socket_begin(const struct endpoint *endpoint);
/* IO_OK when it is connected, IO_TIMEOUT when it is not yet, IO_CLOSED with errno when it cannot be. */
enum io_result socket_finish(int fd, int64_t deadline);

/* Takes the socket over. NULL (and the socket closed) when there is no memory. */
struct connection *connection_wrap(int fd);
/* After the connect: TLS, when it is configured. IO_TIMEOUT: call again; IO_INSECURE with the reason. load: as with tls_begin. */
enum io_result connection_secure(struct connection *connection, const struct address *address, bool load, int64_t deadline, char what[WHAT_MAX]);
/* The first endpoint that can be connected, into *out. Otherwise the reason is in what. */
enum io_result connection_open(const struct endpoints *endpoints, const struct address *address, int64_t deadline, struct connection **out,
                               char what[WHAT_MAX]);
/* Made under the configuration of TLS that holds now. */
bool connection_current(const struct connection *connection);
/* Why the other side's connection ended, when TLS says so; otherwise the given text. */
const char *connection_ending(const struct connection *connection, const char *otherwise);
void connection_close(struct connection *connection);
/* Nothing unread and not closed by the other side: fit for the next packet. */
bool connection_idle(struct connection *connection);

/* Send both parts; *sent says how much of them went out. With take_input, what arrives meanwhile is read, so that both sides can go on. */
enum io_result connection_send(struct connection *connection, struct slice head, struct slice tail, bool take_input, int64_t deadline, size_t *sent);
/* The next packet; it is valid until the next call. What is there is handed out at any time: who waits for a certain one minds the deadline.
 * Of a packet that comes in pieces, one piece is taken after the deadline. */
enum io_result connection_receive(struct connection *connection, struct packet *packet, int64_t deadline);

#endif
