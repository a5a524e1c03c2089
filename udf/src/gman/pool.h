/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The pool of idle connections, and new connections through the circuit breaker.
 */
#pragma once

#include "servers.h"

/* A usable connection, kept or new; NULL when the server cannot be reached now. Waits until the deadline at
 * most. The caller ends with pool_put or pool_drop. */
struct connection *pool_take(struct server *server, int64_t deadline);
/* Only without an outstanding answer. */
void pool_put(struct server *server, struct connection *connection);
/* Close a connection that is lost or not usable. */
void pool_drop(struct server *server, struct connection *connection);
/* Close connections of all servers that have been idle for too long. */
void pool_trim(void);
