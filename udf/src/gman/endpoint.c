/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "endpoint.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

void endpoints_add(struct endpoints *endpoints, int family, const void *ip, uint32_t zone, in_port_t port) {
    if (endpoints->count == ENDPOINTS_MAX)
        return;
    struct endpoint *endpoint = &endpoints->list[endpoints->count++];
    memset(endpoint, 0, sizeof *endpoint);
    if (family == AF_INET6) {
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_scope_id = zone};
        memcpy(&six.sin6_addr, ip, sizeof six.sin6_addr);
        memcpy(&endpoint->address, &six, sizeof six);
        endpoint->length = sizeof six;
    } else {
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = port};
        memcpy(&four.sin_addr, ip, sizeof four.sin_addr);
        memcpy(&endpoint->address, &four, sizeof four);
        endpoint->length = sizeof four;
    }
}

bool endpoints_add_text(struct endpoints *endpoints, const char *text, in_port_t port) {
    unsigned char ip[sizeof(struct in6_addr)];
    char plain[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    uint32_t zone = 0;
    if (inet_pton(AF_INET, text, ip) == 1) {
        endpoints_add(endpoints, AF_INET, ip, 0, port);
        return true;
    }
    if (strlen(text) >= sizeof plain)
        return false;
    snprintf(plain, sizeof plain, "%s", text);
    char *percent = strchr(plain, '%'); /* fe80::1%eth0 */
    if (percent) {
        *percent = 0;
        zone = if_nametoindex(percent + 1);
    }
    if (inet_pton(AF_INET6, plain, ip) != 1 || (percent && !zone))
        return false;
    endpoints_add(endpoints, AF_INET6, ip, zone, port);
    return true;
}
