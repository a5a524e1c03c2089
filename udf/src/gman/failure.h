/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What can fail between a call and its answer, as gman_stats() counts it.
 */
#pragma once

enum { WHAT_MAX = 128 }; /* bytes of a reason */

/* What a step of a connection ends with. */
enum io_result {
    IO_OK,
    IO_TIMEOUT,  /* not yet: it cannot continue without waiting */
    IO_CLOSED,   /* closed or reset by the other side */
    IO_GARBAGE,  /* not a response packet, or too long */
    IO_MEMORY,   /* no memory, or no descriptor */
    IO_INSECURE, /* TLS is configured and failed */
};

enum failure_kind {
    FAIL_RESOLVE,  /* the host's name has no address */
    FAIL_CONNECT,  /* refused, unreachable or no answer within the connect timeout */
    FAIL_TIMEOUT,  /* no answer within the I/O timeout */
    FAIL_CLOSED,   /* the server closed the connection */
    FAIL_PROTOCOL, /* the answer is not Gearman's protocol */
    FAIL_REJECTED, /* it answered with an ERROR packet */
    FAIL_JOB,      /* the worker failed the job */
    FAIL_JOB_TIMEOUT, /* no result within the job timeout */
    FAIL_MEMORY,   /* of this process; also too many open files */
    FAIL_TLS,      /* the handshake failed: wrong certificate, or the files are not usable */
    FAIL_KILLED,   /* the statement was killed while it waited */
    FAILURE_KINDS,
};

struct failure {
    enum failure_kind kind;
    char what[WHAT_MAX];
};

/* The kind of a result that is not IO_OK. */
enum failure_kind failure_of(enum io_result result);
void failure_set(struct failure *failure, enum failure_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* For users. The text is "" where each failure has a reason of its own. */
extern const struct failure_words {
    const char *name, *text;
} failures[FAILURE_KINDS];
