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
#include "argument.h"
#include "check.h"
#include "shared/text.h"

static udf_bool init(udf_init *initid, udf_args *args, char *message, const char *function) {
    struct json_state *state = json_begin(initid, args, message, function);
    if (state && json_names(state, args, message, function))
        return 0;
    json_end(initid);
    return 1;
}

/* False: the member is empty, so the next one needs no comma. */
static bool member(struct json_state *state, const udf_args *args, unsigned int index, bool comma) {
    struct buffer *out = &state->out;
    const struct argument *argument = &state->arguments[index];
    struct slice value = udf_argument(args, index);
    bool splice = argument->kind == KIND_MEMBERS && value.data && json_is_members(value.data, value.length);
    if (splice && json_is_blank(value.data, value.length))
        return false;
    if (comma)
        buffer_byte(out, ',');
    if (splice) {
        buffer_append(out, value.data, value.length);
        return true;
    }
    text_quote(out, argument->name.data, argument->name.length);
    buffer_byte(out, ':');
    json_value(state, args, index);
    return true;
}

static char *row(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                 unsigned char *is_null, unsigned char *error UNUSED, const char *function UNUSED) {
    struct json_state *state = JSON_STATE(initid);
    bool any = false;
    json_row(state, args);
    buffer_byte(&state->out, '{');
    for (unsigned int i = 0; i < args->arg_count; i++)
        any |= member(state, args, i, any);
    buffer_byte(&state->out, '}');
    return json_answer(state, result, length, is_null);
}

JSON_FUNCTION(json_object)
JSON_FUNCTION(udf_json_object)
