/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "settings.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

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
    [LOCKED] = {"locked", 0, 1, 0, (const char *const[]){"off", "on"}},
};

/* The difference from the default: the zeroed memory of a newly loaded library holds the defaults. */
static atomic_long changes[SETTINGS];

static const char *const text_names[TEXT_SETTINGS] = {"tls_ca", "tls_cert", "tls_key"};
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

const char *settings_text_name(enum text_setting which) { return text_names[which]; }

void settings_text(enum text_setting which, char out[TEXT_SETTING_MAX + 1]) {
    pthread_mutex_lock(&text_lock);
    memcpy(out, texts[which], sizeof texts[which]);
    pthread_mutex_unlock(&text_lock);
}

static bool same(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static bool parse(const char *text, size_t length, int which, long *value) {
    if (same(text, length, "default")) {
        *value = known[which].normal;
        return true;
    }
    if (known[which].words) {
        for (*value = known[which].low; *value <= known[which].high; ++*value)
            if (same(text, length, known[which].words[*value]))
                return true;
        return false;
    }
    *value = 0;
    if (length == 0 || length > 9)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *value = *value * 10 + (text[i] - '0');
    }
    return *value >= known[which].low && *value <= known[which].high;
}

static bool change_text(int which, const char *value, size_t length, bool apply, char *message, size_t size) {
    if (same(value, length, "default"))
        length = 0;
    if (length > TEXT_SETTING_MAX || (length && (value[0] != '/' || memchr(value, 0, length)))) {
        snprintf(message, size, "gman_configure: %s must be an absolute path of at most %d bytes",
                 text_names[which], TEXT_SETTING_MAX);
        return false;
    }
    if (apply) {
        pthread_mutex_lock(&text_lock);
        memset(texts[which], 0, sizeof texts[which]);
        memcpy(texts[which], value, length);
        pthread_mutex_unlock(&text_lock);
    }
    return true;
}

bool settings_change(const char *name, size_t name_length, const char *value, size_t value_length, bool apply,
                     char *message, size_t size) {
    for (int i = 0; i < SETTINGS; i++) {
        if (!same(name, name_length, known[i].name))
            continue;
        long number;
        if (!parse(value, value_length, i, &number)) {
            if (known[i].words)
                snprintf(message, size, "gman_configure: %s must be %s or %s", known[i].name,
                         known[i].words[0], known[i].words[1]);
            else
                snprintf(message, size, "gman_configure: %s must be a number from %ld to %ld", known[i].name,
                         known[i].low, known[i].high);
            return false;
        }
        if (apply)
            atomic_store_explicit(&changes[i], number - known[i].normal, memory_order_relaxed);
        return true;
    }
    for (int i = 0; i < TEXT_SETTINGS; i++)
        if (same(name, name_length, text_names[i]))
            return change_text(i, value, value_length, apply, message, size);
    char shown[33];
    size_t length = name_length < sizeof shown - 1 ? name_length : sizeof shown - 1;
    for (size_t i = 0; i < length; i++)
        shown[i] = name[i] >= 0x20 && name[i] < 0x7F ? name[i] : '?';
    shown[length] = 0;
    snprintf(message, size, "gman_configure: unknown setting '%s'", shown);
    return false;
}

void settings_write(struct buffer *out) {
    buffer_byte(out, '{');
    for (int i = 0; i < SETTINGS; i++) {
        long value = (long)setting((enum setting)i);
        buffer_format(out, i ? ",\"%s\":" : "\"%s\":", known[i].name);
        if (known[i].words)
            buffer_format(out, "\"%s\"", known[i].words[value]);
        else
            buffer_format(out, "%ld", value);
    }
    for (int i = 0; i < TEXT_SETTINGS; i++) {
        char text[TEXT_SETTING_MAX + 1];
        settings_text((enum text_setting)i, text);
        buffer_format(out, ",\"%s\":", text_names[i]);
        text_quote(out, text, strlen(text));
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
        buffer_format(out, first ? "\"%s\"" : ",\"%s\"",
                      i < SETTINGS ? known[i].name : text_names[i - SETTINGS]);
        first = false;
    }
    buffer_byte(out, ']');
}
