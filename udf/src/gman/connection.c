/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "connection.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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
    if (connection)
        connection->input = malloc(FIRST_INPUT);
    if (!connection || !connection->input) {
        free(connection);
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    connection->capacity = FIRST_INPUT;
    connection->fd = fd;
    connection->generation = tls_generation();
    return connection;
}

bool connection_current(const struct connection *connection) {
    return connection->generation == tls_generation() && (connection->tls || !setting(TLS));
}

/* Until there is input, or room for pending output. */
static bool wait_for_tls(const struct connection *connection, int64_t deadline) {
    return socket_wait(connection->fd, tls_has_output(connection->tls) ? POLLIN | POLLOUT : POLLIN, deadline);
}

enum io_result connection_secure(struct connection *connection, const struct address *address,
                                 int64_t deadline, char what[WHAT_MAX]) {
    if (!connection->tls && !setting(TLS))
        return IO_OK;
    if (!connection->tls)
        connection->tls = tls_begin(address, what);
    if (!connection->tls)
        return IO_INSECURE;
    for (;;) {
        switch (tls_handshake(connection->tls, connection->fd, what)) {
        case TLS_OK: return IO_OK;
        case TLS_WAIT:
            if (wait_for_tls(connection, deadline))
                break;
            snprintf(what, WHAT_MAX, "TLS: no answer to the handshake within connect_timeout_ms");
            return IO_TIMEOUT;
        default: return IO_INSECURE;
        }
    }
}

const char *connection_ending(const struct connection *connection, const char *otherwise) {
    const char *problem = connection->tls ? tls_problem(connection->tls) : "";
    return *problem ? problem : otherwise;
}

void connection_close(struct connection *connection) {
    if (!connection)
        return;
    tls_end(connection->tls, connection->fd);
    close(connection->fd);
    free(connection->input);
    free(connection);
}

void connection_shrink(struct connection *connection) {
    connection->start = connection->end = 0;
    unsigned char *smaller =
        connection->capacity > KEPT_INPUT ? realloc(connection->input, KEPT_INPUT) : NULL;
    if (smaller) {
        connection->input = smaller;
        connection->capacity = KEPT_INPUT;
    }
}

/* Make room for more input. The buffer grows with what has arrived, not with what a header announces. */
static bool input_room(struct connection *connection) {
    if (connection->start == connection->end)
        connection_shrink(connection);
    if (connection->end < connection->capacity)
        return true;
    if (connection->start >= connection->capacity / 2) {
        memmove(connection->input, connection->input + connection->start,
                connection->end - connection->start);
        connection->end -= connection->start;
        connection->start = 0;
        return true;
    }
    unsigned char *larger =
        connection->capacity < MOST_INPUT ? realloc(connection->input, connection->capacity * 2) : NULL;
    if (!larger)
        return false;
    connection->input = larger;
    connection->capacity *= 2;
    return true;
}

/* Read without waiting. IO_TIMEOUT: nothing to read. */
static enum io_result read_some(struct connection *connection) {
    if (!input_room(connection))
        return IO_MEMORY;
    if (connection->tls) {
        size_t got;
        switch (tls_read(connection->tls, connection->fd, connection->input + connection->end,
                         connection->capacity - connection->end, &got)) {
        case TLS_OK: connection->end += got; return IO_OK;
        case TLS_WAIT: return IO_TIMEOUT;
        /* Includes errors of TLS: whether the server has processed what was sent is unknown. */
        default: return IO_CLOSED;
        }
    }
    for (;;) {
        ssize_t got = recv(connection->fd, connection->input + connection->end,
                           connection->capacity - connection->end, MSG_DONTWAIT);
        if (got > 0) {
            connection->end += (size_t)got;
            return IO_OK;
        }
        if (got == 0)
            return IO_CLOSED;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return IO_TIMEOUT;
        if (errno != EINTR)
            return IO_CLOSED;
    }
}

