/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the gman_* functions share.
 */
#pragma once

#include "job.h"
#include "shared/udf.h"

#define GMAN_VERSION "1.0.0"

enum wake_result {
    WAKE_SENT,    /* passed to the network */
    WAKE_SKIPPED, /* the same wake-up was sent less than wake_interval_ms ago */
    WAKE_DROPPED, /* no server could take it without waiting */
    WAKE_RESULTS,
};

extern atomic_ullong wake_counts[WAKE_RESULTS];

/* The reason why it cannot be the name of a function; NULL when it can. */
const char *function_problem(struct slice function);
/* The checks of _init for functions with the arguments (function, workload[, unique]). */
bool gman_check_job(udf_args *args, char *message, const char *name);
/* A row's arguments as a request. The reason when it cannot be sent, otherwise NULL. */
const char *gman_request(const udf_args *args, enum packet_type type, struct request *request);
