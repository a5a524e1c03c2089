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
enum breaker_verdict { BREAKER_PASS, BREAKER_PROBE, BREAKER_REFUSE };

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
    bool trial;        /* this call is the trial */
};

/* On BREAKER_PROBE the caller probes the server, and must end with breaker_trial, breaker_open or
 * breaker_pending. */
enum breaker_verdict breaker_ask(struct breaker *breaker, int64_t now, struct pass *pass);
/* The probe was answered: the caller's job is the trial, and must end with breaker_works, breaker_trip or
 * breaker_open. */
void breaker_trial(const struct breaker *breaker, struct pass *pass);
/* The server accepted a job. True when that closed the breaker. */
bool breaker_works(struct breaker *breaker, struct pass *pass);
/* A call failed. True when that opened the breaker. A failed trial opens it again, with a pause that doubles
 * each time, up to 32 times its length or 30 seconds. */
bool breaker_trip(struct breaker *breaker, struct pass *pass, int64_t now, int64_t retry);
void breaker_open(struct breaker *breaker, int64_t now, int64_t retry);
void breaker_pending(struct breaker *breaker, int64_t now, int64_t look_again);
const char *breaker_name(const struct breaker *breaker);
