/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Gearman's binary protocol: build and parse packets. No I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "shared/buffer.h"

enum packet_type {
    SUBMIT_JOB = 7,
    JOB_CREATED = 8,
    WORK_STATUS = 12,
    WORK_COMPLETE = 13,
    WORK_FAIL = 14,
    ECHO_REQ = 16,
    ECHO_RES = 17,
    SUBMIT_JOB_BG = 18,
    GEARMAN_ERROR = 19,
    SUBMIT_JOB_HIGH = 21,
    WORK_EXCEPTION = 25,
    WORK_DATA = 28,
    WORK_WARNING = 29,
    SUBMIT_JOB_HIGH_BG = 32,
    SUBMIT_JOB_LOW = 33,
    SUBMIT_JOB_LOW_BG = 34,
};

enum {
    PACKET_HEADER = 12,
    FUNCTION_MAX = 255,         /* bytes of a function's name */
    UNIQUE_MAX = 63,            /* bytes of a unique key: gearmand truncates longer ones */
    HANDLE_MAX = 200,           /* bytes of a job handle: gearmand's have less than 64 */
    RESULT_MAX = 16 * 1024 * 1024, /* bytes of a job's result */
    PACKET_MAX = RESULT_MAX + HANDLE_MAX + 1, /* of a packet that carries a worker's data */
    PLAIN_PACKET_MAX = 64 * 1024,  /* of all others */
    SUBMIT_PREFIX_MAX = PACKET_HEADER + FUNCTION_MAX + 1 + UNIQUE_MAX + 1,
};

struct packet {
    enum packet_type type;
    struct slice body;
    size_t total; /* with its header */
};

/* Everything of a SUBMIT packet before the workload. */
struct slice packet_submit(char out[SUBMIT_PREFIX_MAX], enum packet_type type, struct slice function,
                           struct slice unique, size_t workload);
void packet_header(char out[PACKET_HEADER], enum packet_type type, size_t body);
/* Parse the first packet of received data. IO_TIMEOUT: it is incomplete. IO_GARBAGE: not a response packet,
 * or longer than its type allows. */
enum io_result packet_parse(struct slice data, struct packet *packet);
/* Split the body at its first count-1 NUL bytes; the last part is the rest. False when there are too few. */
bool packet_split(const struct packet *packet, struct slice *parts, size_t count);

/* In unique.c: a unique key as it is sent, unchanged, or "sha256:" and 56 hexadecimal digits when it is too
 * long or holds a NUL. */
struct slice unique_key(struct slice unique, char out[UNIQUE_MAX + 1]);
