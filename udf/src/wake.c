/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wake.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

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
    if (line->fd >= 0)
        close(line->fd);
    line->fd = -1;
    line->connected = false;
    line->rest_length = 0;
    line->unanswered_since = 0;
    line->endpoint++;
    line->not_before = now + setting_ns(BREAKER_RETRY_MS);
}

/* The answers are of no interest, but must not fill the server's buffers. False: the connection is gone. */
static bool drain(struct wake_line *line) {
    char answers[4096];
    for (int i = 0; i < 16; i++) {
        ssize_t got = recv(line->fd, answers, sizeof answers, MSG_DONTWAIT);
        if (got > 0)
            line->unanswered_since = 0;
        else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        else if (got == 0 || errno != EINTR)
            return false;
        if (got > 0 && (size_t)got < sizeof answers)
            return true;
    }
    return true;
}

/* A connection that can be written to, without waiting for one. */
static bool connected(struct server *server, int64_t now) {
    struct wake_line *line = &server->wake;
    if (line->fd < 0) {
        struct endpoint endpoint = {.length = 0};
        if (now < line->not_before)
            return false;
        pthread_mutex_lock(&registry_lock);
        if (server->endpoint_count)
            endpoint = server->endpoints[line->endpoint % server->endpoint_count];
        pthread_mutex_unlock(&registry_lock);
        if (endpoint.length)
            line->fd = socket_begin(&endpoint);
        if (line->fd < 0) {
            hang_up(line, now);
            return false;
        }
        line->began = now;
    }
    if (!line->connected) {
        enum io_result result = socket_finish(line->fd, 0);
        if (result == IO_OK)
            line->connected = true;
        else if (result != IO_TIMEOUT || now - line->began > setting_ns(CONNECT_TIMEOUT_MS))
            hang_up(line, now);
    } else if (!drain(line)) {
        /* Closed, as by a restart of the server: connect again at once, but only once. */
        hang_up(line, now);
        line->not_before = 0;
    }
    if (line->connected && line->unanswered_since && now - line->unanswered_since > setting_ns(IO_TIMEOUT_MS))
        hang_up(line, now);
    return line->connected;
}

/* False: the server cannot take it now. */
static bool hand_over(struct server *server, struct slice packet, int64_t now) {
    struct wake_line *line = &server->wake;
    if (!connected(server, now) && (line->fd >= 0 || line->not_before != 0 || !connected(server, now)))
        return false;
    if (line->rest_length) {
        ssize_t done = send(line->fd, line->rest, line->rest_length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done > 0) {
            line->rest_length -= (size_t)done;
            memmove(line->rest, line->rest + done, line->rest_length);
        }
        if (line->rest_length)
            return false;
    }
    ssize_t done = send(line->fd, packet.data, packet.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            hang_up(line, now);
        return false;
    }
    line->rest_length = packet.length - (size_t)done;
    memcpy(line->rest, packet.data + done, line->rest_length);
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
