/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The job servers of all lists: one object per address, however many lists contain it, so that all threads of
 * the database server share its connections, breaker and counters.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "address.h"
#include "breaker.h"
#include "connection.h"
#include "dial.h"
#include "lookup.h"
#include "shared/buffer.h"

/* The connection for gman_wake: guarded by a separate lock, see gman_wake.c. */
struct wake_line {
    struct dial dial;
    bool lost; /* a connection has failed since the last answer: the name may have other addresses now */
    int64_t began; /* when the dial began */
    int64_t unanswered_since; /* the first packet since the last answer; 0: all are answered */
    int64_t not_before; /* after a failure: when to connect again */
};

/* What gman_stats() counts beside the failures. */
enum counter {
    CONNECTS,
    RECONNECTS,
    STALE_CONNECTIONS,
    REFUSED,
    JOBS_SENT,
    WAKES_SENT,
    WAKES_DROPPED,
    COUNTERS
};

struct server {
    LIST_ENTRY(server) others;
    unsigned references;
    struct address address;

    struct endpoints endpoints;
    struct lookup *lookup; /* of the name, while it is under way */
    bool looking; /* a thread is working on it */
    int64_t lookup_after; /* the next one does not begin before this time */

    struct breaker breaker;
    struct connections kept; /* idle connections: taken and put back at the newest end, the first */
    size_t idle;

    /* Used only by the thread that probes. */
    struct dial probe;
    bool probing; /* begun by an earlier call */

    struct wake_line wake;

    char last_error[128]; /* guarded by the registry's lock */
    atomic_long busy, lost; /* connections in use; lost ones that are not replaced yet */
    atomic_ullong counts[COUNTERS], failures[FAILURE_KINDS];
};

/* One list per function name; "" is the list for all functions without one. */
struct server_list {
    struct server_list *next;
    char function[FUNCTION_MAX + 1];
    size_t count;
    struct server *servers[];
};

/* Guards the lists, references, breakers, pools and addresses. Never wait while holding it. */
extern pthread_mutex_t registry_lock;
extern struct server_list *server_lists;

/* Replace a function's list; count 0 removes it. Names are looked up before it takes effect, for some seconds
 * at most; the probes look the remaining ones up. Returns the reason when the old list stays. */
const char *servers_set(struct slice function, const struct address *addresses, size_t count,
                        struct buffer *text);
/* The function's servers in order, with one more reference each. */
size_t servers_take(struct slice function, struct server *out[LIST_MAX]);
void servers_release(struct server *const *servers, size_t count);
/* Its text, as gman_servers_set returns it. */
void servers_write(const struct server_list *list, struct buffer *out);
/* Close and free everything: the library is being unloaded. */
void servers_unload(void);

/* A usable connection, kept or new, through the breaker; NULL when the server cannot be reached now. Waits
 * until the deadline at most. The caller ends with pool_put or pool_drop. */
struct connection *pool_take(struct server *server, int64_t deadline);
/* Only without an outstanding answer. */
void pool_put(struct server *server, struct connection *connection);
/* Close a connection that is lost or not usable. */
void pool_drop(struct server *server, struct connection *connection);
/* Close connections of all servers that have been idle for too long. */
void pool_trim(void);

/* Begin the lookup of the name when it is due, or continue it, until the deadline (0: without waiting). Known
 * addresses stay until there are new ones. IO_TIMEOUT: call again. Never with the lock held. */
enum io_result server_lookup(struct server *server, int64_t deadline);
void server_endpoints(struct server *server, struct endpoints *out);
/* A connection was made, or was lost. */
void server_connected(struct server *server);
void server_lost(struct server *server);
/* It accepted or rejected a job: it works. */
void server_works(struct server *server, struct pass *pass);
/* A failure of the server: count and record it, open the breaker, close the idle connections. Without a pass,
 * or when the statement was killed, it proves nothing about the server: only count and record it. */
void server_failed(struct server *server, struct pass *pass, enum failure_kind kind, const char *what);
