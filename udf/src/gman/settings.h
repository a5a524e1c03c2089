/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The settings of gman_configure. All threads read them without a lock.
 */
#pragma once

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
    TLS_MIN_VERSION,
    LOCKED,
    SETTINGS,
};

/* Settings whose value is text; "" is none. The first ones are paths. */
enum text_setting { TLS_CA, TLS_CERT, TLS_KEY, TLS_FILES, TLS_SERVER_NAME = TLS_FILES, TEXT_SETTINGS };

enum { TEXT_SETTING_MAX = 255 };

/* One change of settings or server lists at a time, so that none takes effect after the latch. */
void settings_lock(void);
void settings_unlock(void);
/* The latch: why nothing may be changed, or NULL. */
const char *settings_latch(void);
int64_t setting(enum setting which);
/* The same, as nanoseconds, of a setting in milliseconds. */
int64_t setting_ns(enum setting which);
void settings_text(enum text_setting which, char out[TEXT_SETTING_MAX + 1]);
const char *settings_text_name(enum text_setting which);
/* Check a name and a value, and set it when apply is true. False: invalid, with the reason in message. */
bool settings_change(struct slice name, struct slice value, bool apply, char *message, size_t size);
/* {"connect_timeout_ms":100,…} */
void settings_write(struct buffer *out);
/* ["io_timeout_ms",…]: the names of those that do not have their defaults. */
void settings_write_changed(struct buffer *out);
