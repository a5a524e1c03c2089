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

static udf_bool init(udf_init *initid, udf_args *args, char *message, const char *name) {
    if (gman_check_job(initid, args, message, name, 3))
        return 1;
    initid->max_length = HANDLE_MAX;
    udf_utf8_result(initid);
    return 0;
}

static char *row(udf_args *args, char *result, unsigned long *length, unsigned char *is_null,
                 unsigned char *error, const char *name, enum packet_type type) {
    struct request request;
    struct job_error why;
    struct job job;
    if (gman_request(args, type, name, &request, &why) && job_submit(&request, &job, &why)) {
        char *answer = udf_answer((struct slice){job.handle, job.handle_length}, result, length);
        job_done(&job);
        return answer;
    }
    if (setting(BACKGROUND_ERRORS))
        udf_raise(why.text, error);
    return udf_null(is_null);
}

#define BACKGROUND(NAME, TYPE)                                                                   \
    UDF_EXPORT udf_bool NAME##_init(udf_init *initid, udf_args *args, char *message);            \
    UDF_EXPORT char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length, \
                          unsigned char *is_null, unsigned char *error);                         \
    UDF_EXPORT void NAME##_deinit(udf_init *initid);                                             \
    udf_bool NAME##_init(udf_init *initid, udf_args *args, char *message) {                      \
        return init(initid, args, message, #NAME);                                               \
    }                                                                                            \
    char *NAME(udf_init *initid UNUSED, udf_args *args, char *result, unsigned long *length,     \
               unsigned char *is_null, unsigned char *error) {                                   \
        return row(args, result, length, is_null, error, #NAME, TYPE);                           \
    }                                                                                            \
    void NAME##_deinit(udf_init *initid UNUSED) {}

BACKGROUND(gman_do_background, SUBMIT_JOB_BG)
BACKGROUND(gman_do_high_background, SUBMIT_JOB_HIGH_BG)
BACKGROUND(gman_do_low_background, SUBMIT_JOB_LOW_BG)
