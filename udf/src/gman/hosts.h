/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The text of /etc/hosts and /etc/resolv.conf. No I/O.
 */
#ifndef HOSTS_H
#define HOSTS_H

#include "address.h"
#include "endpoint.h"

enum { NAME_SERVERS_MAX = 3, SEARCH_MAX = 6 }; /* the limits of the system's resolver */

struct resolver {
    struct endpoints servers;
    char search[SEARCH_MAX][HOST_MAX + 1]; /* domains to append to a name */
    size_t search_count;
    unsigned dots, attempts,
        timeout; /* names with this many dots are first tried unchanged; the timeout is in seconds */
};

/* Add the addresses of a name (in lower case) to out. */
void hosts_find(const char *text, size_t length, const char *host, in_port_t port, struct endpoints *out);
/* port: of the name servers. */
void resolver_parse(const char *text, size_t length, in_port_t port, struct resolver *out);

#endif
