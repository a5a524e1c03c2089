/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * DNS messages, as far as the addresses of one name need them: a question to bytes, an answer to addresses. No I/O.
 */
#ifndef DNS_H
#define DNS_H

#include <netinet/in.h>
#include <stdint.h>

#include "endpoint.h"

enum {
    DNS_HEADER = 12,
    DNS_NAME_MAX = 255, /* bytes of a name on the wire */
    DNS_QUERY_MAX = DNS_HEADER + DNS_NAME_MAX + 4,
    DNS_ANSWER_MAX = 2048, /* without an extension that we do not ask for, 512 */
};

enum dns_type { DNS_A = 1, DNS_AAAA = 28 };

struct dns_query {
    unsigned char bytes[DNS_QUERY_MAX];
    size_t length;
    enum dns_type type;
};

enum dns_verdict {
    DNS_OTHER,    /* no answer to this question */
    DNS_ANSWERED, /* with addresses, or with the word that there are none */
    DNS_UNABLE,   /* the name server does not know, or what it says makes no sense: another one may know */
};

/* False: that is no name for DNS (a part of more than 63 bytes, or more than 255 in all). */
bool dns_query(const char *name, enum dns_type type, struct dns_query *out);
/* Another one for each packet, as whoever guesses it can lie. */
void dns_query_id(struct dns_query *query, uint16_t id);
/* A packet that came from the name server that was asked. The addresses are added to out, with the port (in network order). */
enum dns_verdict dns_answer(const struct dns_query *query, const unsigned char *data, size_t length, in_port_t port, struct endpoints *out);

#endif
