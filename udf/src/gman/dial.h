/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The way to a ready connection, in stages that each continue from call to call: look the name up, connect,
 * TLS handshake, and for a probe the answer to an ECHO. It goes through the addresses until one is ready.
 *
 * A call that needs a connection waits until the dial ends, the breaker's probe for a moment, and gman_wake
 * not at all.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connection.h"
#include "failure.h"
#include "lookup.h"

struct server;

enum dial_stage { DIAL_RESOLVE, DIAL_BEGIN, DIAL_CONNECT, DIAL_SECURE, DIAL_ASK, DIAL_ANSWER, DIAL_READY };

/* Zeroed: a dial that has not begun. */
struct dial {
    bool look_up;   /* the server could not be reached: its name may have other addresses now */
    bool echo;      /* ready means that it has answered an ECHO */
    int64_t limit;  /* the dial ends before this time; 0: none, but connect_timeout_ms applies always */
    enum dial_stage stage;
    struct connection *connection; /* NULL: none yet */
    struct endpoints endpoints;
    size_t tried, next; /* of the endpoints. The next dial begins where this one ends */
    int64_t deadline;   /* of the attempts together */
    int64_t until;      /* of this attempt */
};

/* Continue, and wait until the given time at most (0: not at all). IO_OK: ready. IO_TIMEOUT: under way, call
 * again. Otherwise no address could be reached, the reason is in failure, and the dial has ended. */
enum io_result dial_step(struct dial *dial, struct server *server, int64_t wait, struct failure *failure);
/* End it when it is ready, without closing the connection. */
struct connection *dial_take(struct dial *dial);
/* End it, and close its connection. */
void dial_end(struct dial *dial);
