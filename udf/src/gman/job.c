/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "job.h"

#include <stdio.h>
#include <string.h>

#include "settings.h"
#include "wait.h"

atomic_ullong jobs_failed, jobs_without_server;

enum attempt {
    TAKEN,
    NOT_TAKEN,   /* the server certainly did not accept the job */
    UNKNOWN,     /* it may have accepted it */
};

static void explain(struct job *job, const struct server *server, const char *what) {
    snprintf(job->error, sizeof job->error, "%.100s: %.90s", server->address.text, what);
}

int64_t workload_time(struct slice workload) { return (int64_t)(workload.length / 16384) * 1000000; }

/* Close a connection on which a submission failed. blameless: the failure proves nothing about the server. */
static void failed(struct server *server, struct connection *connection, bool blameless,
                   enum failure_kind kind, const char *what, struct job *job) {
    explain(job, server, what);
    server_failed(server, blameless ? NULL : &connection->pass, kind, what);
    pool_drop(server, connection);
}

/* Evaluate the packet that follows a submission. cut: earlier servers have left this one less than
 * io_timeout_ms. */
static enum attempt take_answer(struct server *server, struct connection *connection, struct job *job,
                                int64_t deadline, bool cut) {
    struct packet packet;
    struct slice parts[2];
    char what[128];
    enum io_result result = connection_receive(connection, &packet, deadline);
    if (result == IO_OK && packet.type == JOB_CREATED && packet.body.length > 0 &&
        packet.body.length <= HANDLE_MAX) {
        memcpy(job->handle, packet.body.data, packet.body.length);
        job->handle_length = packet.body.length;
        job->handle[job->handle_length] = 0;
        job->server = server;
        job->connection = connection;
        server_works(server, &connection->pass);
        return TAKEN;
    }
    if (result == IO_OK && packet.type == GEARMAN_ERROR && packet_split(&packet, parts, 2)) {
        snprintf(what, sizeof what, "refused with %.*s: %.*s",
                 (int)(parts[0].length < 40 ? parts[0].length : 40), parts[0].data,
                 (int)(parts[1].length < 60 ? parts[1].length : 60), parts[1].data);
        server_works(server, &connection->pass);
        server_failed(server, NULL, FAIL_REJECTED, what);
        explain(job, server, what);
        pool_put(server, connection);
        return NOT_TAKEN;
    }
    if (result == IO_OK)
        result = IO_GARBAGE;
    /* A kept connection may be lost because the server was restarted; a new one is lost because of a fault. */
    bool blameless = result == IO_TIMEOUT  ? cut
                     : result == IO_CLOSED ? connection->kept
                                           : result == IO_MEMORY;
    /* A server that does not use the protocol on a new connection accepted no job. */
    enum attempt outcome = result == IO_GARBAGE && !connection->kept ? NOT_TAKEN : UNKNOWN;
    failed(server, connection, blameless, failure_of(result),
           result == IO_TIMEOUT && cut ? "no answer in the time that was left"
                                       : connection_problem(connection, result),
           job);
    return outcome;
}

static enum attempt attempt(struct server *server, struct slice head, const struct request *request,
                            int64_t deadline, struct job *job) {
    for (;;) {
        struct connection *connection = pool_take(server, deadline);
        if (!connection) {
            pthread_mutex_lock(&registry_lock);
            explain(job, server, server->last_error);
            pthread_mutex_unlock(&registry_lock);
            return NOT_TAKEN;
        }
        int64_t limit = clock_ns() + setting_ns(IO_TIMEOUT_MS);
        bool cut = limit > deadline;
        if (cut)
            limit = deadline;
        limit += workload_time(request->workload);
        enum io_result result = connection_send(connection, head, request->workload, false, limit);
        if (result == IO_OK) {
            atomic_fetch_add_explicit(&server->counts[JOBS_SENT], 1, memory_order_relaxed);
            return take_answer(server, connection, job, limit, cut);
        }
        /* A server processes complete packets only, so it does not accept a job that was sent in part. */
        if (result == IO_TIMEOUT) {
            failed(server, connection, cut, FAIL_TIMEOUT, "does not read what is sent to it", job);
            return NOT_TAKEN;
        }
        if (!connection->kept) {
            failed(server, connection, false, FAIL_CLOSED, failures[FAIL_CLOSED].text, job);
            return NOT_TAKEN;
        }
        /* The kept connection was dead, which proves nothing about a new one. */
        atomic_fetch_add(&server->counts[STALE_CONNECTIONS], 1);
        pool_drop(server, connection);
    }
}

