/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gman.h"

#include <string.h>

#include "tls.h"

const char *function_problem(struct slice function) {
    if (!function.data)
        return "the function name is NULL";
    if (function.length == 0)
        return "the function name is empty";
    if (function.length > FUNCTION_MAX)
        return "the function name is longer than 255 bytes";
    return memchr(function.data, 0, function.length) ? "the function name holds a NUL" : NULL;
}

bool gman_check_job(udf_args *args, char *message, const char *name) {
    struct slice function;
    if (args->arg_type[0] != STRING_RESULT)
        return udf_refuse(message, "%s: the first argument, the function, must be a string", name);
    if (udf_constant_text(args, 0, &function) && function_problem(function))
        return udf_refuse(message, "%s: %s", name, function_problem(function));
    for (unsigned int i = 1; i < args->arg_count; i++)
        udf_as_text(args, i);
    return false;
}

const char *gman_request(const udf_args *args, enum packet_type type, struct request *request) {
    *request = (struct request){.type = type,
                                .function = udf_argument(args, 0),
                                .workload = udf_argument(args, 1),
                                .unique = udf_argument(args, 2)};
    const char *problem = request->workload.length > UINT32_MAX - SUBMIT_PREFIX_MAX
                              ? "the workload is longer than 4 GiB"
                              : function_problem(request->function);
    if (problem)
        atomic_fetch_add(&jobs_failed, 1);
    return problem;
}

/* The last DROP FUNCTION unloads the library: nothing may remain in the server. */
__attribute__((destructor)) static void unload(void) {
    servers_unload();
    tls_unload();
}
