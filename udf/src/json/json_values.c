/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION json_values     RETURNS STRING SONAME 'lib_mysqludf_json.so';
 * CREATE FUNCTION udf_json_values RETURNS STRING SONAME 'lib_mysqludf_json.so';
 *
 * json_values(expression, …)
 *   The arguments as JSON values with commas between them, without brackets.
 * Returns that text; '' without arguments.
 * Errors: none.
 */
#include "json_values.h"

void json_write_values(struct json_state *state, const udf_args *args) {
    for (unsigned int i = 0; i < args->arg_count; i++) {
        if (i)
            buffer_byte(&state->out, ',');
        json_value(state, args, i);
    }
}

static udf_bool init(udf_init *initid, udf_args *args, char *message, const char *function) {
    return json_begin(initid, args, message, function) == NULL;
}

static char *row(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                 unsigned char *is_null, unsigned char *error UNUSED, const char *function UNUSED) {
    struct json_state *state = JSON_STATE(initid);
    json_row(state, args);
    json_write_values(state, args);
    return json_answer(state, result, length, is_null);
}

JSON_FUNCTION(json_values)
JSON_FUNCTION(udf_json_values)
