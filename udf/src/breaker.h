/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The circuit breaker of one job server: pure state, changed under the registry's lock.
 *
 * closed: calls pass. open: calls fail at once, until it is time for a probe. half-open: a probe is under way, calls fail at once.
 * One thread at a time moves the probe on, and it never waits long for it, so that a server that hangs costs next to nothing.
 */
#ifndef BREAKER_H
#define BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };
enum breaker_verdict { BREAKER_PASS, BREAKER_PROBE, BREAKER_REFUSE };

struct breaker {
    enum breaker_state state;
    bool probing;       /* a thread is at the probe right now */
    int64_t next_probe; /* ns; when the next look is due */
    uint64_t openings;
};

/* BREAKER_PROBE makes the caller the one that probes: it must end with breaker_close, breaker_open or breaker_pending. */
enum breaker_verdict breaker_ask(struct breaker *breaker, int64_t now);
/* A call failed. Only a closed breaker opens: what a call began before a probe says nothing about the probe. True when it opened. */
bool breaker_trip(struct breaker *breaker, int64_t now, int64_t retry);
void breaker_open(struct breaker *breaker, int64_t now, int64_t retry);
void breaker_pending(struct breaker *breaker, int64_t now, int64_t look_again);
void breaker_close(struct breaker *breaker);
const char *breaker_name(const struct breaker *breaker);

#endif
