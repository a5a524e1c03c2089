/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "protocol.h"

#include <string.h>

static void put32(char *out, uint32_t value) {
    for (int i = 0; i < 4; i++)
        out[i] = (char)(unsigned char)(value >> (24 - 8 * i));
}

static uint32_t get32(const char *at) {
    const unsigned char *data = (const unsigned char *)at;
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

void packet_header(char out[PACKET_HEADER], enum packet_type type, size_t body) {
    memcpy(out, "\0REQ", 4);
    put32(out + 4, (uint32_t)type);
    put32(out + 8, (uint32_t)body);
}

struct slice packet_submit(char out[SUBMIT_PREFIX_MAX], enum packet_type type, struct slice function,
                           struct slice unique, size_t workload) {
    size_t prefix = function.length + 1 + unique.length + 1;
    packet_header(out, type, prefix + workload);
    char *at = out + PACKET_HEADER;
    memcpy(at, function.data, function.length);
    at += function.length;
    *at++ = 0;
    if (unique.length)
        memcpy(at, unique.data, unique.length);
    at += unique.length;
    *at = 0;
    return (struct slice){out, PACKET_HEADER + prefix};
}

/* The longest body of a response of this type; -1 when it is not a response. */
static int64_t longest(uint32_t type) {
    switch (type) {
    case WORK_COMPLETE:
    case WORK_EXCEPTION:
    case WORK_DATA:
    case WORK_WARNING: return PACKET_MAX;
    case JOB_CREATED:
    case WORK_STATUS:
    case WORK_FAIL:
    case ECHO_RES:
    case GEARMAN_ERROR: return PLAIN_PACKET_MAX;
    default: return -1;
    }
}

enum io_result packet_parse(struct slice data, struct packet *packet) {
    /* Check the first bytes at once: waiting for a whole header of garbage would cost the I/O timeout. */
    if (data.length && memcmp(data.data, "\0RES", data.length < 4 ? data.length : 4) != 0)
        return IO_GARBAGE;
    if (data.length < PACKET_HEADER)
        return IO_TIMEOUT;
    uint32_t type = get32(data.data + 4), body = get32(data.data + 8);
    if ((int64_t)body > longest(type))
        return IO_GARBAGE;
    packet->type = (enum packet_type)type;
    packet->body = (struct slice){data.data + PACKET_HEADER, body};
    packet->total = PACKET_HEADER + (size_t)body;
    return data.length < packet->total ? IO_TIMEOUT : IO_OK;
}

bool packet_split(const struct packet *packet, struct slice *parts, size_t count) {
    const char *at = packet->body.data, *end = at + packet->body.length;
    for (size_t i = 0; i + 1 < count; i++) {
        const char *stop = memchr(at, 0, (size_t)(end - at));
        if (!stop)
            return false;
        parts[i] = (struct slice){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    parts[count - 1] = (struct slice){at, (size_t)(end - at)};
    return true;
}
