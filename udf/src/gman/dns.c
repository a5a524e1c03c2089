/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dns.h"

#include <string.h>

enum { CLASS_IN = 1, NO_SUCH_NAME = 3, MOST_LABEL = 63 };

static uint16_t get16(const unsigned char *data) { return (uint16_t)(data[0] << 8 | data[1]); }

static void put16(unsigned char *out, uint16_t value) {
    out[0] = (unsigned char)(value >> 8);
    out[1] = (unsigned char)value;
}

bool dns_query(const char *name, enum dns_type type, struct dns_query *out) {
    size_t length = strlen(name);
    if (length && name[length - 1] == '.')
        length--;
    /* A label's length byte takes the place of the dot before it; the first label has one more, and a zero
     * byte ends the name. */
    if (length == 0 || length + 2 > DNS_NAME_MAX)
        return false;
    memset(out, 0, sizeof *out);
    out->bytes[2] = 1; /* recursion desired */
    put16(out->bytes + 4, 1);
    unsigned char *at = out->bytes + DNS_HEADER;
    for (size_t start = 0; start < length;) {
        const char *dot = memchr(name + start, '.', length - start);
        size_t label = dot ? (size_t)(dot - name) - start : length - start;
        if (label == 0 || label > MOST_LABEL || (dot && start + label + 1 == length))
            return false;
        *at++ = (unsigned char)label;
        memcpy(at, name + start, label);
        at += label;
        start += label + 1;
    }
    *at++ = 0;
    put16(at, (uint16_t)type);
    put16(at + 2, CLASS_IN);
    out->length = (size_t)(at + 4 - out->bytes);
    out->type = type;
    return true;
}

void dns_query_id(struct dns_query *query, uint16_t id) { put16(query->bytes, id); }

static unsigned char lower(unsigned char c) {
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c - 'A' + 'a') : c;
}

/* lower() does not change the length bytes of labels: they are below 64. */
static bool same_question(const struct dns_query *query, const unsigned char *question) {
    size_t length = query->length - DNS_HEADER;
    for (size_t i = 0; i < length; i++)
        if (lower(question[i]) != lower(query->bytes[DNS_HEADER + i]))
            return false;
    return true;
}

/* The byte after a name, which may end in a pointer; NULL when the name does not end within the packet.
 * Pointers are not followed. */
static const unsigned char *skip_name(const unsigned char *at, const unsigned char *end) {
    while (at < end) {
        unsigned char length = *at++;
        if (length == 0)
            return at;
        if (length >= 0xC0)
            return at < end ? at + 1 : NULL;
        if (length > MOST_LABEL || end - at < length)
            return NULL;
        at += length;
    }
    return NULL;
}

enum dns_verdict dns_answer(const struct dns_query *query, const unsigned char *data, size_t length,
                            in_port_t port, struct endpoints *out) {
    enum { IS_ANSWER = 0x80, KIND = 0x78, TRUNCATED = 0x02, CODE = 0x0F, RECORD = 10 };
    if (length < query->length || memcmp(data, query->bytes, 2) != 0 || !(data[2] & IS_ANSWER) ||
        data[2] & KIND || get16(data + 4) != 1 || !same_question(query, data + DNS_HEADER))
        return DNS_OTHER;
    int code = data[3] & CODE;
    if (code == NO_SUCH_NAME)
        return DNS_ANSWERED;
    if (code != 0)
        return DNS_UNABLE;
    const unsigned char *at = data + query->length, *end = data + length;
    size_t before = out->count;
    /* Records of any name: the name server has followed the aliases. */
    unsigned left = get16(data + 6);
    for (; left > 0; left--) {
        at = skip_name(at, end);
        if (!at || end - at < RECORD || end - at - RECORD < get16(at + 8))
            break;
        uint16_t type = get16(at), class = get16(at + 2), size = get16(at + 8);
        at += RECORD;
        if (class == CLASS_IN && type == (uint16_t)query->type && size == (type == DNS_A ? 4 : 16))
            endpoints_add(out, type == DNS_A ? AF_INET : AF_INET6, at, 0, port);
        at += size;
    }
    if (data[2] & TRUNCATED ? out->count > before : left == 0)
        return DNS_ANSWERED;
    out->count = before;
    return DNS_UNABLE;
}
