/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_servers_set RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 *
 * gman_servers_set(servers[, function])
 *   Sets the job servers, in the order in which they are tried, for one function or (without, or with NULL or
 *   '') for all functions that have no list of their own. It applies to the whole server until it stops. Use
 *   init_file to set it at each start.
 *   servers   host, host:port, [IPv6]:port, separated by commas; 32 at most; '' removes the list. There are
 *             64 lists at most
 *   function  a string of at most 255 bytes
 * Returns the list as stored: with ports, in lower case.
 * Errors: an invalid entry fails the statement with a message that names it; so does a change of locked
 *   lists. The old list stays.
 * Cost: looks host names up, for five seconds at most; connects to nothing.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gman.h"

enum { TEXT_MAX = LIST_MAX * ADDRESS_MAX };

static int parse(struct slice list, struct address **addresses, char *message, size_t size) {
    int count = -1;
    *addresses = calloc(LIST_MAX, sizeof **addresses); /* too large for the stack of a server thread */
    if (*addresses)
        count = address_list_parse(list, *addresses, message, size);
    else
        snprintf(message, size, "gman_servers_set: out of memory");
    return count;
}

static bool begin(struct udf_call *call, char *message) {
    udf_args *args = call->args;
    struct slice text;
    if (udf_constant_text(args, 0, &text)) {
        struct address *addresses;
        int count = parse(text, &addresses, message, UDF_MESSAGE_SIZE);
        free(addresses);
        if (count < 0)
            return true;
    }
    if (udf_constant_text(args, 1, &text) && text.length && function_problem(text))
        return udf_refuse(message, "gman_servers_set: %s", function_problem(text));
    for (unsigned int i = 0; i < args->arg_count; i++)
        udf_as_text(args, i);
    return false;
}

static bool row(struct udf_call *call) {
    struct slice list = udf_argument(call->args, 0), function = udf_argument(call->args, 1);
    struct address *addresses = NULL;
    char message[UDF_MESSAGE_SIZE];
    const char *problem = !list.data        ? "the server list is NULL"
                          : function.length ? function_problem(function)
                                            : NULL;
    if (!problem) {
        int count = parse(list, &addresses, message, sizeof message);
        problem = count < 0 ? message : servers_set(function, addresses, (size_t)count, &call->out);
    }
    free(addresses);
    return problem ? udf_fail(call, "gman_servers_set: %s", problem) : true;
}

UDF_TEXT(gman_servers_set, .usage = "(servers[, function])", .fewest = 1, .most = 2, .limit = TEXT_MAX,
         .each_row = true, .begin = begin, .row = row)
