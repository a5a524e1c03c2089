/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Only for the benchmark: a function that works in the manner of the libraries that ours replaces, with a libgearman client, and so
 * a TCP connection, for each call.
 *
 * CREATE FUNCTION shape_do_background RETURNS STRING SONAME 'upstream_shape.so';
 * shape_do_background(server port, function, workload)
 */
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../udf/src/shared/udf.h"

UDF_EXPORT bool shape_do_background_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT char *shape_do_background(udf_init *initid, udf_args *args, char *result, unsigned long *length, unsigned char *is_null, unsigned char *error);
UDF_EXPORT void shape_do_background_deinit(udf_init *initid);

bool shape_do_background_init(udf_init *initid, udf_args *args, char *message) {
    if (args->arg_count != 3 || args->arg_type[0] != INT_RESULT) {
        snprintf(message, UDF_MESSAGE_SIZE, "shape_do_background takes (port, function, workload)");
        return 1;
    }
    args->arg_type[1] = args->arg_type[2] = STRING_RESULT;
    initid->maybe_null = 1;
    initid->const_item = 0;
    initid->max_length = UDF_RESULT_SIZE;
    return 0;
}

char *shape_do_background(udf_init *initid UNUSED, udf_args *args, char *result, unsigned long *length, unsigned char *is_null, unsigned char *error UNUSED) {
    char function[256];
    gearman_job_handle_t handle;
    gearman_client_st *client = gearman_client_create(NULL);
    long long port;
    memcpy(&port, args->args[0], sizeof port);
    snprintf(function, sizeof function, "%.*s", (int)args->lengths[1], args->args[1]);
    if (client && gearman_client_add_server(client, "127.0.0.1", (in_port_t)port) == GEARMAN_SUCCESS &&
        gearman_client_do_background(client, function, NULL, args->args[2], args->lengths[2], handle) == GEARMAN_SUCCESS)
        *length = (unsigned long)snprintf(result, UDF_RESULT_SIZE, "%s", handle);
    else
        *is_null = 1;
    gearman_client_free(client);
    return result;
}

void shape_do_background_deinit(udf_init *initid UNUSED) {}
