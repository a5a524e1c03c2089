/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Looks a host name up without blocking: /etc/hosts, then DNS. A lookup continues from call to call, because
 * getaddrinfo has no timeout and the library has no thread that could wait for it.
 */
#ifndef LOOKUP_H
#define LOOKUP_H

#include "address.h"
#include "endpoint.h"

struct lookup;

enum lookup_result {
    LOOKUP_DONE,
    LOOKUP_WAIT,    /* not finished at the deadline */
    LOOKUP_NO_NAME, /* the name has no address */
    LOOKUP_FAILED,  /* no name server answered */
};

/* Reads the two files only. NULL: out of memory. */
struct lookup *lookup_new(const struct address *address);
/* Send queries and read responses until the deadline (a time of clock_ns(); 0: do not wait). */
enum lookup_result lookup_step(struct lookup *lookup, int64_t deadline, struct endpoints *found);
void lookup_free(struct lookup *lookup);

#endif
