/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "breaker.h"

enum { MOST_DOUBLINGS = 5 };
static const int64_t longest_pause = 30LL * 1000000000;

enum breaker_verdict breaker_ask(struct breaker *breaker, int64_t now, struct pass *pass) {
    *pass = (struct pass){.closings = breaker->closings};
    if (breaker->state == BREAKER_CLOSED)
        return BREAKER_PASS;
    if (breaker->busy || now < breaker->next_probe)
        return BREAKER_REFUSE;
    breaker->busy = true;
    breaker->state = BREAKER_HALF_OPEN;
    return BREAKER_PROBE;
}

void breaker_trial(const struct breaker *breaker, struct pass *pass) {
    *pass = (struct pass){.closings = breaker->closings, .trial = true};
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
        breaker_open(breaker, now, pause < most ? pause : most);
        pass->trial = false;
        return true;
    }
    if (breaker->state != BREAKER_CLOSED || pass->closings != breaker->closings)
        return false;
    breaker->openings++;
    breaker_open(breaker, now, retry);
    return true;
}

void breaker_open(struct breaker *breaker, int64_t now, int64_t retry) {
    breaker->state = BREAKER_OPEN;
    breaker->busy = false;
    breaker->next_probe = now + retry;
}

void breaker_pending(struct breaker *breaker, int64_t now, int64_t look_again) {
    breaker->busy = false;
    breaker->next_probe = now + look_again;
}

const char *breaker_name(const struct breaker *breaker) {
    static const char *const names[] = {"closed", "open", "half-open"};
    return names[breaker->state];
}
