/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE AGGREGATE FUNCTION gman_sum RETURNS INTEGER SONAME 'libgearman_mysql_udf.so';
 *
 * gman_sum(function, workload)
 *   Submits a foreground job for each row of the group, without waiting, and adds up the results. The workers
 *   of the function run them in parallel. Arguments as with gman_do.
 * Returns the sum of the results, which must be numbers: integers are added exactly,
 *   others as doubles and rounded at the end. 0 for no rows.
 *   WITH ROLLUP sends a row's job once for each level.
 * Errors: wrong arguments fail the statement. A job that fails, a result that is not a number, a sum beyond
 *   64 bits, a lost connection, a timeout: NULL for this group, counted in gman_stats().
 * Cost: job_timeout_ms after the last row, at most; the submission of a row as with gman_do_background,
 *   without its wait.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gman.h"
#include "settings.h"
#include "shared/text.h"
#include "wait.h"

UDF_EXPORT bool gman_sum_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT void gman_sum_clear(udf_init *initid, unsigned char *is_null, unsigned char *error);
UDF_EXPORT void gman_sum_add(udf_init *initid, udf_args *args, unsigned char *is_null, unsigned char *error);
UDF_EXPORT long long gman_sum(udf_init *initid, udf_args *args, unsigned char *is_null, unsigned char *error);
UDF_EXPORT void gman_sum_deinit(udf_init *initid);

enum {
    IN_FLIGHT_MAX = 10000, /* jobs that wait for their results at a time: the rest follow as results arrive */
    TAKEN_PER_ROW = 1000, /* packets that one row reads at most, even in a flood */
};

/* With ROLLUP the server calls the functions for each level of groups with an initid of its own, all with the
 * ptr that _init has set: so each initid has a sum of its own. The first one owns the others. */
struct sum {
    struct sum *next;
    const udf_init *level; /* NULL: of the first one, before it is used */
    bool incomplete; /* of the first one: there was no memory for another */
    bool failed;
    struct job job; /* the group's connection, when it has one; its handle is that of the first job */
    size_t created, wanted, finished; /* JOB_CREATED packets, jobs, results */
    long long whole;
    double fraction;
};

/* NULL: out of memory. */
static struct sum *sum_of(const udf_init *initid) {
    struct sum *first = (struct sum *)(void *)initid->ptr, *sum = first;
    if (!first->level)
        first->level = initid;
    while (sum && sum->level != initid)
        sum = sum->next;
    if (sum)
        return sum;
    sum = calloc(1, sizeof *sum);
    if (sum) {
        sum->level = initid;
        sum->next = first->next;
        first->next = sum;
    }
    first->incomplete |= !sum;
    return sum;
}

static void give_up(struct sum *sum, enum failure_kind kind, const char *what) {
    struct failure failure;
    failure_set(&failure, kind, "gman_sum: %.100s", what);
    if (sum->job.connection) {
        server_failed(sum->job.server, NULL, failure.kind, failure.what);
        job_end(&sum->job, false);
    }
    atomic_fetch_add(&jobs_failed, 1);
    sum->failed = true;
}

