/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An IP address and a port to connect to. A host name can have several.
 */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { ENDPOINTS_MAX = 8 };

struct endpoint {
    struct sockaddr_storage address;
    socklen_t length;
};

struct endpoints {
    size_t count;
    struct endpoint list[ENDPOINTS_MAX];
};

/* ip: 4 or 16 bytes, port in network order. Ignored when the list is full. */
void endpoints_add(struct endpoints *endpoints, int family, const void *ip, uint32_t zone, in_port_t port);
/* A textual address, v4 or v6 with or without a zone. False: not an address. */
bool endpoints_add_text(struct endpoints *endpoints, const char *text, in_port_t port);

#endif
