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
#include "json.h"

static bool row(struct udf_call *call) {
    json_row(call);
    json_write_values(call);
    return true;
}

JSON_FUNCTION(json_values, .begin = json_begin, .row = row)
