/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_configure RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 *
 * gman_configure(name, value)
 *   Changes a setting for the whole server until it stops. Use init_file to set it at each start. name,
 *   value: see the table in README.md; the value 'default' sets the default. ('locked', 'on') is the last
 *   change: then only ('tls', 'on') is accepted where it is on, which reads files that have changed.
 * Returns the value.
 * Errors: an unknown name, or a value out of its range, fails the statement; so do ('tls', 'on') when the
 *   files are not usable, and a change of locked settings.
 * Cost: none; ('tls', 'on') reads files.
 */
#include <stdio.h>
#include <string.h>

#include "gman.h"
#include "settings.h"
#include "shared/text.h"
#include "tls.h"

static bool begin(struct udf_call *call, char *message) {
    udf_args *args = call->args;
    struct slice name, value;
    if (udf_constant_text(args, 0, &name)) {
        char number[24];
        if (!udf_constant_text(args, 1, &value)) {
            value = (struct slice){"default", 7}; /* not known yet: check at least the name */
            if (args->args[1] && args->arg_type[1] == INT_RESULT) {
                long long whole;
                memcpy(&whole, args->args[1], sizeof whole);
                value = (struct slice){number, (size_t)snprintf(number, sizeof number, "%lld", whole)};
            }
        }
        if (!settings_change(name, value, false, message, UDF_MESSAGE_SIZE))
            return true;
    }
    udf_as_text(args, 0);
    udf_as_text(args, 1);
    return false;
}

static bool change(struct slice name, struct slice value, char *message, size_t size) {
    char problem[WHAT_MAX];
    const char *latch = settings_latch();
    bool tls = text_is(name, "tls"),
         repeated = text_is(value, "on") && (text_is(name, "locked") || (tls && setting(TLS)));
    if (latch && !repeated) {
        snprintf(message, size, "gman_configure: the settings are %s", latch);
        return false;
    }
    if (!settings_change(name, value, true, message, size))
        return false;
    /* Files are read only when TLS is enabled, so that a key and its certificate can be changed together. */
    if (!tls || tls_reload(latch != NULL, problem))
        return true;
    snprintf(message, size, "gman_configure: %s", problem);
    return false;
}

static bool row(struct udf_call *call) {
    struct slice name = udf_argument(call->args, 0), value = udf_argument(call->args, 1);
    char message[UDF_MESSAGE_SIZE + WHAT_MAX];
    if (!name.data || !value.data)
        return udf_fail(call, "gman_configure: the name or the value is NULL");
    pthread_mutex_lock(&settings_lock);
    bool done = change(name, value, message, sizeof message);
    pthread_mutex_unlock(&settings_lock);
    if (!done)
        return udf_fail(call, "%s", message);
    buffer_append(&call->out, value.data, value.length);
    return true;
}

UDF_TEXT(gman_configure, .usage = "(name, value)", .fewest = 2, .most = 2, .limit = TEXT_SETTING_MAX,
         .each_row = true, .begin = begin, .row = row)