bool job_submit(const struct request *request, struct job *job) {
    struct server *servers[LIST_MAX];
    char bytes[SUBMIT_PREFIX_MAX];
    char key[UNIQUE_MAX + 1];
    int64_t deadline = clock_ns() + setting_ns(CONNECT_TIMEOUT_MS) + setting_ns(IO_TIMEOUT_MS);

    size_t count = servers_take(request->function, servers);
    if (count == 0) {
        snprintf(job->error, sizeof job->error, "no job server is set: use gman_servers_set");
        atomic_fetch_add(&jobs_without_server, 1);
        atomic_fetch_add(&jobs_failed, 1);
        return false;
    }
    struct slice unique = unique_key(request->unique, key);
    struct slice head =
        packet_submit(bytes, request->type, request->function, unique, request->workload.length);

    enum attempt outcome = NOT_TAKEN;
    for (size_t i = 0; i < count && outcome != TAKEN; i++) {
        outcome = attempt(servers[i], head, request, deadline, job);
        if (outcome == TAKEN)
            servers[i] = servers[--count]; /* the job keeps the reference to its server */
        else if ((outcome == UNKNOWN && unique.length == 0) || clock_ns() >= deadline || statement_killed())
            break;
    }
    servers_release(servers, count);
    if (outcome != TAKEN)
        atomic_fetch_add(&jobs_failed, 1);
    return outcome == TAKEN;
}

/* The next packet of this job. The data that follows the handle is in *data. */
static enum io_result work_packet(const struct job *job, struct packet *packet, struct slice *data,
                                  int64_t deadline) {
    struct slice parts[2] = {{NULL, 0}, {"", 0}};
    enum io_result result = connection_receive(job->connection, packet, deadline);
    if (result != IO_OK)
        return result;
    /* gearmand ends the handle of a job that failed by an exception with a NUL, of others without. */
    if (!packet_split(packet, parts, 2)) {
        if (packet->type != WORK_FAIL)
            return IO_GARBAGE;
        parts[0] = packet->body;
    }
    if (parts[0].length != job->handle_length || memcmp(parts[0].data, job->handle, job->handle_length) != 0)
        return IO_GARBAGE;
    *data = parts[1];
    return IO_OK;
}

/* IO_OK: the connection is usable for the next job, and *kind is the result of this one (FAILURE_KINDS:
 * success). */
static enum io_result wait_for_result(const struct job *job, struct buffer *result, enum failure_kind *kind) {
    int64_t deadline = clock_ns() + setting_ns(JOB_TIMEOUT_MS);
    for (;;) {
        struct packet packet;
        struct slice data;
        /* Progress packets do not extend the deadline. */
        enum io_result got = clock_ns() < deadline ? work_packet(job, &packet, &data, deadline) : IO_TIMEOUT;
        if (got != IO_OK) {
            *kind = got == IO_TIMEOUT ? FAIL_JOB_TIMEOUT : failure_of(got);
            return got;
        }
        switch (packet.type) {
        case WORK_DATA:
        case WORK_WARNING:
        case WORK_STATUS: break;
        case WORK_COMPLETE:
            buffer_append(result, data.data, data.length);
            *kind = result->failed ? FAIL_MEMORY : FAILURE_KINDS;
            return IO_OK;
        case WORK_FAIL: *kind = FAIL_JOB; return IO_OK;
        case WORK_EXCEPTION: *kind = FAIL_JOB; return IO_CLOSED; /* a WORK_FAIL may follow */
        default: *kind = FAIL_PROTOCOL; return IO_GARBAGE;
        }
    }
}

bool job_wait(struct job *job, struct buffer *result) {
    enum failure_kind kind;
    bool usable = wait_for_result(job, result, &kind) == IO_OK;
    if (kind != FAILURE_KINDS) {
        atomic_fetch_add(&jobs_failed, 1);
        /* A job that fails or takes long proves nothing about the job server. */
        server_failed(job->server, NULL, kind, failures[kind].text);
    }
    job_end(job, usable);
    return kind == FAILURE_KINDS;
}

void job_end(struct job *job, bool usable) {
    (usable ? pool_put : pool_drop)(job->server, job->connection);
    servers_release(&job->server, 1);
    job->connection = NULL;
}
