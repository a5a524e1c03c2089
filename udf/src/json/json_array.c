/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION json_array     RETURNS STRING SONAME 'lib_mysqludf_json.so';
 * CREATE FUNCTION udf_json_array RETURNS STRING SONAME 'lib_mysqludf_json.so';
 *
 * json_array(expression, …)
 *   The arguments as a JSON array.
 * Returns the array; [] without arguments.
 * Errors: none.
 */
#include "json_values.h"

static udf_bool init(udf_init *initid, udf_args *args, char *message, const char *function) {
    return json_begin(initid, args, message, function) == NULL;
}

static char *row(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                 unsigned char *is_null, unsigned char *error UNUSED, const char *function UNUSED) {
    struct json_state *state = JSON_STATE(initid);
    json_row(state, args);
    buffer_byte(&state->out, '[');
    json_write_values(state, args);
    buffer_byte(&state->out, ']');
    return json_answer(state, result, length, is_null);
}

JSON_FUNCTION(json_array)
JSON_FUNCTION(udf_json_array)
