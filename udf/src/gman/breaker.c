/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "breaker.h"

enum { MOST_DOUBLINGS = 5 };
static const int64_t longest_pause = 30LL * 1000000000;

bool breaker_ask(struct breaker *breaker, int64_t now, struct pass *pass) {
    *pass = (struct pass){breaker->closings, breaker->state != BREAKER_CLOSED};
    if (!pass->trial)
        return true;
    if (breaker->busy || now < breaker->next_probe)
        return false;
    breaker->busy = true;
    breaker->state = BREAKER_HALF_OPEN;
    return true;
}

bool breaker_works(struct breaker *breaker, struct pass *pass) {
    if (!pass->trial)
        return false;
    *pass = (struct pass){.closings = ++breaker->closings};
    breaker->state = BREAKER_CLOSED;
    breaker->busy = false;
    breaker->failed_trials = 0;
    return true;
}

bool breaker_trip(struct breaker *breaker, struct pass *pass, int64_t now, int64_t retry) {
    if (pass->trial) {
        int64_t most = retry > longest_pause ? retry : longest_pause;
        if (breaker->failed_trials < MOST_DOUBLINGS)
            breaker->failed_trials++;
        int64_t pause = retry << breaker->failed_trials;
        breaker_pause(breaker, BREAKER_OPEN, now + (pause < most ? pause : most));
        pass->trial = false;
        return true;
    }
    if (breaker->state != BREAKER_CLOSED || pass->closings != breaker->closings)
        return false;
    breaker->openings++;
    breaker_pause(breaker, BREAKER_OPEN, now + retry);
    return true;
}

void breaker_pause(struct breaker *breaker, enum breaker_state state, int64_t next_probe) {
    breaker->state = state;
    breaker->busy = false;
    breaker->next_probe = next_probe;
}