static bool add_number(struct sum *sum, struct slice text) {
    char copy[64], *end;
    text = text_trim(text);
    if (text.length == 0 || text.length >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = 0;
    if (strspn(copy, "0123456789+-.eE") !=
        text.length) /* neither hexadecimal numbers nor names such as inf */
        return false;
    errno = 0;
    long long number = strtoll(copy, &end, 10);
    if (*end == 0 && end != copy)
        return errno == 0 && !__builtin_add_overflow(sum->whole, number, &sum->whole);
    double real = strtod(copy, &end);
    if (*end != 0 || end == copy || !isfinite(real))
        return false;
    sum->fraction += real;
    return true;
}

/* Process one packet. IO_TIMEOUT: none is complete. */
static enum io_result take_packet(struct sum *sum, int64_t deadline) {
    struct packet packet;
    struct slice parts[2];
    enum io_result result = connection_receive(sum->job.connection, &packet, deadline);
    if (result == IO_TIMEOUT)
        return result;
    if (result != IO_OK) {
        give_up(sum, failure_of(result), connection_problem(sum->job.connection, result));
        return result;
    }
    switch (packet.type) {
    case JOB_CREATED: sum->created++; return IO_OK;
    case WORK_COMPLETE:
        if (packet_split(&packet, parts, 2) && add_number(sum, parts[1])) {
            sum->finished++;
            return IO_OK;
        }
        give_up(sum, FAIL_JOB, "a result is not a number, or the sum is too large");
        return IO_CLOSED;
    case WORK_DATA:
    case WORK_WARNING:
    case WORK_STATUS: return IO_OK;
    case GEARMAN_ERROR: give_up(sum, FAIL_REJECTED, "the server refused a job"); return IO_CLOSED;
    default: give_up(sum, FAIL_JOB, failures[FAIL_JOB].text); return IO_CLOSED;
    }
}

/* Until at most left jobs are unfinished. The group fails at the deadline, whatever other packets arrive. */
static void wait_for_results(struct sum *sum, size_t left, int64_t deadline) {
    while (sum->job.connection && sum->wanted - sum->finished > left)
        if (clock_ns() >= deadline || take_packet(sum, deadline) == IO_TIMEOUT)
            give_up(sum, FAIL_JOB_TIMEOUT, failures[FAIL_JOB_TIMEOUT].text);
}

bool gman_sum_init(udf_init *initid, udf_args *args, char *message) {
    if (udf_count(args, 2, 2, message, "gman_sum", "(function, workload)") ||
        gman_check_job(args, message, "gman_sum"))
        return true;
    initid->maybe_null = 1;
    initid->const_item = 0;
    initid->decimals = 0;
    initid->max_length = 20;
    initid->ptr = calloc(1, sizeof(struct sum));
    if (!initid->ptr)
        return udf_refuse(message, "gman_sum: out of memory");
    return false;
}

void gman_sum_clear(udf_init *initid, unsigned char *is_null UNUSED, unsigned char *error UNUSED) {
    struct sum *sum = sum_of(initid);
    if (!sum)
        return;
    if (sum->job.connection)
        job_end(&sum->job, false);
    *sum = (struct sum){.next = sum->next, .level = sum->level, .incomplete = sum->incomplete};
}

void gman_sum_add(udf_init *initid, udf_args *args, unsigned char *is_null UNUSED,
                  unsigned char *error UNUSED) {
    struct sum *sum = sum_of(initid);
    struct request request;
    if (!sum || sum->failed)
        return;
    const char *problem = gman_request(args, SUBMIT_JOB, &request);
    if (problem) {
        give_up(sum, FAIL_JOB, problem);
        return;
    }
    if (!sum->job.connection) {
        /* The first row: the server that accepts it gets the whole group. */
        sum->failed = !job_submit(&request, &sum->job);
        sum->created = sum->wanted = 1;
        return;
    }
    wait_for_results(sum, IN_FLIGHT_MAX - 1, clock_ns() + setting_ns(JOB_TIMEOUT_MS));
    if (!sum->job.connection)
        return;
    char bytes[SUBMIT_PREFIX_MAX];
    struct slice head =
        packet_submit(bytes, SUBMIT_JOB, request.function, (struct slice){NULL, 0}, request.workload.length);
    int64_t deadline = clock_ns() + setting_ns(IO_TIMEOUT_MS) + workload_time(request.workload);
    if (connection_send(sum->job.connection, head, request.workload, true, deadline) != IO_OK) {
        give_up(sum, FAIL_TIMEOUT, "the server does not read what is sent to it");
        return;
    }
    atomic_fetch_add_explicit(&sum->job.server->counts[JOBS_SENT], 1, memory_order_relaxed);
    sum->wanted++;
    for (int i = 0; i < TAKEN_PER_ROW && sum->job.connection && take_packet(sum, 0) == IO_OK; i++) {
    }
}

long long gman_sum(udf_init *initid, udf_args *args UNUSED, unsigned char *is_null,
                   unsigned char *error UNUSED) {
    const struct sum *first = (struct sum *)(void *)initid->ptr;
    struct sum *sum = sum_of(initid);
    long long total = 0;
    *is_null = !sum || first->incomplete;
    if (*is_null)
        return total;
    wait_for_results(sum, 0, clock_ns() + setting_ns(JOB_TIMEOUT_MS));
    if (sum->job.connection)
        job_end(&sum->job, sum->created == sum->wanted);
    double rounded = round(sum->fraction);
    *is_null = sum->failed || fabs(rounded) >= 9e18 ||
               __builtin_add_overflow(sum->whole, (long long)rounded, &total);
    return total;
}

void gman_sum_deinit(udf_init *initid) {
    struct sum *sum = (struct sum *)(void *)initid->ptr;
    while (sum) {
        struct sum *next = sum->next;
        if (sum->job.connection)
            job_end(&sum->job, false);
        free(sum);
        sum = next;
    }
    initid->ptr = NULL;
}
