/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a connection goes to: an IP address and a port. A host's name can stand for several.
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

/* ip: 4 or 16 bytes, port in network order. What is one too many is left out. */
void endpoints_add(struct endpoints *endpoints, int family, const void *ip, uint32_t zone, in_port_t port);
/* An address in its text form, v4 or v6 with or without a zone. False: it is none. */
bool endpoints_add_text(struct endpoints *endpoints, const char *text, in_port_t port);

#endif
