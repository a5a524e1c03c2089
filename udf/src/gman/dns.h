/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * DNS messages, as far as the addresses of one name need them: build a query, parse a response. No I/O.
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
    DNS_ANSWER_MAX = 2048, /* 512 without EDNS, which is not requested */
};

enum dns_type { DNS_A = 1, DNS_AAAA = 28 };

struct dns_query {
    unsigned char bytes[DNS_QUERY_MAX];
    size_t length;
    enum dns_type type;
};

enum dns_verdict {
    DNS_OTHER,    /* not a response to this query */
    DNS_ANSWERED, /* with addresses, or none exist */
    DNS_UNABLE,   /* the name server failed, or its response is invalid: another one may know */
};

/* False: not a valid DNS name (a label of more than 63 bytes, or more than 255 in all). */
bool dns_query(const char *name, enum dns_type type, struct dns_query *out);
/* Use a new id for each packet: an attacker who guesses it can forge a response. */
void dns_query_id(struct dns_query *query, uint16_t id);
/* Parse a packet of the name server that was queried. Its addresses are added to out, with the port (in
 * network order). */
enum dns_verdict dns_answer(const struct dns_query *query, const unsigned char *data, size_t length,
                            in_port_t port, struct endpoints *out);

#endif
