/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One connection to a job server: TCP, with TLS when it is configured. Every wait ends at a deadline, a time
 * of clock_ns().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "address.h"
#include "breaker.h"
#include "failure.h"
#include "protocol.h"

struct connection {
    TAILQ_ENTRY(connection) others; /* in the pool */
    int fd;
    struct tls *tls;     /* NULL: plain */
    char problem[WHAT_MAX]; /* why TLS has failed; "": it has not */
    unsigned generation; /* of the TLS configuration it was made with */
    struct pass pass;   /* from the breaker */
    bool kept;          /* from the pool: the server may have closed it unnoticed */
    int64_t idle_since;
    size_t sent; /* bytes by the last connection_send */
    struct buffer input;
    size_t start; /* from here on it is not yet consumed */
};

TAILQ_HEAD(connections, connection);

/* Owns the socket. NULL when out of memory, with the socket closed. */
struct connection *connection_wrap(int fd);
/* After the connect: the TLS handshake, when TLS is configured. IO_TIMEOUT: call again. IO_INSECURE: see
 * what. */
enum io_result connection_secure(struct connection *connection, const struct address *address,
                                 int64_t deadline, char what[WHAT_MAX]);
/* Whether it was made with the current TLS configuration; a plain one never is once TLS is on. */
bool connection_current(const struct connection *connection);
/* Why a step did not end with IO_OK, for users. */
const char *connection_problem(const struct connection *connection, enum io_result result);
void connection_close(struct connection *connection);
void connections_close(struct connections *list);
bool connection_has_input(const struct connection *connection);
/* Give the memory of large answers back. Only without unread input. */
void connection_shrink(struct connection *connection);
/* Nothing unread and not closed by the other side: usable for the next packet. */
bool connection_idle(struct connection *connection);

/* Send both parts. take_input: also read what arrives, so that neither side blocks the other. */
enum io_result connection_send(struct connection *connection, struct slice head, struct slice tail,
                               bool take_input, int64_t deadline);
/* The next packet, valid until the next call. A packet that has arrived is returned even after the deadline:
 * a caller that waits for a certain packet checks the deadline itself. After the deadline, at most one more
 * piece of an incomplete packet is read. */
enum io_result connection_receive(struct connection *connection, struct packet *packet, int64_t deadline);
