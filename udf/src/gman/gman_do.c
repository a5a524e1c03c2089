/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_do      RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_high RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_low  RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_background      RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_high_background RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_low_background  RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 *
 * gman_do(function, workload[, unique]), gman_do_background(function, workload[, unique])
 *   Runs a foreground job and waits for it; or submits a background job to the first job server that accepts
 *   it, and waits only for the job handle. The others do the same with high and low priority.
 *   function  a string of 1 to 255 bytes
 *   workload  any value, as its text; NULL is an empty workload
 *   unique    jobs with the same key are merged; NULL or '' is no key; more than 63 bytes are hashed
 * Returns the data of WORK_COMPLETE, 16 MiB at most; or the job handle.
 * Errors: wrong arguments fail the statement. No server, a timeout, a failed job: NULL for this row, counted
 *   in gman_stats(); an SQL error for background jobs with gman_configure('background_errors', 'error').
 * Cost: connect_timeout_ms + io_timeout_ms for the submission, job_timeout_ms for the result, at most; almost
 *   nothing while the circuit breaker of the server is open.
 */
#include <stdio.h>

#include "gman.h"
#include "settings.h"

static bool submit(struct udf_call *call, struct job *job) {
    struct request request;
    const char *problem = gman_request(call->args, (enum packet_type)call->function->kind, &request);
    if (problem)
        snprintf(job->error, sizeof job->error, "%s: %s", call->function->name, problem);
    return !problem && job_submit(&request, job);
}

static bool foreground(struct udf_call *call) {
    struct job job;
    return submit(call, &job) && job_wait(&job, &call->out);
}

static bool background(struct udf_call *call) {
    struct job job;
    if (!submit(call, &job))
        return setting(BACKGROUND_ERRORS) ? udf_fail(call, "%s", job.error) : false;
    buffer_append(&call->out, job.handle, job.handle_length);
    job_end(&job, true);
    return true;
}

static bool begin(struct udf_call *call, char *message) {
    return gman_check_job(call->args, message, call->function->name);
}

/* Each row is a separate job, even when all arguments are constants. */
#define DO(NAME, TYPE, ...)                                                                             \
    UDF_TEXT(NAME, .usage = "(function, workload[, unique])", .fewest = 2, .most = 3, .each_row = true, \
             .kind = TYPE, .begin = begin, __VA_ARGS__)
#define FOREGROUND .limit = RESULT_MAX, .binary = true, .row = foreground
#define BACKGROUND .limit = HANDLE_MAX, .row = background

DO(gman_do, SUBMIT_JOB, FOREGROUND)
DO(gman_do_high, SUBMIT_JOB_HIGH, FOREGROUND)
DO(gman_do_low, SUBMIT_JOB_LOW, FOREGROUND)
DO(gman_do_background, SUBMIT_JOB_BG, BACKGROUND)
DO(gman_do_high_background, SUBMIT_JOB_HIGH_BG, BACKGROUND)
DO(gman_do_low_background, SUBMIT_JOB_LOW_BG, BACKGROUND)
