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
#include "tls.h"

UDF_EXPORT udf_bool gman_configure_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT char *gman_configure(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                                unsigned char *is_null, unsigned char *error);
UDF_EXPORT void gman_configure_deinit(udf_init *initid);

udf_bool gman_configure_init(udf_init *initid, udf_args *args, char *message) {
    struct slice name, value;
    if (args->arg_count != 2)
        return udf_refuse(message, "gman_configure takes (name, value)");
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
        if (!settings_change(name.data, name.length, value.data, value.length, false, message,
                             UDF_MESSAGE_SIZE))
            return 1;
    }
    udf_as_text(args, 0);
    udf_as_text(args, 1);
    initid->maybe_null = 1;
    initid->const_item = 0;
    initid->max_length = UDF_RESULT_SIZE;
    udf_utf8_result(initid);
    return 0;
}

static bool is(struct slice text, const char *word) {
    return text.length == strlen(word) && memcmp(text.data, word, text.length) == 0;
}

static bool change(struct slice name, struct slice value, char *message, size_t size) {
    char problem[TLS_PROBLEM_MAX];
    const char *latch = settings_latch();
    bool tls = is(name, "tls"), repeated = is(value, "on") && (is(name, "locked") || (tls && setting(TLS)));
    if (latch && !repeated) {
        snprintf(message, size, "gman_configure: the settings are %s", latch);
        return false;
    }
    if (!settings_change(name.data, name.length, value.data, value.length, true, message, size))
        return false;
    /* Files are read only when TLS is enabled, so that a key and its certificate can be changed together. */
    if (!tls || tls_reload(latch != NULL, problem, sizeof problem))
        return true;
    snprintf(message, size, "gman_configure: %s", problem);
    return false;
}

char *gman_configure(udf_init *initid UNUSED, udf_args *args, char *result, unsigned long *length,
                     unsigned char *is_null, unsigned char *error) {
    struct slice name = udf_argument(args, 0), value = udf_argument(args, 1);
    char message[UDF_MESSAGE_SIZE + TLS_PROBLEM_MAX] = "gman_configure: the name or the value is NULL";
    bool done = false;
    if (name.data && value.data) {
        settings_lock();
        done = change(name, value, message, sizeof message);
        settings_unlock();
    }
    if (done)
        return udf_answer(value, result, length);
    udf_raise(message, error);
    return udf_null(is_null);
}

void gman_configure_deinit(udf_init *initid UNUSED) {}
