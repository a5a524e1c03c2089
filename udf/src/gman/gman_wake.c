/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_wake RETURNS INTEGER SONAME 'libgearman_mysql_udf.so';
 *
 * gman_wake(function, unique)
 *   Wakes the workers of a function up with a background job without a workload, and waits for nothing. The
 *   job may be lost: workers must also check for work on a timer.
 *   function  a string of 1 to 255 bytes
 *   unique    any value, as its text; NULL is ''. One wake-up per function and unique goes out in
 *             wake_interval_ms.
 * Returns 1 when a packet went out, 0 when it was skipped (one was sent just now) or dropped (no server could
 *   take it at once). NULL when the function is NULL or invalid.
 * Errors: wrong arguments fail the statement; nothing else does.
 * Cost: never waits. Less than a microsecond when skipped; a few system calls when sent or dropped.
 */
#include <string.h>

#include "gman.h"
#include "settings.h"
#include "wait.h"

UDF_EXPORT bool gman_wake_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT long long gman_wake(udf_init *initid, udf_args *args, unsigned char *is_null,
                               unsigned char *error);
UDF_EXPORT void gman_wake_deinit(udf_init *initid);

enum {
    SETS = 128,
    WAYS = 8, /* wake-ups that are distinguished within one interval */
    DRAIN_PACKETS = 64,
    DRAIN_BYTES = 128 * 1024, /* bytes of answers that one call reads */
};

/* When a wake-up was last sent, by the hash of its function and unique. */
static struct sending {
    uint64_t hash;
    int64_t sent; /* 0: none yet */
} recent[SETS][WAYS];

/* Guards recent. Held for nanoseconds. */
static pthread_mutex_t recent_lock = PTHREAD_MUTEX_INITIALIZER;
/* Guards the wake lines of all servers. Never waited for: a thread that cannot lock it drops the wake-up. */
static pthread_mutex_t line_lock = PTHREAD_MUTEX_INITIALIZER;

atomic_ullong wake_counts[WAKE_RESULTS];

static uint64_t hash_bytes(uint64_t hash, const char *data, size_t length) {
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3; /* FNV-1a */
    return hash;
}

/* Whether no such wake-up was sent in this interval. claim: count this one as sent from now on. */
static bool due(struct slice function, struct slice unique, bool claim) {
    uint64_t hash = hash_bytes(0xcbf29ce484222325, function.data, function.length);
    hash = hash_bytes(hash_bytes(hash, "", 1), unique.data, unique.length);
    /* Hashes of texts with different last characters (shard-1, shard-2) differ in few bits: spread them. */
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
    hash ^= hash >> 33;
    int64_t now = clock_ns();
    struct sending *set = recent[(size_t)(hash >> 32) % SETS], *slot = set; /* its own, or else the oldest */
    pthread_mutex_lock(&recent_lock);
    for (size_t way = 0; way < WAYS; way++) {
        if (set[way].hash == hash) {
            slot = &set[way];
            break;
        }
        if (set[way].sent < slot->sent)
            slot = &set[way];
    }
    /* A set full of recent wake-ups has no room for another, so it is not sent: the rate limit holds. */
    bool result = slot->sent == 0 || now - slot->sent >= setting_ns(WAKE_INTERVAL_MS);
    if (result && claim)
        *slot = (struct sending){hash, now};
    pthread_mutex_unlock(&recent_lock);
    return result;
}

/* Close the connection and try again later. kind: FAILURE_KINDS when it is not a failure, or already counted. */
static void hang_up(struct server *server, int64_t now, enum failure_kind kind, const char *what) {
    struct wake_line *line = &server->wake;
    struct failure failure;
    failure_set(&failure, kind, "gman_wake: %.100s", what);
    if (kind != FAILURE_KINDS)
        server_failed(server, NULL, kind, failure.what);
    dial_end(&line->dial);
    line->lost = true;
    line->unanswered_since = 0;
    line->not_before = now + setting_ns(BREAKER_RETRY_MS);
}

/* The answers are ignored, but must not fill the server's buffers. A few at a time, so that a flood does not
 * delay the caller. */
static enum io_result drain(struct wake_line *line) {
    struct packet packet;
    size_t bytes = 0;
    for (int i = 0; i < DRAIN_PACKETS && bytes < DRAIN_BYTES; i++) {
        enum io_result result = connection_receive(line->dial.connection, &packet, 0);
        if (result != IO_OK)
            return result == IO_TIMEOUT ? IO_OK : result;
        if (packet.type != JOB_CREATED && packet.type != GEARMAN_ERROR)
            return IO_GARBAGE;
        bytes += packet.total;
        line->unanswered_since = 0;
        line->lost = false;
    }
    return IO_OK;
}

