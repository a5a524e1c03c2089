/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "settings.h"

#include <pthread.h>
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

/* The difference from the default: the zeroed memory of a newly loaded library holds the defaults. */
static atomic_long changes[SETTINGS];

static const char *const text_names[TEXT_SETTINGS] = {"tls_ca", "tls_cert", "tls_key", "tls_server_name"};
static char texts[TEXT_SETTINGS][TEXT_SETTING_MAX + 1];
static pthread_mutex_t text_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_mutex_t change_lock = PTHREAD_MUTEX_INITIALIZER;

void settings_lock(void) { pthread_mutex_lock(&change_lock); }

void settings_unlock(void) { pthread_mutex_unlock(&change_lock); }

const char *settings_latch(void) {
    return setting(LOCKED) ? "locked until the library is loaded again" : NULL;
}

int64_t setting(enum setting which) {
    return known[which].normal + atomic_load_explicit(&changes[which], memory_order_relaxed);
}

int64_t setting_ns(enum setting which) { return setting(which) * 1000000; }

static const char *name_of(int which) {
    return which < SETTINGS ? known[which].name : text_names[which - SETTINGS];
}

const char *settings_text_name(enum text_setting which) { return text_names[which]; }

void settings_text(enum text_setting which, char out[TEXT_SETTING_MAX + 1]) {
    pthread_mutex_lock(&text_lock);
    memcpy(out, texts[which], sizeof texts[which]);
    pthread_mutex_unlock(&text_lock);
}

static bool parse(struct slice text, int which, long *value) {
    if (text_is(text, "default")) {
        *value = known[which].normal;
        return true;
    }
    if (!known[which].words)
        return text_number(text, known[which].low, known[which].high, value);
    for (*value = known[which].low; *value <= known[which].high; ++*value)
        if (text_is(text, known[which].words[*value]))
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

static bool change_text(int which, struct slice value, bool apply, char *message, size_t size) {
    if (text_is(value, "default"))
        value.length = 0;
    const char *problem = text_problem(which, value);
    if (problem) {
        snprintf(message, size, "gman_configure: %s: %s", text_names[which], problem);
        return false;
    }
    if (apply) {
        pthread_mutex_lock(&text_lock);
        memset(texts[which], 0, sizeof texts[which]);
        memcpy(texts[which], value.data, value.length);
        pthread_mutex_unlock(&text_lock);
    }
    return true;
}

static bool change_number(int which, struct slice value, bool apply, char *message, size_t size) {
    long number;
    if (!parse(value, which, &number)) {
        const char *const *words = known[which].words;
        if (words)
            snprintf(message, size, "gman_configure: %s must be %s or %s", known[which].name, words[0],
                     words[1]);
        else
            snprintf(message, size, "gman_configure: %s must be a number from %ld to %ld", known[which].name,
                     known[which].low, known[which].high);
        return false;
    }
    if (apply)
        atomic_store_explicit(&changes[which], number - known[which].normal, memory_order_relaxed);
    return true;
}

bool settings_change(struct slice name, struct slice value, bool apply, char *message, size_t size) {
    for (int i = 0; i < SETTINGS + TEXT_SETTINGS; i++)
        if (text_is(name, name_of(i)))
            return i < SETTINGS ? change_number(i, value, apply, message, size)
                                : change_text(i - SETTINGS, value, apply, message, size);
    char shown[33];
    snprintf(message, size, "gman_configure: unknown setting '%s'", text_shown(name, shown, sizeof shown));
    return false;
}

void settings_write(struct buffer *out) {
    for (int i = 0; i < SETTINGS + TEXT_SETTINGS; i++) {
        char text[TEXT_SETTING_MAX + 1];
        buffer_format(out, i ? ",\"%s\":" : "{\"%s\":", name_of(i));
        if (i >= SETTINGS) {
            settings_text((enum text_setting)(i - SETTINGS), text);
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
    bool first = true;
    buffer_byte(out, '[');
    for (int i = 0; i < SETTINGS + TEXT_SETTINGS; i++) {
        char text[TEXT_SETTING_MAX + 1] = "";
        if (i >= SETTINGS)
            settings_text((enum text_setting)(i - SETTINGS), text);
        if (i < SETTINGS ? setting((enum setting)i) == known[i].normal : !text[0])
            continue;
        buffer_format(out, first ? "\"%s\"" : ",\"%s\"", name_of(i));
        first = false;
    }
    buffer_byte(out, ']');
}
