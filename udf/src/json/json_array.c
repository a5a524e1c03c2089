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
#include "json.h"

static bool row(struct udf_call *call) {
    json_row(call);
    buffer_byte(&call->out, '[');
    json_write_values(call);
    buffer_byte(&call->out, ']');
    return true;
}

JSON_FUNCTION(json_array, .begin = json_begin, .row = row)
