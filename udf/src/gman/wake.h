/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Wake-ups: background jobs without a workload, which may be lost and never make the caller wait.
 */
#pragma once

#include <stdatomic.h>

#include "protocol.h"

enum wake_result {
    WAKE_SENT,    /* passed to the network */
    WAKE_SKIPPED, /* the same wake-up was sent less than wake_interval_ms ago */
    WAKE_DROPPED, /* no server could take it without waiting */
    WAKE_RESULTS,
};

extern atomic_ullong wake_counts[WAKE_RESULTS];

enum wake_result wake_send(struct slice function, struct slice unique);