/* Read answers, and close the connection when it is not usable any more. */
static void look_after(struct server *server, int64_t now) {
    struct wake_line *line = &server->wake;
    bool current = connection_current(line->dial.connection);
    enum io_result result = current ? drain(line) : IO_CLOSED;
    if (result == IO_OK && line->unanswered_since && now - line->unanswered_since > setting_ns(IO_TIMEOUT_MS))
        result = IO_TIMEOUT;
    if (result == IO_OK)
        return;
    /* Closed after a while, for example by a restart of the server, or made with another configuration of
     * TLS: try again at once. */
    bool again = !current || (result == IO_CLOSED && now - line->began > setting_ns(BREAKER_RETRY_MS));
    hang_up(server, now, again ? FAILURE_KINDS : failure_of(result),
            connection_problem(line->dial.connection, result));
    if (again)
        line->not_before = 0;
    line->lost = current;
}

/* Get a writable connection without waiting. */
static bool ready(struct server *server, int64_t now) {
    struct wake_line *line = &server->wake;
    struct failure failure;
    if (line->dial.stage == DIAL_READY)
        look_after(server, now);
    if (now < line->not_before)
        return false;
    if (line->dial.stage == DIAL_RESOLVE) {
        line->dial.look_up = line->lost;
        line->began = now;
    }
    enum io_result result = dial_step(&line->dial, server, 0, &failure);
    if (result == IO_CLOSED) /* the lookup has noted when the name has no address */
        hang_up(server, now, failure.kind == FAIL_RESOLVE ? FAILURE_KINDS : failure.kind, failure.what);
    return result == IO_OK;
}

/* False: the server cannot take it now. */
static bool hand_over(struct server *server, struct slice packet, int64_t now) {
    struct wake_line *line = &server->wake;
    if (!ready(server, now))
        return false;
    enum io_result result = connection_send(line->dial.connection, packet, (struct slice){"", 0}, false, 0);
    size_t sent = line->dial.connection->sent;
    if (result == IO_CLOSED || (sent > 0 && sent < packet.length)) {
        /* Nobody knows when a later call could send the rest of a packet. */
        hang_up(server, now, failure_of(result),
                result == IO_CLOSED ? failures[FAIL_CLOSED].text : "does not read what is sent to it");
        return false;
    }
    if (sent == packet.length && !line->unanswered_since)
        line->unanswered_since = now;
    return sent == packet.length;
}

/* With the lock of the lines held. */
static bool send_to_one(struct slice function, struct slice unique) {
    struct server *servers[LIST_MAX];
    char bytes[SUBMIT_PREFIX_MAX], key[UNIQUE_MAX + 1];
    struct slice packet = packet_submit(bytes, SUBMIT_JOB_BG, function, unique_key(unique, key), 0);
    size_t count = servers_take(function, servers);
    int64_t now = clock_ns();
    bool sent = false;
    for (size_t i = 0; i < count && !sent; i++) {
        sent = hand_over(servers[i], packet, now);
        atomic_fetch_add_explicit(sent ? &servers[i]->counts[WAKES_SENT] : &servers[i]->counts[WAKES_DROPPED],
                                  1, memory_order_relaxed);
    }
    servers_release(servers, count);
    return sent;
}

static enum wake_result wake_send(struct slice function, struct slice unique) {
    enum wake_result result = WAKE_SKIPPED;
    if (due(function, unique, false)) {
        result = WAKE_DROPPED;
        /* While another thread sends, this wake-up is dropped and not counted as sent: the next call sends.
         */
        if (pthread_mutex_trylock(&line_lock) == 0) {
            if (!due(function, unique, true))
                result = WAKE_SKIPPED;
            else if (send_to_one(function, unique))
                result = WAKE_SENT;
            pthread_mutex_unlock(&line_lock);
        }
    }
    atomic_fetch_add_explicit(&wake_counts[result], 1, memory_order_relaxed);
    return result;
}

bool gman_wake_init(udf_init *initid, udf_args *args, char *message) {
    initid->maybe_null = 1;
    initid->const_item = 0;
    return udf_count(args, 2, 2, message, "gman_wake", "(function, unique)") ||
           gman_check_job(args, message, "gman_wake");
}

long long gman_wake(udf_init *initid UNUSED, udf_args *args, unsigned char *is_null,
                    unsigned char *error UNUSED) {
    struct slice function = udf_argument(args, 0);
    *is_null = function_problem(function) != NULL;
    return !*is_null && wake_send(function, udf_argument(args, 1)) == WAKE_SENT;
}

void gman_wake_deinit(udf_init *initid UNUSED) {}
