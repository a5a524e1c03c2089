/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Looks a host name up without blocking, by the asynchronous resolver of glibc, which has threads of its own for
 * it: with all sources of nsswitch.conf. A lookup continues from call to call, because it has no timeout.
 */
#pragma once

#include <sys/socket.h>

#include "address.h"

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

enum lookup_result {
    LOOKUP_DONE,
    LOOKUP_WAIT,    /* not finished at the deadline */
    LOOKUP_NO_NAME, /* the name has no address */
    LOOKUP_FAILED,  /* no source has answered */
};

/* The endpoint of an IP address. False without one: a zone that does not exist. */
bool lookup_numeric(const struct address *address, struct endpoints *found);
/* Begin a lookup. NULL: out of memory. */
struct lookup *lookup_new(const struct address *address);
/* Look whether it is finished, until the deadline (a time of clock_ns(); 0: do not wait). */
enum lookup_result lookup_step(struct lookup *lookup, int64_t deadline, struct endpoints *found);
void lookup_free(struct lookup *lookup);
