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

const char *failure_name(enum failure_kind kind) {
    static const char *const names[FAILURE_KINDS] = {"resolve",  "connect",  "timeout",    "closed",
                                                     "protocol", "rejected", "job_failed", "job_timeout",
                                                     "memory",   "tls",      "killed"};
    return names[kind];
}
