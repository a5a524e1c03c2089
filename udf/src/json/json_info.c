/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION lib_mysqludf_json_info RETURNS STRING SONAME 'lib_mysqludf_json.so';
 *
 * lib_mysqludf_json_info()
 * Returns the library's name and version.
 */
#include "shared/udf.h"

#define INFO "lib_mysqludf_json version 1.0.0"

UDF_EXPORT udf_bool lib_mysqludf_json_info_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT char *lib_mysqludf_json_info(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                                        unsigned char *is_null, unsigned char *error);
UDF_EXPORT void lib_mysqludf_json_info_deinit(udf_init *initid);

udf_bool lib_mysqludf_json_info_init(udf_init *initid, udf_args *args, char *message) {
    if (args->arg_count)
        return udf_refuse(message, "lib_mysqludf_json_info takes no arguments");
    initid->maybe_null = 0;
    initid->max_length = sizeof INFO - 1;
    udf_utf8_result(initid);
    return 0;
}

char *lib_mysqludf_json_info(udf_init *initid UNUSED, udf_args *args UNUSED, char *result,
                             unsigned long *length, unsigned char *is_null UNUSED,
                             unsigned char *error UNUSED) {
    return udf_answer((struct slice){INFO, sizeof INFO - 1}, result, length);
}

void lib_mysqludf_json_info_deinit(udf_init *initid UNUSED) {}
