/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_version RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 *
 * gman_version()
 * Returns the library's version.
 */
#include "gman.h"

UDF_EXPORT udf_bool gman_version_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT char *gman_version(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                              unsigned char *is_null, unsigned char *error);
UDF_EXPORT void gman_version_deinit(udf_init *initid);

udf_bool gman_version_init(udf_init *initid, udf_args *args, char *message) {
    if (args->arg_count)
        return udf_refuse(message, "gman_version takes no arguments");
    initid->maybe_null = 0;
    initid->max_length = sizeof GMAN_VERSION - 1;
    udf_utf8_result(initid);
    return 0;
}

char *gman_version(udf_init *initid UNUSED, udf_args *args UNUSED, char *result, unsigned long *length,
                   unsigned char *is_null UNUSED, unsigned char *error UNUSED) {
    return udf_answer((struct slice){GMAN_VERSION, sizeof GMAN_VERSION - 1}, result, length);
}

void gman_version_deinit(udf_init *initid UNUSED) {}
