/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wake.h"

#include <pthread.h>
#include <string.h>

#include "servers.h"
#include "settings.h"

enum { SETS = 128, WAYS = 8 }; /* wake-ups of one interval that we can tell apart */

/* When a wake-up was last sent, by the hash of its function and unique. */
static struct {
    uint64_t hash;
    int64_t sent;
} recent[SETS][WAYS];

/* Guards recent. Held for nanoseconds. */
static pthread_mutex_t recent_lock = PTHREAD_MUTEX_INITIALIZER;
/* Guards the wake lines of all servers. Only tried, never waited for: who finds it taken drops the wake-up. */
static pthread_mutex_t line_lock = PTHREAD_MUTEX_INITIALIZER;

static atomic_ullong sent_count, skipped_count, dropped_count;

static uint64_t hash_bytes(uint64_t hash, const char *data, size_t length) {
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3; /* FNV-1a */
    return hash;
}

/* Claim the right to send: at most once per interval. */
static bool due(struct slice function, struct slice unique) {
    uint64_t hash = hash_bytes(0xcbf29ce484222325, function.data, function.length);
    hash = hash_bytes(hash_bytes(hash, "", 1), unique.data, unique.length);
    int64_t now = clock_ns(), interval = setting_ns(WAKE_INTERVAL_MS);
    int64_t oldest = INT64_MAX;
    size_t set = (size_t)(hash >> 32) % SETS, victim = 0;
    bool result = false, found = false;
    pthread_mutex_lock(&recent_lock);
    for (size_t way = 0; way < WAYS && !found; way++) {
        if (recent[set][way].sent < oldest) {
            oldest = recent[set][way].sent;
            victim = way;
        }
        if (recent[set][way].hash == hash && recent[set][way].sent) {
            victim = way;
            found = true;
        }
    }
    /* A full set of fresh wake-ups cannot remember one more, so that one is not sent: the bound holds. */
    if (recent[set][victim].sent == 0 || now - recent[set][victim].sent >= interval) {
        recent[set][victim].hash = hash;
        recent[set][victim].sent = now;
        result = true;
    }
    pthread_mutex_unlock(&recent_lock);
    return result;
}

static void hang_up(struct wake_line *line, int64_t now) {
    connection_close(line->connection);
    line->connection = NULL;
    line->connected = false;
    line->rest_length = 0;
    line->unanswered_since = 0;
    line->endpoint++;
    line->not_before = now + setting_ns(BREAKER_RETRY_MS);
}

/* The answers are of no interest, but must not fill the server's buffers. A few at a time, so that nobody is kept busy by a flood. */
static enum io_result drain(struct wake_line *line) {
    struct packet packet;
    enum io_result result = IO_OK;
    for (int i = 0; i < 64 && result == IO_OK; i++) {
        result = connection_receive(line->connection, &packet, 0);
        if (result != IO_OK)
            break;
        if (packet.type != JOB_CREATED && packet.type != GEARMAN_ERROR)
            return IO_GARBAGE;
        line->unanswered_since = 0;
    }
    return result == IO_TIMEOUT ? IO_OK : result;
}

/* Go on with the connect and with TLS. Why TLS cannot be had is kept with the server: a wake-up has no other way to tell. */
static enum io_result finish(struct server *server) {
    char what[WHAT_MAX];
    enum io_result result = socket_finish(server->wake.connection->fd, 0);
    if (result == IO_OK) {
        result = connection_secure(server->wake.connection, &server->address, 0, what);
        if (result == IO_INSECURE)
            server_noted(server, FAIL_TLS, what);
    }
    return result;
}

static bool begin(struct server *server, int64_t now) {
    struct wake_line *line = &server->wake;
    struct endpoint endpoint = {.length = 0};
    pthread_mutex_lock(&registry_lock);
    if (server->endpoint_count)
        endpoint = server->endpoints[line->endpoint % server->endpoint_count];
    pthread_mutex_unlock(&registry_lock);
    int fd = endpoint.length ? socket_begin(&endpoint) : -1;
    if (fd >= 0)
        line->connection = connection_wrap(fd);
    line->began = now;
    return line->connection != NULL;
}

