/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Kept connections, and the way to a new one through the circuit breaker.
 */
#ifndef POOL_H
#define POOL_H

#include "servers.h"

/* A connection that is fit for use, kept or new; NULL when the server cannot be reached now. Waits until the deadline at most. The caller ends with
 * pool_put or pool_drop. */
struct connection *pool_take(struct server *server, int64_t deadline);
/* Only with no answer outstanding. */
void pool_put(struct server *server, struct connection *connection);
/* Close it: lost or of no use. */
void pool_drop(struct server *server, struct connection *connection);
/* Close what has been idle for too long, with all servers of all lists. */
void pool_trim(void);

#endif
