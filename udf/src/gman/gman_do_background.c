/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_do_background      RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_high_background RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_low_background  RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 *
 * gman_do_background(function, workload[, unique])
 *   Submits a background job to the first job server that accepts it, and waits only for the job handle.
 *   Arguments as with gman_do.
 * Returns the job handle.
 * Errors: wrong arguments fail the statement. A job that no server accepted: NULL for this row, counted in
 *   gman_stats(); with gman_configure('background_errors', 'error') an SQL error instead.
 * Cost: connect_timeout_ms + io_timeout_ms at most; almost nothing while the circuit breaker of the server is
 *   open.
 */
#include "gman.h"
#include "settings.h"

static bool row(struct udf_call *call) {
    struct request request;
    struct job job;
    const char *problem = gman_request(call->args, (enum packet_type)call->function->kind, &request);
    if (!problem && job_submit(&request, &job)) {
        buffer_append(&call->out, job.handle, job.handle_length);
        job_done(&job);
        return true;
    }
    if (!setting(BACKGROUND_ERRORS))
        return false;
    return problem ? udf_fail(call, "%s: %s", call->function->name, problem)
                   : udf_fail(call, "%s", job.error);
}

#define BACKGROUND(NAME, TYPE)                                                                             \
    UDF_TEXT(NAME, .usage = "(function, workload[, unique])", .fewest = 2, .most = 3, .limit = HANDLE_MAX, \
             .each_row = true, .kind = TYPE, .begin = gman_begin_job, .row = row)

BACKGROUND(gman_do_background, SUBMIT_JOB_BG)
BACKGROUND(gman_do_high_background, SUBMIT_JOB_HIGH_BG)
BACKGROUND(gman_do_low_background, SUBMIT_JOB_LOW_BG)
