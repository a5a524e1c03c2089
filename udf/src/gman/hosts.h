/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The text of /etc/hosts and /etc/resolv.conf. No I/O.
 */
#ifndef HOSTS_H
#define HOSTS_H

#include "address.h"
#include "endpoint.h"

enum { NAME_SERVERS_MAX = 3, SEARCH_MAX = 6 }; /* as the system's resolver has it */

struct resolver {
    struct endpoints servers;
    char search[SEARCH_MAX][HOST_MAX + 1]; /* what is tried behind a name */
    size_t search_count;
    unsigned dots, attempts, timeout; /* names with so many dots are tried as they stand first; s */
};

/* Add the addresses of a name (in lower case) to out. */
void hosts_find(const char *text, size_t length, const char *host, in_port_t port, struct endpoints *out);
/* port: of the name servers. */
void resolver_parse(const char *text, size_t length, in_port_t port, struct resolver *out);

#endif
