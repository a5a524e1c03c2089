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
#include "gman.h"
#include "wake.h"

UDF_EXPORT bool gman_wake_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT long long gman_wake(udf_init *initid, udf_args *args, unsigned char *is_null,
                               unsigned char *error);
UDF_EXPORT void gman_wake_deinit(udf_init *initid);

bool gman_wake_init(udf_init *initid, udf_args *args, char *message) {
    initid->maybe_null = 1;
    initid->const_item = 0;
    return udf_count(args, 2, 2, message, "gman_wake", "(function, unique)") ||
           gman_check_job(args, message, "gman_wake");
}

long long gman_wake(udf_init *initid UNUSED, udf_args *args, unsigned char *is_null,
                    unsigned char *error UNUSED) {
    struct request request = {.function = udf_argument(args, 0), .unique = udf_argument(args, 1)};
    if (!request.function.data || request_problem(&request)) {
        *is_null = 1;
        return 0;
    }
    return wake_send(request.function, request.unique) == WAKE_SENT;
}

void gman_wake_deinit(udf_init *initid UNUSED) {}
