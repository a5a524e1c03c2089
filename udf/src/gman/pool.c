/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "settings.h"
#include "wait.h"

/* The pause between two checks of a probe that is under way. */
static const int64_t look_again = 5 * 1000000;

static const char probe_text[] = "gearsync";

/* With the lock held. */
static struct connection *unlink_connection(struct server *server, struct connection *connection) {
    if (connection) {
        *(connection->newer ? &connection->newer->older : &server->newest) = connection->older;
        *(connection->older ? &connection->older->newer : &server->oldest) = connection->newer;
        connection->newer = connection->older = NULL;
        server->idle--;
    }
    return connection;
}

static struct connection *take_kept(struct server *server) {
    for (;;) {
        pthread_mutex_lock(&registry_lock);
        struct connection *connection = unlink_connection(server, server->newest);
        pthread_mutex_unlock(&registry_lock);
        if (!connection)
            return NULL;
        /* Idle for too long: a firewall on the path may have dropped it silently. */
        if (connection_current(connection) &&
            clock_ns() - connection->idle_since < setting_ns(POOL_IDLE_MS) && connection_idle(connection)) {
            connection->kept = true;
            return connection;
        }
        atomic_fetch_add(&server->stale, 1);
        server_lost(server);
        connection_close(connection);
    }
}

static void describe(char out[WHAT_MAX], const char *what, int error) {
    snprintf(out, WHAT_MAX, "%s: %s", what, strerror(error));
}

static struct connection *open_new(struct server *server, struct pass *pass, int64_t deadline) {
    struct endpoints endpoints;
    server_endpoints(server, &endpoints);
    int64_t limit = clock_ns() + setting_ns(CONNECT_TIMEOUT_MS);
    bool cut = deadline < limit;
    struct connection *connection = NULL;
    char what[WHAT_MAX];
    enum io_result result;
    do {
        connection_close(connection);
        result = connection_open(&endpoints, &server->address, cut ? deadline : limit, &connection, what);
    } while (result == IO_OK && !connection_current(connection)); /* TLS was reconfigured meanwhile */
    enum failure_kind kind = result == IO_INSECURE ? FAIL_TLS
                             : result == IO_MEMORY ? FAIL_MEMORY
                                                   : FAIL_CONNECT;
    if (result == IO_OK)
        server_connected(server);
    else if (statement_killed())
        server_noted(server, FAIL_KILLED, "the statement was killed");
    else if (result == IO_MEMORY || (cut && clock_ns() >= deadline))
        server_noted(server, kind, what); /* or earlier servers have used up this one's time */
    else
        server_failed(server, pass, kind, what);
    return connection;
}

/* Begin to connect to the next address. Without one, return the state of the lookup. */
static enum io_result probe_begin(struct server *server, int64_t deadline, enum failure_kind *kind,
                                  char what[WHAT_MAX]) {
    struct endpoints endpoints;
    enum lookup_result looked = server_lookup(server, deadline);
    /* The lookup continues beside the probe, so a known address is used while the name server is down. */
    server_endpoints(server, &endpoints);
    server->probe_addresses = endpoints.count;
    if (endpoints.count == 0) {
        *kind = FAIL_RESOLVE;
        snprintf(what, WHAT_MAX, "the host's name has no address");
        return looked == LOOKUP_WAIT ? IO_TIMEOUT : IO_CLOSED;
    }
    *kind = FAIL_CONNECT;
    int fd = socket_begin(&endpoints.list[server->probe_endpoint++ % endpoints.count]);
    if (fd >= 0)
        server->probe = connection_wrap(fd);
    if (!server->probe) {
        describe(what, "connect", errno);
        return IO_CLOSED;
    }
    server->probe_connected = false;
    server->probe_deadline = clock_ns() + setting_ns(CONNECT_TIMEOUT_MS);
    return IO_OK;
}

