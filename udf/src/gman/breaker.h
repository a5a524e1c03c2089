/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The circuit breaker of one job server: pure state, changed under the registry's lock.
 *
 * closed: calls pass. open: calls fail at once until the next probe is due. half-open: a probe is under way,
 * then one job as a trial; all other calls fail at once. Only a job that the server accepts closes the
 * breaker, because a server may answer probes and accept no job. One thread at a time advances the probe and
 * never waits long for it, so a server that hangs costs almost nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
    enum breaker_state state;
    bool busy;              /* a thread is working on the probe or on the trial */
    unsigned failed_trials; /* since the server last accepted a job */
    unsigned closings;
    int64_t next_probe;     /* ns; when the next check is due */
    uint64_t openings;
};

/* The state of the breaker when it let a call pass. */
struct pass {
    unsigned closings; /* a call that began before the breaker last closed proves nothing when it fails */
    bool trial;        /* this call probes the server, and then its job is the trial */
};

/* Whether a call may pass. One with a trial must end with breaker_works, breaker_trip or breaker_pause. */
bool breaker_ask(struct breaker *breaker, int64_t now, struct pass *pass);
/* The server accepted a job. True when that closed the breaker. */
bool breaker_works(struct breaker *breaker, struct pass *pass);
/* A call failed. True when that opened the breaker. A failed trial opens it again, with a pause that doubles
 * each time, up to 32 times its length or 30 seconds. */
bool breaker_trip(struct breaker *breaker, struct pass *pass, int64_t now, int64_t retry);
/* The probe is not answered yet (half-open), or it or the trial has ended without an answer (open). */
void breaker_pause(struct breaker *breaker, enum breaker_state state, int64_t next_probe);
