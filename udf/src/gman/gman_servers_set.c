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
#include <string.h>

#include "gman.h"

UDF_EXPORT udf_bool gman_servers_set_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT char *gman_servers_set(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                                  unsigned char *is_null, unsigned char *error);
UDF_EXPORT void gman_servers_set_deinit(udf_init *initid);

enum { TEXT_MAX = LIST_MAX * ADDRESS_MAX };

static const char *function_problem(struct slice function) {
    if (function.length > FUNCTION_MAX)
        return "the function name is longer than 255 bytes";
    if (function.length && memchr(function.data, 0, function.length))
        return "the function name holds a NUL";
    return NULL;
}

static int parse(struct slice list, struct address **addresses, char *message, size_t size) {
    int count = -1;
    *addresses = calloc(LIST_MAX, sizeof **addresses); /* too large for the stack of a server thread */
    if (*addresses)
        count = address_list_parse(list.data, list.length, *addresses, message, size);
    else
        snprintf(message, size, "gman_servers_set: out of memory");
    return count;
}

udf_bool gman_servers_set_init(udf_init *initid, udf_args *args, char *message) {
    struct slice text;
    if (args->arg_count < 1 || args->arg_count > 2)
        return udf_refuse(message, "gman_servers_set takes (servers[, function])");
    if (udf_constant_text(args, 0, &text)) {
        struct address *addresses;
        int count = parse(text, &addresses, message, UDF_MESSAGE_SIZE);
        free(addresses);
        if (count < 0)
            return 1;
    }
    if (udf_constant_text(args, 1, &text) && function_problem(text))
        return udf_refuse(message, "gman_servers_set: %s", function_problem(text));
    for (unsigned int i = 0; i < args->arg_count; i++)
        udf_as_text(args, i);
    initid->maybe_null = 1;
    initid->const_item = 0;
    initid->max_length = TEXT_MAX;
    udf_utf8_result(initid);
    if (!udf_buffer_new(initid, TEXT_MAX + 1))
        return udf_refuse(message, "gman_servers_set: out of memory");
    return 0;
}

char *gman_servers_set(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                       unsigned char *is_null, unsigned char *error) {
    struct buffer *text = (struct buffer *)(void *)initid->ptr;
    struct slice list = udf_argument(args, 0), function = udf_argument(args, 1);
    struct address *addresses = NULL;
    char name[FUNCTION_MAX + 1] = "", message[UDF_MESSAGE_SIZE];
    const char *problem = list.data ? function_problem(function) : "the server list is NULL";
    buffer_clear(text);
    if (!problem) {
        int count = parse(list, &addresses, message, sizeof message);
        if (function.length)
            memcpy(name, function.data, function.length);
        problem = count < 0 ? message : servers_set(name, addresses, (size_t)count, text);
    }
    free(addresses);
    if (problem) {
        char whole[UDF_MESSAGE_SIZE + 32];
        snprintf(whole, sizeof whole, "gman_servers_set: %s", problem);
        udf_raise(whole, error);
        return udf_null(is_null);
    }
    return udf_answer((struct slice){text->data, text->length}, result, length);
}

void gman_servers_set_deinit(udf_init *initid) { udf_buffer_free(initid); }
