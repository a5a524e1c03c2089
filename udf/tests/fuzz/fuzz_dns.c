/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Responses of name servers, and the two files of the system's resolver: no input makes the parser read
 * beyond it, and all results are valid addresses. The first byte selects the parser.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gman/dns.h"
#include "gman/hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition) {
    if (!condition)
        abort();
}

static void check(const struct endpoints *endpoints) {
    expect(endpoints->count <= ENDPOINTS_MAX);
    for (size_t i = 0; i < endpoints->count; i++) {
        int family = endpoints->list[i].address.ss_family;
        expect(family == AF_INET
                   ? endpoints->list[i].length == sizeof(struct sockaddr_in)
                   : family == AF_INET6 && endpoints->list[i].length == sizeof(struct sockaddr_in6));
    }
}

static void answer(const uint8_t *data, size_t size, enum dns_type type) {
    struct dns_query query;
    struct endpoints found = {.count = 0};
    if (!dns_query("a.example", type, &query))
        abort();
    dns_query_id(&query, 0x1234);
    enum dns_verdict verdict = dns_answer(&query, data, size, htons(4730), &found);
    check(&found);
    expect(verdict == DNS_ANSWERED || found.count == 0);

    /* After the original question, so that the records are parsed. */
    uint8_t *whole = malloc(query.length + size);
    if (!whole)
        abort();
    memcpy(whole, query.bytes, query.length);
    if (size)
        memcpy(whole + query.length, data, size);
    whole[2] |= 0x80 | (size % 2 ? 0x02 : 0);
    whole[7] = (uint8_t)(size ? data[size - 1] : 0);
    found.count = 0;
    verdict = dns_answer(&query, whole, query.length + size, htons(4730), &found);
    check(&found);
    expect(verdict != DNS_OTHER && (verdict == DNS_ANSWERED || found.count == 0));
    free(whole);
}

/* Any text as a name: the query fits its buffer, and is a valid response to itself. */
static void name(const uint8_t *data, size_t size) {
    char text[600];
    struct dns_query query;
    struct endpoints found = {.count = 0};
    size = size < sizeof text ? size : sizeof text - 1;
    memcpy(text, data, size);
    text[size] = 0;
    if (!dns_query(text, DNS_A, &query))
        return;
    expect(query.length <= DNS_QUERY_MAX);
    query.bytes[2] |= 0x80;
    expect(dns_answer(&query, query.bytes, query.length, 0, &found) == DNS_ANSWERED && found.count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct resolver resolver;
    struct endpoints found = {.count = 0};
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    switch (data[0] % 5) {
    case 0: answer(data + 1, size - 1, DNS_A); break;
    case 1: answer(data + 1, size - 1, DNS_AAAA); break;
    case 2: name(data + 1, size - 1); break;
    case 3: hosts_find(text, size - 1, "a.example", htons(4730), &found); break;
    default:
        resolver_parse(text, size - 1, htons(53), &resolver);
        check(&resolver.servers);
        expect(resolver.servers.count >= 1 && resolver.servers.count <= NAME_SERVERS_MAX &&
               resolver.search_count <= SEARCH_MAX && resolver.attempts >= 1);
    }
    check(&found);
    return 0;
}
