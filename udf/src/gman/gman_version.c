/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_version RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 *
 * gman_version()
 * Returns the library's version.
 */
#include "gman.h"

static bool row(struct udf_call *call) {
    buffer_text(&call->out, GMAN_VERSION);
    return true;
}

UDF_TEXT(gman_version, .usage = "no arguments", .limit = sizeof GMAN_VERSION - 1, .row = row)
