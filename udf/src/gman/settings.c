/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "settings.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "shared/text.h"

static const struct {
    const char *name;
    long low, high, normal;
    const char *const *words; /* names of the values, for settings that are not numbers */
} known[SETTINGS] = {
    [TLS_CA] = {.name = "tls_ca"},
    [TLS_CERT] = {.name = "tls_cert"},
    [TLS_KEY] = {.name = "tls_key"},
    [TLS_SERVER_NAME] = {.name = "tls_server_name"},
    [CONNECT_TIMEOUT_MS] = {"connect_timeout_ms", 1, 60000, 100, NULL},
    [IO_TIMEOUT_MS] = {"io_timeout_ms", 1, 60000, 250, NULL},
    [JOB_TIMEOUT_MS] = {"job_timeout_ms", 1, 86400000, 30000, NULL},
    [BREAKER_RETRY_MS] = {"breaker_retry_ms", 10, 600000, 1000, NULL},
    [PROBE_WAIT_MS] = {"probe_wait_ms", 0, 1000, 10, NULL},
    [POOL_MAX_IDLE] = {"pool_max_idle", 0, 1024, 64, NULL},
    [POOL_IDLE_MS] = {"pool_idle_ms", 100, 86400000, 60000, NULL},
    [WAKE_INTERVAL_MS] = {"wake_interval_ms", 1, 60000, 10, NULL},
    [BACKGROUND_ERRORS] = {"background_errors", 0, 1, 0, (const char *const[]){"null", "error"}},
    [TLS] = {"tls", 0, 1, 0, (const char *const[]){"off", "on"}},
    [TLS_MIN_VERSION] = {"tls_min_version", 0, 1, 0, (const char *const[]){"1.2", "1.3"}},
    [LOCKED] = {"locked", 0, 1, 0, (const char *const[]){"off", "on"}},
};

/* The difference from the default: the zeroed memory of a newly loaded library holds the defaults. Of a text,
 * its length. */
static atomic_long changes[SETTINGS];

static char texts[TEXT_SETTINGS][TEXT_SETTING_MAX + 1];
static pthread_mutex_t text_lock = PTHREAD_MUTEX_INITIALIZER;

pthread_mutex_t settings_lock = PTHREAD_MUTEX_INITIALIZER;

const char *settings_latch(void) {
    return setting(LOCKED) ? "locked until the library is loaded again" : NULL;
}

int64_t setting(enum setting which) {
    return known[which].normal + atomic_load_explicit(&changes[which], memory_order_relaxed);
}

int64_t setting_ns(enum setting which) { return setting(which) * 1000000; }

const char *settings_name(enum setting which) { return known[which].name; }

void settings_text(enum setting which, char out[TEXT_SETTING_MAX + 1]) {
    pthread_mutex_lock(&text_lock);
    memcpy(out, texts[which], sizeof texts[which]);
    pthread_mutex_unlock(&text_lock);
}

static bool number_of(int which, struct slice text, long *number) {
    if (!known[which].words)
        return text_number(text, known[which].low, known[which].high, number);
    for (*number = known[which].low; *number <= known[which].high; ++*number)
        if (text_is(text, known[which].words[*number]))
            return true;
    return false;
}

static const char *text_problem(int which, struct slice value) {
    struct address named;
    if (value.length == 0)
        return NULL;
    if (which == TLS_SERVER_NAME)
        return address_host_parse(value, &named);
    bool path =
        value.length <= TEXT_SETTING_MAX && value.data[0] == '/' && !memchr(value.data, 0, value.length);
    return path ? NULL : "not an absolute path of at most 255 bytes";
}

/* Check a value that is not the default. False with the reason, without the name of the setting. */
static bool check(int which, struct slice value, long *change, char *reason, size_t size) {
    const char *const *words = known[which].words;
    if (which < TEXT_SETTINGS) {
        const char *problem = text_problem(which, value);
        *change = (long)value.length;
        snprintf(reason, size, ": %s", problem ? problem : "");
        return !problem;
    }
    bool good = number_of(which, value, change);
    *change -= known[which].normal;
    if (words)
        snprintf(reason, size, " must be %s or %s", words[0], words[1]);
    else
        snprintf(reason, size, " must be a number from %ld to %ld", known[which].low, known[which].high);
    return good;
}

bool settings_change(struct slice name, struct slice value, bool apply, char *message, size_t size) {
    char shown[33], reason[80];
    int which = 0;
    long change = 0;
    while (which < SETTINGS && !text_is(name, known[which].name))
        which++;
    if (which == SETTINGS) {
        snprintf(message, size, "gman_configure: unknown setting '%s'",
                 text_shown(name, shown, sizeof shown));
        return false;
    }
    if (!text_is(value, "default") && !check(which, value, &change, reason, sizeof reason)) {
        snprintf(message, size, "gman_configure: %s%s", known[which].name, reason);
        return false;
    }
    if (!apply)
        return true;
    pthread_mutex_lock(&text_lock);
    if (which < TEXT_SETTINGS)
        snprintf(texts[which], sizeof texts[which], "%.*s", (int)change, value.data);
    pthread_mutex_unlock(&text_lock);
    atomic_store_explicit(&changes[which], change, memory_order_relaxed);
    return true;
}

void settings_write(struct buffer *out) {
    for (int i = 0; i < SETTINGS; i++) {
        char text[TEXT_SETTING_MAX + 1];
        buffer_format(out, i ? ",\"%s\":" : "{\"%s\":", known[i].name);
        if (i < TEXT_SETTINGS) {
            settings_text((enum setting)i, text);
            text_quote(out, text, strlen(text));
        } else if (known[i].words) {
            buffer_format(out, "\"%s\"", known[i].words[setting((enum setting)i)]);
        } else {
            buffer_format(out, "%ld", (long)setting((enum setting)i));
        }
    }
    buffer_byte(out, '}');
}

void settings_write_changed(struct buffer *out) {
    const char *before = "";
    buffer_byte(out, '[');
    for (int i = 0; i < SETTINGS; i++)
        if (changes[i]) {
            buffer_format(out, "%s\"%s\"", before, known[i].name);
            before = ",";
        }
    buffer_byte(out, ']');
}
