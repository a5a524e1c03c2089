/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The circuit breaker of one job server: pure state, changed under the registry's lock.
 *
 * closed: calls pass. open: calls fail at once, until it is time for a probe. half-open: a probe is under way, and after it one job that
 * tries the server; all other calls fail at once. Only a job that the server takes closes the breaker, as a server can answer a probe and
 * no job. One thread at a time moves the probe on, and it never waits long for it, so that a server that hangs costs next to nothing.
 */
#ifndef BREAKER_H
#define BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };
enum breaker_verdict { BREAKER_PASS, BREAKER_PROBE, BREAKER_REFUSE };

struct breaker {
    enum breaker_state state;
    bool busy;              /* a thread is at the probe right now, or at the job that tries the server */
    unsigned failed_trials; /* since a server last took a job */
    unsigned closings;
    int64_t next_probe;     /* ns; when the next look is due */
    uint64_t openings;
};

/* What a call was let through with. */
struct pass {
    unsigned closings; /* when it was: a failure of what began before the breaker last closed says nothing about the server now */
    bool trial;        /* it is the job that tries the server */
};

/* BREAKER_PROBE makes the caller the one that probes: it must end with breaker_trial, breaker_open or breaker_pending. */
enum breaker_verdict breaker_ask(struct breaker *breaker, int64_t now, struct pass *pass);
/* The probe was answered: the caller's job is the trial, which must end with breaker_works, breaker_trip or breaker_open. */
void breaker_trial(const struct breaker *breaker, struct pass *pass);
/* The server took a job: true when that closed the breaker. */
bool breaker_works(struct breaker *breaker, struct pass *pass);
/* A call failed. True when that opened the breaker, which it also does again after a trial: then the pause doubles each time, up to 32 times
 * its length or the half of a minute. */
bool breaker_trip(struct breaker *breaker, struct pass *pass, int64_t now, int64_t retry);
void breaker_open(struct breaker *breaker, int64_t now, int64_t retry);
void breaker_pending(struct breaker *breaker, int64_t now, int64_t look_again);
const char *breaker_name(const struct breaker *breaker);

#endif
