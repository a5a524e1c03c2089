/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "servers.h"
#include "settings.h"
#include "wait.h"

/* The pause between two checks of a probe that is under way. */
static const int64_t look_again = 5 * 1000000;

/* With the lock held. */
static struct connection *unlink_connection(struct server *server, struct connection *connection) {
    if (connection) {
        TAILQ_REMOVE(&server->kept, connection, others);
        server->idle--;
    }
    return connection;
}

/* The oldest idle connection when it has been idle for too long. With the lock held. */
static struct connection *expired(const struct server *server, int64_t now) {
    struct connection *oldest = TAILQ_LAST(&server->kept, connections);
    return oldest && now - oldest->idle_since > setting_ns(POOL_IDLE_MS) ? oldest : NULL;
}

static struct connection *take_kept(struct server *server) {
    for (;;) {
        pthread_mutex_lock(&registry_lock);
        struct connection *connection = unlink_connection(server, TAILQ_FIRST(&server->kept));
        pthread_mutex_unlock(&registry_lock);
        if (!connection)
            return NULL;
        /* Idle for too long: a firewall on the path may have dropped it silently. */
        if (connection_current(connection) &&
            clock_ns() - connection->idle_since < setting_ns(POOL_IDLE_MS) && connection_idle(connection)) {
            connection->kept = true;
            return connection;
        }
        atomic_fetch_add(&server->counts[STALE_CONNECTIONS], 1);
        server_lost(server);
        connection_close(connection);
    }
}

static struct connection *open_new(struct server *server, struct pass *pass, int64_t deadline) {
    struct dial dial = {.limit = deadline};
    struct failure failure;
    enum io_result result;
    bool cut = deadline - clock_ns() < setting_ns(CONNECT_TIMEOUT_MS);
    do
        result = dial_step(&dial, server, deadline, &failure);
    while (result == IO_TIMEOUT && !statement_killed());
    if (result == IO_OK) {
        server_connected(server);
        return dial_take(&dial);
    }
    dial_end(&dial);
    /* Earlier servers may have used up this one's time. */
    bool blameless = failure.kind == FAIL_MEMORY || (cut && clock_ns() >= deadline);
    server_failed(server, blameless ? NULL : pass, failure.kind, failure.what);
    return NULL;
}

/* What was to be a trial is none: the probe is not answered yet, or has failed, or the trial proved nothing
 * about the server, because of missing time or memory. Another one follows. */
static void no_trial(struct server *server, bool pending) {
    pthread_mutex_lock(&registry_lock);
    breaker_pause(&server->breaker, pending ? BREAKER_HALF_OPEN : BREAKER_OPEN,
                  clock_ns() + (pending ? look_again : setting_ns(BREAKER_RETRY_MS)));
    pthread_mutex_unlock(&registry_lock);
}

/* Begin or continue a probe, for a few milliseconds at most. */
static struct connection *probe(struct server *server, int64_t deadline) {
    struct failure failure;
    int64_t now = clock_ns(), wait = now + setting_ns(PROBE_WAIT_MS);
    if (wait > deadline)
        wait = deadline;
    server->probe.look_up = server->probe.echo = true;
    /* When an earlier call began the probe, it has waited: check only. */
    enum io_result result = dial_step(&server->probe, server, server->probing ? now : wait, &failure);
    struct connection *connection = result == IO_OK ? dial_take(&server->probe) : NULL;
    server->probing = result == IO_TIMEOUT;
    if (result == IO_CLOSED && failure.kind != FAIL_RESOLVE) /* the lookup has noted that one */
        server_failed(server, NULL, failure.kind, failure.what);
    if (connection)
        server_connected(server);
    else
        no_trial(server, result == IO_TIMEOUT);
    return connection;
}

struct connection *pool_take(struct server *server, int64_t deadline) {
    struct pass pass;
    struct connection *connection = NULL;
    pthread_mutex_lock(&registry_lock);
    bool may = breaker_ask(&server->breaker, clock_ns(), &pass);
    pthread_mutex_unlock(&registry_lock);
    if (!may)
        atomic_fetch_add(&server->counts[REFUSED], 1);
    else if (pass.trial)
        connection = probe(server, deadline);
    else if (!(connection = take_kept(server)))
        connection = open_new(server, &pass, deadline);
    if (connection) {
        connection->pass = pass;
        atomic_fetch_add(&server->busy, 1);
    }
    return connection;
}

/* A call gives its connection back. */
static void end_use(struct server *server, struct connection *connection) {
    if (connection->pass.trial)
        no_trial(server, false);
    connection->pass.trial = false;
    atomic_fetch_sub(&server->busy, 1);
}

void pool_drop(struct server *server, struct connection *connection) {
    end_use(server, connection);
    server_lost(server);
    connection_close(connection);
}

void pool_put(struct server *server, struct connection *connection) {
    struct connection *surplus = NULL;
    end_use(server, connection);
    connection->idle_since = clock_ns();
    connection->kept = true;
    if (!connection_has_input(connection))
        connection_shrink(connection);
    pthread_mutex_lock(&registry_lock);
    if (server->breaker.state != BREAKER_CLOSED || (int64_t)server->idle >= setting(POOL_MAX_IDLE)) {
        surplus = connection;
    } else {
        /* A burst of calls leaves more connections than are needed later: close the oldest when it has
         * expired. */
        surplus = unlink_connection(server, expired(server, connection->idle_since));
        TAILQ_INSERT_HEAD(&server->kept, connection, others);
        server->idle++;
    }
    pthread_mutex_unlock(&registry_lock);
    connection_close(surplus);
}

void pool_trim(void) {
    struct connections surplus = TAILQ_HEAD_INITIALIZER(surplus);
    int64_t now = clock_ns();
    pthread_mutex_lock(&registry_lock);
    for (const struct server_list *list = server_lists; list; list = list->next)
        for (size_t i = 0; i < list->count; i++) {
            struct server *server = list->servers[i];
            struct connection *connection;
            while ((connection = unlink_connection(server, expired(server, now))))
                TAILQ_INSERT_HEAD(&surplus, connection, others);
        }
    pthread_mutex_unlock(&registry_lock);
    connections_close(&surplus);
}
