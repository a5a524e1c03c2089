/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION json_object     RETURNS STRING SONAME 'lib_mysqludf_json.so';
 * CREATE FUNCTION udf_json_object RETURNS STRING SONAME 'lib_mysqludf_json.so';
 *
 * json_object(expression [AS alias], …)
 *   A JSON object with a member for each argument. Its name is the alias, or else the expression's text
 *   without qualifier and backticks: t.name, NEW.name and `name` are all "name". The members of
 *   json_members(…) become members of the object.
 * Returns the object.
 * Errors: an argument without a usable name (a function call or a quoted text without an alias) fails the
 *   statement.
 */
#include "json.h"
#include "shared/text.h"

static bool begin(struct udf_call *call, char *message) {
    return json_begin(call, message) || json_names(call, message);
}

/* False: the member is empty, so the next one needs no comma. */
static bool member(struct udf_call *call, unsigned int index, bool comma) {
    struct buffer *out = &call->out;
    const struct argument *argument = (struct argument *)call->data + index;
    struct slice value = udf_argument(call->args, index);
    bool splice = argument->kind == KIND_MEMBERS && value.data && json_is_members(value.data, value.length);
    if (splice && text_trim(value).length == 0)
        return false;
    if (comma)
        buffer_byte(out, ',');
    if (splice) {
        buffer_append(out, value.data, value.length);
        return true;
    }
    text_quote(out, argument->name.data, argument->name.length);
    buffer_byte(out, ':');
    json_value(call, index);
    return true;
}

static bool row(struct udf_call *call) {
    bool any = false;
    json_row(call);
    buffer_byte(&call->out, '{');
    for (unsigned int i = 0; i < call->args->arg_count; i++)
        any |= member(call, i, any);
    buffer_byte(&call->out, '}');
    return true;
}

JSON_FUNCTION(json_object, .begin = begin, .row = row)
