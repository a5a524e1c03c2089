/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Looks a host name up without blocking, by the asynchronous resolver of glibc, which has threads of its own for
 * it: with all sources of nsswitch.conf. A lookup continues from call to call, because it has no timeout.
 */
#pragma once

#include <sys/socket.h>

#include "address.h"
#include "failure.h"

enum { ENDPOINTS_MAX = 8 };

/* An IP address and a port to connect to. A host name can have several. */
struct endpoint {
    struct sockaddr_storage address;
    socklen_t length;
};

struct endpoints {
    size_t count;
    struct endpoint list[ENDPOINTS_MAX];
};

struct lookup;

/* Begin a lookup in *lookup or continue it, until the deadline (a time of clock_ns(); 0: do not wait).
 * IO_TIMEOUT: not finished. IO_CLOSED: there is no endpoint, the reason is in *why. */
enum io_result lookup_step(struct lookup **lookup, const struct address *address, int64_t deadline,
                           struct endpoints *found, const char **why);
void lookup_free(struct lookup *lookup);
