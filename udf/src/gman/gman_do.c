/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_do      RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_high RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 * CREATE FUNCTION gman_do_low  RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 *
 * gman_do(function, workload[, unique])
 *   Runs a foreground job and waits for it. The others do the same with high and low priority.
 *   function  a string of 1 to 255 bytes
 *   workload  any value, as its text; NULL is an empty workload
 *   unique    jobs with the same key are merged; NULL or '' is no key; more than 63 bytes are hashed
 * Returns the data of WORK_COMPLETE, 16 MiB at most.
 * Errors: wrong arguments fail the statement. No server, a timeout, a failed job: NULL for this row, counted
 *   in gman_stats().
 * Cost: connect_timeout_ms + io_timeout_ms for the submission, job_timeout_ms for the result, at most.
 */
#include "gman.h"

static bool row(struct udf_call *call) {
    struct request request;
    struct job job;
    return !gman_request(call->args, (enum packet_type)call->function->kind, &request) &&
           job_submit(&request, &job) && job_wait(&job, &call->out);
}

/* Each row is a separate job, even when all arguments are constants. */
#define FOREGROUND(NAME, TYPE)                                                                             \
    UDF_TEXT(NAME, .usage = "(function, workload[, unique])", .fewest = 2, .most = 3, .limit = RESULT_MAX, \
             .each_row = true, .binary = true, .kind = TYPE, .begin = gman_begin_job, .row = row)

FOREGROUND(gman_do, SUBMIT_JOB)
FOREGROUND(gman_do_high, SUBMIT_JOB_HIGH)
FOREGROUND(gman_do_low, SUBMIT_JOB_LOW)