bool connection_idle(struct connection *connection) {
    char byte;
    if (connection->start != connection->end)
        return false;
    if (connection->tls)
        return read_some(connection) == IO_TIMEOUT; /* session tickets and the like carry no data */
    ssize_t got;
    do
        got = recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* The same over TLS. Data that TLS has accepted counts as sent: the rest of its record goes out before
 * anything else. */
static enum io_result send_secure(struct connection *connection, struct slice head, struct slice tail,
                                  bool take_input, int64_t deadline, size_t *sent) {
    unsigned char chunk[SUBMIT_PREFIX_MAX + 4096];
    size_t total = head.length + tail.length;
    for (;;) {
        enum tls_result result = tls_flush(connection->tls, connection->fd);
        if (result == TLS_OK && *sent == total)
            return IO_OK;
        if (result == TLS_OK) {
            /* A small job is one record; of a large one only the first record joins head and tail. */
            struct slice next = {head.data + *sent, head.length - *sent};
            if (*sent >= head.length) {
                next = (struct slice){tail.data + (*sent - head.length), total - *sent};
            } else if (next.length < sizeof chunk) {
                size_t more =
                    sizeof chunk - next.length < tail.length ? sizeof chunk - next.length : tail.length;
                memcpy(chunk, next.data, next.length);
                if (more)
                    memcpy(chunk + next.length, tail.data, more);
                next = (struct slice){(const char *)chunk, next.length + more};
            }
            size_t taken;
            result = tls_write(connection->tls, next.data, next.length, &taken);
            *sent += taken;
        }
        if (result == TLS_CLOSED || result == TLS_BROKEN)
            return IO_CLOSED;
        if (result == TLS_OK)
            continue;
        short ready = socket_wait(connection->fd, take_input ? POLLIN | POLLOUT : POLLOUT, deadline);
        if (!ready || clock_ns() >= deadline)
            return IO_TIMEOUT;
        if (take_input && (ready & POLLIN)) {
            enum io_result got = read_some(connection);
            if (got != IO_OK && got != IO_TIMEOUT)
                return got;
        }
    }
}

enum io_result connection_send(struct connection *connection, struct slice head, struct slice tail,
                               bool take_input, int64_t deadline, size_t *sent) {
    *sent = 0;
    if (connection->tls)
        return send_secure(connection, head, tail, take_input, deadline, sent);
    size_t total = head.length + tail.length;
    while (*sent < total) {
        struct iovec parts[2];
        size_t count = 0;
        if (*sent < head.length)
            parts[count++] = (struct iovec){(void *)(uintptr_t)(head.data + *sent), head.length - *sent};
        size_t skipped = *sent > head.length ? *sent - head.length : 0;
        if (skipped < tail.length)
            parts[count++] = (struct iovec){(void *)(uintptr_t)(tail.data + skipped), tail.length - skipped};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
        ssize_t done = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done >= 0) {
            *sent += (size_t)done;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return IO_CLOSED;
        short ready = socket_wait(connection->fd, take_input ? POLLIN | POLLOUT : POLLOUT, deadline);
        if (!ready || clock_ns() >= deadline)
            return IO_TIMEOUT;
        if (take_input && (ready & POLLIN)) {
            enum io_result result = read_some(connection);
            if (result != IO_OK && result != IO_TIMEOUT)
                return result;
        }
    }
    return IO_OK;
}

enum io_result connection_receive(struct connection *connection, struct packet *packet, int64_t deadline) {
    for (bool more = false;; more = true) {
        if (connection->start < connection->end) {
            switch (packet_parse(connection->input + connection->start, connection->end - connection->start,
                                 packet)) {
            case PARSE_OK:
                /* The packet's bytes stay in place until the next read. */
                connection->start += packet->total;
                return IO_OK;
            case PARSE_BAD: return IO_GARBAGE;
            case PARSE_INCOMPLETE: break;
            }
        }
        if (more && clock_ns() >= deadline)
            return IO_TIMEOUT;
        /* Waiting for the socket does not see what TLS has already received. */
        enum io_result result = connection->tls ? read_some(connection) : IO_TIMEOUT;
        if (result == IO_TIMEOUT) {
            if (connection->tls ? !wait_for_tls(connection, deadline)
                                : !socket_wait(connection->fd, POLLIN, deadline))
                return IO_TIMEOUT;
            result = read_some(connection);
        }
        if (result != IO_OK && result != IO_TIMEOUT)
            return result;
    }
}