/* Get to a connection that can be written to, without waiting for one. */
static bool ready(struct server *server, int64_t now) {
    struct wake_line *line = &server->wake;
    if (line->connection && !connection_current(line->connection)) {
        hang_up(line, now);
        line->not_before = 0;
    }
    if (line->connected) {
        enum io_result result = drain(line);
        if (result != IO_OK) {
            bool settled = now - line->began > setting_ns(BREAKER_RETRY_MS);
            hang_up(line, now);
            /* Closed after a while, as by a restart of the server: try again at once. */
            if (result == IO_CLOSED && settled)
                line->not_before = 0;
        } else if (line->unanswered_since && now - line->unanswered_since > setting_ns(IO_TIMEOUT_MS)) {
            hang_up(line, now);
        }
    }
    if (!line->connection && (now < line->not_before || !begin(server, now))) {
        if (now >= line->not_before)
            hang_up(line, now);
        return false;
    }
    if (!line->connected) {
        enum io_result result = finish(server);
        line->connected = result == IO_OK;
        if (result == IO_CLOSED || result == IO_INSECURE || (result == IO_TIMEOUT && now - line->began > setting_ns(CONNECT_TIMEOUT_MS)))
            hang_up(line, now);
    }
    return line->connected;
}

/* False: the server cannot take it now. */
static bool hand_over(struct server *server, struct slice packet, int64_t now) {
    struct wake_line *line = &server->wake;
    struct slice rest = {(const char *)line->rest, line->rest_length};
    size_t sent;
    if (!ready(server, now))
        return false;
    if (connection_send(line->connection, rest, packet, false, 0, &sent) == IO_CLOSED) {
        hang_up(line, now);
        return false;
    }
    if (sent < rest.length) {
        line->rest_length = rest.length - sent;
        memmove(line->rest, line->rest + sent, line->rest_length);
        return false;
    }
    if (sent == rest.length) {
        line->rest_length = 0;
        return false;
    }
    line->rest_length = rest.length + packet.length - sent;
    memcpy(line->rest, packet.data + packet.length - line->rest_length, line->rest_length);
    if (!line->unanswered_since)
        line->unanswered_since = now;
    return true;
}

enum wake_result wake_send(struct slice function, struct slice unique) {
    if (!due(function, unique)) {
        atomic_fetch_add_explicit(&skipped_count, 1, memory_order_relaxed);
        return WAKE_SKIPPED;
    }
    enum wake_result result = WAKE_DROPPED;
    if (pthread_mutex_trylock(&line_lock) == 0) {
        struct server *servers[LIST_MAX];
        unsigned char bytes[SUBMIT_PREFIX_MAX];
        char key[UNIQUE_MAX + 1];
        struct slice packet = {(const char *)bytes, packet_submit(bytes, SUBMIT_JOB_BG, function, unique_key(unique, key), 0)};
        size_t count = servers_take(function, servers);
        int64_t now = clock_ns();
        for (size_t i = 0; i < count && result == WAKE_DROPPED; i++) {
            if (hand_over(servers[i], packet, now)) {
                atomic_fetch_add_explicit(&servers[i]->wakes_sent, 1, memory_order_relaxed);
                result = WAKE_SENT;
            } else {
                atomic_fetch_add_explicit(&servers[i]->wakes_dropped, 1, memory_order_relaxed);
            }
        }
        servers_release(servers, count);
        pthread_mutex_unlock(&line_lock);
    }
    atomic_fetch_add_explicit(result == WAKE_SENT ? &sent_count : &dropped_count, 1, memory_order_relaxed);
    return result;
}

struct wake_counts wake_counts(void) {
    return (struct wake_counts){atomic_load(&sent_count), atomic_load(&skipped_count), atomic_load(&dropped_count)};
}

void wake_unload(void) { memset(recent, 0, sizeof recent); }
