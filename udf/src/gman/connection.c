/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "connection.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "settings.h"
#include "tls.h"
#include "wait.h"

enum {
    FIRST_INPUT = 4096,
    KEPT_INPUT = 65536, /* a connection that goes back to the pool keeps no more memory than this */
    MOST_INPUT = 64 * 1024 * 1024, /* more than any valid packet: the limit for a flood of input */
};

struct connection *connection_wrap(int fd) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    connection->input.limit = MOST_INPUT;
    connection->fd = fd;
    connection->generation = tls_generation();
    return connection;
}

bool connection_current(const struct connection *connection) {
    return connection->generation == tls_generation() && (connection->tls || !setting(TLS));
}

/* Until there is input, or room for pending output of TLS. */
static bool wait_for_input(const struct connection *connection, int64_t deadline) {
    bool output = connection->tls && tls_has_output(connection->tls);
    return socket_wait(connection->fd, output ? POLLIN | POLLOUT : POLLIN, deadline);
}

enum io_result connection_secure(struct connection *connection, const struct address *address,
                                 int64_t deadline, char what[WHAT_MAX]) {
    if (!connection->tls && !setting(TLS))
        return IO_OK;
    if (!connection->tls)
        connection->tls = tls_begin(address, what);
    if (!connection->tls)
        return IO_INSECURE;
    enum io_result result;
    do
        result = tls_handshake(connection->tls, connection->fd, what);
    while (result == IO_TIMEOUT && wait_for_input(connection, deadline));
    if (result == IO_TIMEOUT)
        snprintf(what, WHAT_MAX, "TLS: no answer to the handshake within connect_timeout_ms");
    return result;
}

const char *connection_problem(const struct connection *connection, enum io_result result) {
    return result == IO_CLOSED && connection->problem[0] ? connection->problem
                                                         : failures[failure_of(result)].text;
}

void connection_close(struct connection *connection) {
    if (!connection)
        return;
    tls_end(connection->tls, connection->fd);
    close(connection->fd);
    buffer_free(&connection->input);
    free(connection);
}

void connections_close(struct connections *list) {
    for (struct connection *connection; (connection = TAILQ_FIRST(list));) {
        TAILQ_REMOVE(list, connection, others);
        connection_close(connection);
    }
}

bool connection_has_input(const struct connection *connection) {
    return connection->start < connection->input.length;
}

void connection_shrink(struct connection *connection) {
    connection->start = 0;
    buffer_clear(&connection->input);
    if (connection->input.capacity > KEPT_INPUT)
        buffer_free(&connection->input);
}

/* Make room for more input. The buffer grows with what has arrived, not with what a header announces. */
static bool input_room(struct connection *connection) {
    struct buffer *input = &connection->input;
    if (!connection_has_input(connection))
        connection_shrink(connection);
    if (input->length == input->capacity && input->capacity && connection->start >= input->capacity / 2) {
        input->length -= connection->start;
        memmove(input->data, input->data + connection->start, input->length);
        connection->start = 0;
    }
    return buffer_reserve(input, input->capacity ? 1 : FIRST_INPUT);
}

/* Read without waiting. IO_TIMEOUT: nothing to read. */
static enum io_result read_some(struct connection *connection) {
    size_t got;
    if (!input_room(connection))
        return IO_MEMORY;
    struct buffer *input = &connection->input;
    char *at = input->data + input->length;
    size_t room = input->capacity - input->length;
    enum io_result result =
        connection->tls ? tls_read(connection->tls, connection->fd, at, room, &got, connection->problem)
                        : socket_receive(connection->fd, at, room, &got);
    if (result == IO_OK)
        input->length += got;
    /* After an error of TLS it is unknown, too, whether the server has processed what was sent. */
    return result == IO_INSECURE ? IO_CLOSED : result;
}

bool connection_idle(struct connection *connection) {
    /* Session tickets of TLS and the like carry no data. */
    return !connection_has_input(connection) && read_some(connection) == IO_TIMEOUT;
}

enum { PIECE = SUBMIT_PREFIX_MAX + 4096 };

/* What follows the sent bytes. A small job is one packet on the network, and one record of TLS; of a large
 * one only the first piece joins head and tail. */
static struct slice next_piece(struct slice head, struct slice tail, size_t sent, char piece[PIECE]) {
    if (sent >= head.length)
        return (struct slice){tail.data + (sent - head.length), tail.length - (sent - head.length)};
    struct slice rest = {head.data + sent, head.length - sent};
    if (rest.length >= PIECE || tail.length == 0)
        return rest;
    size_t more = tail.length < PIECE - rest.length ? tail.length : PIECE - rest.length;
    memcpy(piece, rest.data, rest.length);
    memcpy(piece + rest.length, tail.data, more);
    return (struct slice){piece, rest.length + more};
}

enum io_result connection_send(struct connection *connection, struct slice head, struct slice tail,
                               bool take_input, int64_t deadline) {
    char piece[PIECE];
    connection->sent = 0;
    for (;;) {
        struct slice next = next_piece(head, tail, connection->sent, piece);
        size_t taken = 0;
        /* Data that TLS has accepted counts as sent: the rest of its record goes out before anything else. */
        enum io_result result = connection->tls ? tls_write(connection->tls, connection->fd, next, &taken)
                                                : socket_send(connection->fd, next.data, next.length, &taken);
        connection->sent += taken;
        if (result == IO_OK && connection->sent == head.length + tail.length)
            return IO_OK;
        if (result == IO_OK)
            continue;
        if (result != IO_TIMEOUT)
            return IO_CLOSED;
        short ready = socket_wait(connection->fd, take_input ? POLLIN | POLLOUT : POLLOUT, deadline);
        if (!ready || clock_ns() >= deadline)
            return IO_TIMEOUT;
        if (take_input && (ready & POLLIN)) {
            result = read_some(connection);
            if (result != IO_OK && result != IO_TIMEOUT)
                return result;
        }
    }
}

enum io_result connection_receive(struct connection *connection, struct packet *packet, int64_t deadline) {
    for (bool more = false;;) {
        struct slice unread = {connection->input.data, connection->input.length - connection->start};
        if (unread.length)
            unread.data += connection->start;
        enum io_result result = packet_parse(unread, packet);
        if (result == IO_OK)
            connection->start += packet->total; /* its bytes stay in place until the next read */
        if (result != IO_TIMEOUT)
            return result;
        if (more && clock_ns() >= deadline)
            return IO_TIMEOUT;
        /* Before waiting for the socket, which does not see what TLS has already received. */
        result = read_some(connection);
        more |= result == IO_OK;
        if (result == IO_TIMEOUT && !wait_for_input(connection, deadline))
            return IO_TIMEOUT;
        if (result != IO_OK && result != IO_TIMEOUT)
            return result;
    }
}
