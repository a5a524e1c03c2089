/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gman.h"

#include "tls.h"

bool gman_check_job(udf_args *args, char *message, const char *name) {
    struct request request = {.type = SUBMIT_JOB};
    if (args->arg_type[0] != STRING_RESULT)
        return udf_refuse(message, "%s: the first argument, the function, must be a string", name);
    if (udf_constant_text(args, 0, &request.function)) {
        const char *problem = request_problem(&request);
        if (problem)
            return udf_refuse(message, "%s: %s", name, problem);
    }
    for (unsigned int i = 1; i < args->arg_count; i++)
        udf_as_text(args, i);
    return false;
}

const char *gman_request(const udf_args *args, enum packet_type type, struct request *request) {
    *request = (struct request){.type = type,
                                .function = udf_argument(args, 0),
                                .workload = udf_argument(args, 1),
                                .unique = udf_argument(args, 2)};
    const char *problem = request->function.data ? request_problem(request) : "the function name is NULL";
    if (problem)
        atomic_fetch_add(&jobs_failed, 1);
    return problem;
}

/* The last DROP FUNCTION unloads the library: nothing may remain in the server. */
__attribute__((destructor)) static void unload(void) {
    servers_unload();
    tls_unload();
}
