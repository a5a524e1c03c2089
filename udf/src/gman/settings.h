/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What gman_configure sets. Read without a lock, at any time, by every thread.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/buffer.h"

enum setting {
    CONNECT_TIMEOUT_MS,
    IO_TIMEOUT_MS,
    JOB_TIMEOUT_MS,
    BREAKER_RETRY_MS,
    PROBE_WAIT_MS,
    POOL_MAX_IDLE,
    POOL_IDLE_MS,
    WAKE_INTERVAL_MS,
    BACKGROUND_ERRORS,
    TLS,
    SETTINGS,
};

/* Those whose value is a path; "" is none. */
enum text_setting { TLS_CA, TLS_CERT, TLS_KEY, TEXT_SETTINGS };

enum { TEXT_SETTING_MAX = 255 };

int64_t setting(enum setting which);
/* The same, as nanoseconds, of a setting in milliseconds. */
int64_t setting_ns(enum setting which);
void settings_text(enum text_setting which, char out[TEXT_SETTING_MAX + 1]);
const char *settings_text_name(enum text_setting which);
/* Check a name and a value, and take the value over when apply says so. Otherwise the reason is in message. */
bool settings_change(const char *name, size_t name_length, const char *value, size_t value_length, bool apply, char *message, size_t size);
/* {"connect_timeout_ms":100,…} */
void settings_write(struct buffer *out);

#endif
