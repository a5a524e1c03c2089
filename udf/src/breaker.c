/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "breaker.h"

enum breaker_verdict breaker_ask(struct breaker *breaker, int64_t now) {
    if (breaker->state == BREAKER_CLOSED)
        return BREAKER_PASS;
    if (breaker->probing || now < breaker->next_probe)
        return BREAKER_REFUSE;
    breaker->probing = true;
    breaker->state = BREAKER_HALF_OPEN;
    return BREAKER_PROBE;
}

bool breaker_trip(struct breaker *breaker, int64_t now, int64_t retry) {
    if (breaker->state != BREAKER_CLOSED)
        return false;
    breaker->openings++;
    breaker_open(breaker, now, retry);
    return true;
}

void breaker_open(struct breaker *breaker, int64_t now, int64_t retry) {
    breaker->state = BREAKER_OPEN;
    breaker->probing = false;
    breaker->next_probe = now + retry;
}

void breaker_pending(struct breaker *breaker, int64_t now, int64_t look_again) {
    breaker->probing = false;
    breaker->next_probe = now + look_again;
}

void breaker_close(struct breaker *breaker) {
    breaker->state = BREAKER_CLOSED;
    breaker->probing = false;
}

const char *breaker_name(const struct breaker *breaker) {
    static const char *const names[] = {"closed", "open", "half-open"};
    return names[breaker->state];
}
