/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

enum failure_kind failure_of(enum io_result result) {
    static const enum failure_kind kinds[] = {FAILURE_KINDS, FAIL_TIMEOUT, FAIL_CLOSED,
                                              FAIL_PROTOCOL, FAIL_MEMORY,  FAIL_TLS};
    return kinds[result];
}

void failure_set(struct failure *failure, enum failure_kind kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure->what, sizeof failure->what, format, arguments);
    va_end(arguments);
    failure->kind = kind;
}

const struct failure_words failures[FAILURE_KINDS] = {
    [FAIL_RESOLVE] = {"resolve", "the host's name has no address"},
    [FAIL_CONNECT] = {"connect", ""},
    [FAIL_TIMEOUT] = {"timeout", "no answer within io_timeout_ms"},
    [FAIL_CLOSED] = {"closed", "closed the connection"},
    [FAIL_PROTOCOL] = {"protocol", "the answer is not Gearman's protocol, or is too long"},
    [FAIL_REJECTED] = {"rejected", ""},
    [FAIL_JOB] = {"job_failed", "the worker failed the job"},
    [FAIL_JOB_TIMEOUT] = {"job_timeout", "no result within job_timeout_ms"},
    [FAIL_MEMORY] = {"memory", "out of memory"},
    [FAIL_TLS] = {"tls", ""},
    [FAIL_KILLED] = {"killed", "the statement was killed"},
};
