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
#include "json.h"
#include "shared/text.h"

static bool begin(struct udf_call *call, char *message) {
    udf_args *args = call->args;
    if (args->arg_count % 2)
        return udf_refuse(message, "%s takes (name, value, ...): the last value is missing",
                          call->function->name);
    if (json_begin(call, message))
        return true;
    for (unsigned int i = 0; i < args->arg_count; i += 2)
        udf_as_text(args, i);
    return false;
}

static bool row(struct udf_call *call) {
    struct buffer *out = &call->out;
    json_row(call);
    for (unsigned int i = 0; i < call->args->arg_count; i += 2) {
        struct slice name = udf_argument(call->args, i);
        if (!name.data)
            return udf_fail(call, "%s: the name in argument %u is NULL", call->function->name, i + 1);
        if (i)
            buffer_byte(out, ',');
        text_quote(out, name.data, name.length);
        buffer_byte(out, ':');
        json_value(call, i + 1);
    }
    return true;
}

JSON_FUNCTION(json_members, .begin = begin, .row = row)