static enum io_result probe_connect(struct server *server, int64_t deadline, enum failure_kind *kind,
                                    char what[WHAT_MAX]) {
    int64_t now = clock_ns();
    *kind = FAIL_CONNECT;
    enum io_result result = socket_finish(server->probe->fd, deadline);
    if (result == IO_TIMEOUT && now < server->probe_deadline)
        return IO_TIMEOUT;
    describe(what, "connect", errno);
    if (result != IO_OK)
        return IO_CLOSED;
    *kind = FAIL_TLS;
    result = connection_secure(server->probe, &server->address, deadline, what);
    if (result == IO_TIMEOUT && now < server->probe_deadline)
        return IO_TIMEOUT;
    if (result != IO_OK)
        return IO_CLOSED;
    *kind = FAIL_CLOSED;
    unsigned char header[PACKET_HEADER];
    size_t sent;
    packet_header(header, ECHO_REQ, sizeof probe_text);
    result = connection_send(server->probe, (struct slice){(const char *)header, sizeof header},
                             (struct slice){probe_text, sizeof probe_text}, false, now, &sent);
    if (result != IO_OK) {
        snprintf(what, WHAT_MAX, "probe: closed by the server");
        return IO_CLOSED;
    }
    server->probe_connected = true;
    server->probe_deadline = clock_ns() + setting_ns(IO_TIMEOUT_MS);
    return IO_OK;
}

static enum io_result probe_answer(struct server *server, int64_t deadline, enum failure_kind *kind,
                                   char what[WHAT_MAX]) {
    int64_t now = clock_ns();
    struct packet packet;
    enum io_result result = connection_receive(server->probe, &packet, deadline);
    if (result == IO_OK && packet.type == ECHO_RES && packet.body.length == sizeof probe_text &&
        memcmp(packet.body.data, probe_text, sizeof probe_text) == 0 && connection_idle(server->probe))
        return IO_OK;
    if (result == IO_TIMEOUT && now < server->probe_deadline)
        return IO_TIMEOUT;
    *kind = result == IO_TIMEOUT ? FAIL_TIMEOUT : result == IO_CLOSED ? FAIL_CLOSED : FAIL_PROTOCOL;
    snprintf(what, WHAT_MAX, "probe: %s",
             result == IO_TIMEOUT  ? "no answer"
             : result == IO_CLOSED ? connection_ending(server->probe, "closed by the server")
                                   : "the answer is not Gearman's protocol");
    return IO_CLOSED;
}

/* Begin or continue a probe, for a few milliseconds at most. IO_OK: connected and answered. IO_TIMEOUT: under
 * way. */
static enum io_result probe_step(struct server *server, int64_t deadline, enum failure_kind *kind,
                                 char what[WHAT_MAX]) {
    int64_t now = clock_ns(), wait = now + setting_ns(PROBE_WAIT_MS);
    /* An earlier call began the probe and has waited: check only. */
    deadline = server->probing ? now : wait < deadline ? wait : deadline;
    if (!server->probing)
        server->probe_tries = 0;
    server->probing = true;
    for (;;) {
        if (server->probe &&
            !connection_current(server->probe)) { /* begun with another TLS configuration: must not be used */
            connection_close(server->probe);
            server->probe = NULL;
        }
        enum io_result result = server->probe ? IO_OK : probe_begin(server, deadline, kind, what);
        if (result == IO_OK && !server->probe_connected)
            result = probe_connect(server, deadline, kind, what);
        if (result == IO_OK)
            result = probe_answer(server, deadline, kind, what);
        if (result == IO_OK && !connection_current(server->probe))
            continue;
        if (result != IO_CLOSED)
            return result;
        /* A host is down when none of its addresses answers. */
        if (*kind == FAIL_RESOLVE || ++server->probe_tries >= server->probe_addresses)
            return IO_CLOSED;
        connection_close(server->probe);
        server->probe = NULL;
    }
}

