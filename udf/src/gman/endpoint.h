/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An IP address and a port to connect to. A host name can have several.
 */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include <stddef.h>
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

#endif
