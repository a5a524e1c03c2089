/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The settings of gman_configure. All threads read them without a lock.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/buffer.h"

/* The first ones are text, and "" is none; and of these, the first ones are paths of files. */
enum setting {
    TLS_CA,
    TLS_CERT,
    TLS_KEY,
    TLS_FILES,
    TLS_SERVER_NAME = TLS_FILES,
    TEXT_SETTINGS,
    CONNECT_TIMEOUT_MS = TEXT_SETTINGS,
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

enum { TEXT_SETTING_MAX = 255 };

/* One change of settings or server lists at a time, so that none takes effect after the latch. */
extern pthread_mutex_t settings_lock;
/* The latch: why nothing may be changed, or NULL. */
const char *settings_latch(void);
int64_t setting(enum setting which);
/* The same, as nanoseconds, of a setting in milliseconds. */
int64_t setting_ns(enum setting which);
void settings_text(enum setting which, char out[TEXT_SETTING_MAX + 1]);
const char *settings_name(enum setting which);
/* Check a name and a value, and set it when apply is true. False: invalid, with the reason in message. */
bool settings_change(struct slice name, struct slice value, bool apply, char *message, size_t size);
/* {"connect_timeout_ms":100,…} */
void settings_write(struct buffer *out);
/* ["io_timeout_ms",…]: the names of those that do not have their defaults. */
void settings_write_changed(struct buffer *out);