static struct connection *probe(struct server *server, int64_t deadline) {
    enum failure_kind kind;
    char what[WHAT_MAX];
    enum io_result result = probe_step(server, deadline, &kind, what);
    struct connection *connection = NULL, *failed = NULL;
    pthread_mutex_lock(&registry_lock);
    if (result == IO_TIMEOUT) {
        breaker_pending(&server->breaker, clock_ns(), look_again);
    } else if (result == IO_OK) {
        connection = server->probe;
        breaker_trial(&server->breaker, &connection->pass);
    } else {
        failed = server->probe;
        snprintf(server->last_error, sizeof server->last_error, "%s", what);
        breaker_open(&server->breaker, clock_ns(), setting_ns(BREAKER_RETRY_MS));
    }
    if (result != IO_TIMEOUT) {
        server->probe = NULL;
        server->probing = false;
    }
    pthread_mutex_unlock(&registry_lock);
    connection_close(failed);
    if (result == IO_CLOSED && kind != FAIL_RESOLVE) /* the lookup has counted that one */
        atomic_fetch_add(&server->failures[kind], 1);
    if (connection)
        server_connected(server);
    return connection;
}

struct connection *pool_take(struct server *server, int64_t deadline) {
    struct pass pass;
    struct connection *connection = NULL;
    pthread_mutex_lock(&registry_lock);
    enum breaker_verdict verdict = breaker_ask(&server->breaker, clock_ns(), &pass);
    pthread_mutex_unlock(&registry_lock);
    switch (verdict) {
    case BREAKER_PROBE: connection = probe(server, deadline); break;
    case BREAKER_REFUSE: atomic_fetch_add(&server->refused, 1); break;
    case BREAKER_PASS:
        connection = take_kept(server);
        if (!connection)
            connection = open_new(server, &pass, deadline);
        if (connection)
            connection->pass = pass;
    }
    if (connection)
        atomic_fetch_add(&server->busy, 1);
    return connection;
}

/* A trial that proved nothing about the server, because of missing time or memory: another one follows. */
static void end_trial(struct server *server, struct connection *connection) {
    if (!connection->pass.trial)
        return;
    pthread_mutex_lock(&registry_lock);
    breaker_open(&server->breaker, clock_ns(), setting_ns(BREAKER_RETRY_MS));
    pthread_mutex_unlock(&registry_lock);
    connection->pass.trial = false;
}

void pool_drop(struct server *server, struct connection *connection) {
    end_trial(server, connection);
    server_lost(server);
    atomic_fetch_sub(&server->busy, 1);
    connection_close(connection);
}

void pool_put(struct server *server, struct connection *connection) {
    struct connection *surplus = NULL;
    end_trial(server, connection);
    atomic_fetch_sub(&server->busy, 1);
    connection->idle_since = clock_ns();
    connection->kept = true;
    if (connection->start == connection->end)
        connection_shrink(connection);
    pthread_mutex_lock(&registry_lock);
    if (server->breaker.state != BREAKER_CLOSED || (int64_t)server->idle >= setting(POOL_MAX_IDLE)) {
        surplus = connection;
    } else {
        /* A burst of calls leaves more connections than are needed later: close the oldest when it has
         * expired. */
        if (server->oldest && connection->idle_since - server->oldest->idle_since > setting_ns(POOL_IDLE_MS))
            surplus = unlink_connection(server, server->oldest);
        connection->newer = NULL;
        connection->older = server->newest;
        *(server->newest ? &server->newest->newer : &server->oldest) = connection;
        server->newest = connection;
        server->idle++;
    }
    pthread_mutex_unlock(&registry_lock);
    connection_close(surplus);
}

void pool_trim(void) {
    struct connection *surplus = NULL;
    int64_t now = clock_ns();
    pthread_mutex_lock(&registry_lock);
    for (const struct server_list *list = servers_lists(); list; list = list->next)
        for (size_t i = 0; i < list->count; i++) {
            struct server *server = list->servers[i];
            while (server->oldest && now - server->oldest->idle_since > setting_ns(POOL_IDLE_MS)) {
                struct connection *connection = unlink_connection(server, server->oldest);
                connection->older = surplus;
                surplus = connection;
            }
        }
    pthread_mutex_unlock(&registry_lock);
    while (surplus) {
        struct connection *next = surplus->older;
        connection_close(surplus);
        surplus = next;
    }
}
