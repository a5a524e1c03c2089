/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION json_members     RETURNS STRING SONAME 'lib_mysqludf_json.so';
 * CREATE FUNCTION udf_json_members RETURNS STRING SONAME 'lib_mysqludf_json.so';
 *
 * json_members(name, value, …)
 *   "name":value,… without braces, for nesting inside json_object. Names may be values of any type and any
 *   text.
 * Returns that text; '' without arguments.
 * Errors: an odd number of arguments, and a name that is NULL, fail the statement.
 */
#include "argument.h"
#include "shared/text.h"

#include <stdio.h>

static udf_bool init(udf_init *initid, udf_args *args, char *message, const char *function) {
    if (args->arg_count % 2)
        return udf_refuse(message, "%s takes (name, value, ...): the last value is missing", function);
    if (!json_begin(initid, args, message, function))
        return 1;
    for (unsigned int i = 0; i < args->arg_count; i += 2)
        udf_as_text(args, i);
    return 0;
}

static char *row(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                 unsigned char *is_null, unsigned char *error, const char *function) {
    struct json_state *state = JSON_STATE(initid);
    json_row(state, args);
    for (unsigned int i = 0; i < args->arg_count; i += 2) {
        struct slice name = udf_argument(args, i);
        if (!name.data) {
            char text[80];
            snprintf(text, sizeof text, "%s: the name in argument %u is NULL", function, i + 1);
            udf_raise(text, error);
            return udf_null(is_null);
        }
        if (i)
            buffer_byte(&state->out, ',');
        text_quote(&state->out, name.data, name.length);
        buffer_byte(&state->out, ':');
        json_value(state, args, i + 1);
    }
    return json_answer(state, result, length, is_null);
}

JSON_FUNCTION(json_members)
JSON_FUNCTION(udf_json_members)
