/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Wake-ups: background jobs without a workload, which may be lost and never make the caller wait.
 */
#ifndef WAKE_H
#define WAKE_H

#include "protocol.h"

struct wake_counts {
    unsigned long long sent;    /* passed to the network */
    unsigned long long skipped; /* the same wake-up was sent less than wake_interval_ms ago */
    unsigned long long dropped; /* no server could take it without waiting */
};

enum wake_result { WAKE_SENT, WAKE_SKIPPED, WAKE_DROPPED };

enum wake_result wake_send(struct slice function, struct slice unique);
struct wake_counts wake_counts(void);
void wake_unload(void);

#endif
