/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The addresses of a host's name without waiting for them: /etc/hosts, then DNS. A lookup goes on from call to call.
 * getaddrinfo has no timeout, and there is no thread of our own that could wait for it.
 */
#ifndef LOOKUP_H
#define LOOKUP_H

#include "address.h"
#include "endpoint.h"

struct lookup;

enum lookup_result {
    LOOKUP_DONE,
    LOOKUP_WAIT,    /* nothing more until the deadline */
    LOOKUP_NO_NAME, /* there is none */
    LOOKUP_FAILED,  /* no name server could say */
};

/* Reads the two files, which is all that it does. NULL: out of memory. */
struct lookup *lookup_new(const struct address *address);
/* Send and take what can be sent and taken until the deadline (a time of clock_ns(); 0: only what needs no wait). */
enum lookup_result lookup_step(struct lookup *lookup, int64_t deadline, struct endpoints *found);
void lookup_free(struct lookup *lookup);

#endif
