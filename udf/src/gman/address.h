/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The text of a server list: host, host:port, [v6]:port, separated by commas. No I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "shared/buffer.h"

enum {
    LIST_MAX = 32,  /* servers in one list */
    HOST_MAX = 253, /* bytes of a host's name, as in DNS */
    ADDRESS_MAX = HOST_MAX + 9, /* "[" host "]:" port NUL */
    DEFAULT_PORT = 4730,
};

struct address {
    char host[HOST_MAX + 1]; /* without brackets */
    char port[6];
    char text[ADDRESS_MAX]; /* host:port or [v6]:port, lower case */
    bool numeric;           /* an IP address, so there is no name to resolve */
};

/* A host: a name, or an IP address without brackets. The reason when it is neither. */
const char *address_host_parse(struct slice text, struct address *out);
/* The host without a dot at its end, which neither /etc/hosts nor a certificate knows. */
void address_host(const struct address *address, char host[HOST_MAX + 1]);
/* Parse a list into out[LIST_MAX]. Returns the number of addresses, or -1 with the reason and the entry in
 * message. */
int address_list_parse(struct slice list, struct address *out, char *message, size_t size);
