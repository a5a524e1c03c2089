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

static udf_bool init(udf_init *initid, udf_args *args, char *message, const char *name) {
    if (gman_check_job(initid, args, message, name, 3))
        return 1;
    initid->max_length = UDF_MAX_LENGTH;
    if (!udf_buffer_new(initid, RESULT_MAX))
        return udf_refuse(message, "%s: out of memory", name);
    return 0;
}

static char *row(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                 unsigned char *is_null, const char *name, enum packet_type type) {
    struct buffer *buffer = (struct buffer *)(void *)initid->ptr;
    struct request request;
    struct job_error error;
    struct job job;
    buffer_clear(buffer);
    if (!gman_request(args, type, name, &request, &error) || !job_submit(&request, &job, &error) ||
        !job_wait(&job, buffer, &error))
        return udf_null(is_null);
    return udf_answer((struct slice){buffer->data, buffer->length}, result, length);
}

#define FOREGROUND(NAME, TYPE)                                                                   \
    UDF_EXPORT udf_bool NAME##_init(udf_init *initid, udf_args *args, char *message);            \
    UDF_EXPORT char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length, \
                          unsigned char *is_null, unsigned char *error);                         \
    UDF_EXPORT void NAME##_deinit(udf_init *initid);                                             \
    udf_bool NAME##_init(udf_init *initid, udf_args *args, char *message) {                      \
        return init(initid, args, message, #NAME);                                               \
    }                                                                                            \
    char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length,            \
               unsigned char *is_null, unsigned char *error UNUSED) {                            \
        return row(initid, args, result, length, is_null, #NAME, TYPE);                          \
    }                                                                                            \
    void NAME##_deinit(udf_init *initid) { udf_buffer_free(initid); }

FOREGROUND(gman_do, SUBMIT_JOB)
FOREGROUND(gman_do_high, SUBMIT_JOB_HIGH)
FOREGROUND(gman_do_low, SUBMIT_JOB_LOW)
