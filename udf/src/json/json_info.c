/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION lib_mysqludf_json_info RETURNS STRING SONAME 'lib_mysqludf_json.so';
 *
 * lib_mysqludf_json_info()
 * Returns the library's name and version.
 */
#include "shared/udf.h"

#define INFO "lib_mysqludf_json version 1.0.0"

static bool row(struct udf_call *call) {
    buffer_text(&call->out, INFO);
    return true;
}

UDF_TEXT(lib_mysqludf_json_info, .usage = "no arguments", .limit = sizeof INFO - 1, .row = row)
