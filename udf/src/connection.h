/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One TCP connection to a job server. Every wait ends at a deadline, given as a time of clock_ns().
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "protocol.h"

enum io_result {
    IO_OK,
    IO_TIMEOUT,
    IO_CLOSED,  /* closed or reset by the other side */
    IO_GARBAGE, /* what came is no answer packet, or too long a one */
    IO_MEMORY,
};

struct endpoint {
    struct sockaddr_storage address;
    socklen_t length;
};

struct connection {
    struct connection *newer, *older; /* in the pool */
    int fd;
    bool kept;          /* it comes from the pool, so the server may have closed it without our knowing */
    int64_t idle_since;
    unsigned char *input;
    size_t start, end, capacity; /* what was received and not yet taken lies between start and end */
};

/* Monotonic, in nanoseconds. */
int64_t clock_ns(void);

/* Begin to connect, without waiting: a socket, or -1 with errno. */
int socket_begin(const struct endpoint *endpoint);
/* IO_OK when it is connected, IO_TIMEOUT when it is not yet, IO_CLOSED with errno when it cannot be. */
enum io_result socket_finish(int fd, int64_t deadline);

/* Takes the socket over. NULL (and the socket closed) when there is no memory. */
struct connection *connection_wrap(int fd);
/* The first endpoint that can be connected. NULL with errno. */
struct connection *connection_open(const struct endpoint *endpoints, size_t count, int64_t deadline);
void connection_close(struct connection *connection);
/* Nothing unread and not closed by the other side: fit for the next packet. */
bool connection_idle(const struct connection *connection);

/* Send both parts; *sent says how much of them went out. With take_input, what arrives meanwhile is read, so that both sides can go on. */
enum io_result connection_send(struct connection *connection, struct slice head, struct slice tail, bool take_input, int64_t deadline, size_t *sent);
/* The next packet; it is valid until the next call. */
enum io_result connection_receive(struct connection *connection, struct packet *packet, int64_t deadline);

#endif
