/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE /* SOCK_NONBLOCK */
#include "dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "servers.h"
#include "settings.h"
#include "tls.h"
#include "wait.h"

static const char echo_text[] = "gearsync";

/* What a stage continues with. */
struct step {
    struct dial *dial;
    struct server *server;
    int64_t wait; /* until this time at most */
    struct failure *failure;
};

/* IO_OK: the stage is complete. IO_TIMEOUT: not yet. */
typedef enum io_result stage_function(const struct step *step);

static enum io_result resolve(const struct step *step) {
    struct dial *dial = step->dial;
    enum io_result looked = IO_OK;
    server_endpoints(step->server, &dial->endpoints);
    if (dial->look_up || dial->endpoints.count == 0) {
        looked = server_lookup(step->server, step->wait);
        /* The lookup continues beside the dial, so a known address is used while the name server is down. */
        server_endpoints(step->server, &dial->endpoints);
    }
    failure_set(step->failure, FAIL_RESOLVE, "%s", failures[FAIL_RESOLVE].text);
    if (dial->endpoints.count == 0)
        return looked == IO_TIMEOUT ? IO_TIMEOUT : IO_CLOSED;
    dial->tried = 0;
    dial->deadline = clock_ns() + setting_ns(CONNECT_TIMEOUT_MS);
    if (dial->limit && dial->limit < dial->deadline)
        dial->deadline = dial->limit;
    return IO_OK;
}

static void set_option(int fd, int level, int name, int value) {
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

/* Begin to connect, without waiting: a socket, or -1 with errno. */
static int socket_begin(const struct endpoint *endpoint) {
    int fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    /* Detects that the other end of a kept connection has disappeared without closing it. */
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    if (connect(fd, (const struct sockaddr *)&endpoint->address, endpoint->length) == 0 ||
        errno == EINPROGRESS || errno == EINTR)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static enum io_result begin(const struct step *step) {
    struct dial *dial = step->dial;
    /* An address that does not answer must leave time for the others. */
    int64_t now = clock_ns(), left = dial->deadline > now ? dial->deadline - now : 0;
    dial->until = now + left / (int64_t)(dial->endpoints.count - dial->tried++);
    int fd = socket_begin(&dial->endpoints.list[dial->next++ % dial->endpoints.count]);
    dial->connection = fd < 0 ? NULL : connection_wrap(fd);
    if (dial->connection)
        return IO_OK;
    /* This process lacks descriptors or memory: no other address can help. */
    bool shortage = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    failure_set(step->failure, shortage ? FAIL_MEMORY : FAIL_CONNECT, "connect: %s", strerror(errno));
    return shortage ? IO_MEMORY : IO_CLOSED;
}

static enum io_result finish(const struct step *step) {
    struct dial *dial = step->dial;
    int fd = dial->connection->fd, error = 0;
    socklen_t length = sizeof error;
    bool ended = socket_wait(fd, POLLOUT, step->wait) != 0;
    if (!ended)
        error = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = EIO;
    failure_set(step->failure, FAIL_CONNECT, "connect: %s", strerror(error));
    return error == 0 ? IO_OK : ended ? IO_CLOSED : IO_TIMEOUT;
}

static enum io_result secure(const struct step *step) {
    step->failure->kind = FAIL_TLS;
    return connection_secure(step->dial->connection, &step->server->address, step->wait, step->failure->what);
}

static enum io_result ask(const struct step *step) {
    struct dial *dial = step->dial;
    char header[PACKET_HEADER];
    if (!dial->echo)
        return IO_OK;
    /* The time of the answer is not that of the other addresses. */
    dial->until = clock_ns() + setting_ns(IO_TIMEOUT_MS);
    dial->deadline += setting_ns(IO_TIMEOUT_MS);
    packet_header(header, ECHO_REQ, sizeof echo_text);
    failure_set(step->failure, FAIL_CLOSED, "probe: closed by the server");
    /* A new connection has room for it. */
    return connection_send(dial->connection, (struct slice){header, sizeof header},
                           (struct slice){echo_text, sizeof echo_text}, false, 0) == IO_OK
               ? IO_OK
               : IO_CLOSED;
}

static enum io_result answer(const struct step *step) {
    struct dial *dial = step->dial;
    struct packet packet;
    if (!dial->echo)
        return IO_OK;
    enum io_result result = connection_receive(dial->connection, &packet, step->wait);
    if (result == IO_OK &&
        (packet.type != ECHO_RES || packet.body.length != sizeof echo_text ||
         memcmp(packet.body.data, echo_text, sizeof echo_text) != 0 || !connection_idle(dial->connection)))
        result = IO_GARBAGE;
    if (result != IO_OK)
        failure_set(step->failure, failure_of(result), "probe: %.100s",
                    connection_problem(dial->connection, result));
    return result;
}

/* Begun with another TLS configuration: must not be used. Before the handshake no connection has TLS. */
static bool outdated(const struct dial *dial) {
    const struct connection *connection = dial->connection;
    return connection && (dial->stage > DIAL_SECURE ? !connection_current(connection)
                                                    : connection->generation != tls_generation());
}

static void back_to(struct dial *dial, enum dial_stage stage) {
    connection_close(dial->connection);
    dial->connection = NULL;
    dial->stage = stage;
}

enum io_result dial_step(struct dial *dial, struct server *server, int64_t wait, struct failure *failure) {
    static stage_function *const stages[DIAL_READY] = {resolve, begin, finish, secure, ask, answer};
    /* What gman_wake began may be complete long before it is called again: so a stage fails only when it has
     * had its time, and is not complete now. A lookup has no timeout. */
    bool late = dial->stage != DIAL_RESOLVE && clock_ns() >= dial->until;
    for (;;) {
        if (outdated(dial)) {
            back_to(dial, DIAL_RESOLVE);
            late = false;
        }
        if (dial->stage == DIAL_READY)
            return IO_OK;
        bool limited = dial->stage > DIAL_BEGIN && dial->until < wait;
        struct step step = {dial, server, limited ? dial->until : wait, failure};
        enum io_result result = stages[dial->stage](&step);
        if (result == IO_TIMEOUT && !late)
            return result;
        late = false;
        if (result == IO_OK) {
            dial->stage++;
            continue;
        }
        /* A host is down when none of its addresses answers. */
        if (dial->stage == DIAL_RESOLVE || result == IO_MEMORY || dial->tried == dial->endpoints.count) {
            dial_end(dial);
            return IO_CLOSED;
        }
        back_to(dial, DIAL_BEGIN);
    }
}

struct connection *dial_take(struct dial *dial) {
    struct connection *connection = dial->connection;
    *dial = (struct dial){.next = dial->next};
    return connection;
}

void dial_end(struct dial *dial) { connection_close(dial_take(dial)); }
