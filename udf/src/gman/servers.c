/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "servers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settings.h"
#include "shared/text.h"
#include "wait.h"

pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;

/* How long gman_servers_set may take for all its names together, so that mysqld's start does not wait for a
 * name server that hangs. */
static const int64_t lookup_budget = 5LL * 1000000000;

enum { LISTS_MAX = 64 }; /* every job looks its function up in them */

static LIST_HEAD(, server) all_servers;
struct server_list *server_lists;

/* --- addresses --- */

void server_endpoints(struct server *server, struct endpoints *out) {
    pthread_mutex_lock(&registry_lock);
    *out = server->endpoints;
    pthread_mutex_unlock(&registry_lock);
}

enum io_result server_lookup(struct server *server, int64_t deadline) {
    pthread_mutex_lock(&registry_lock);
    bool known = server->endpoints.count > 0, mine = !server->looking;
    struct lookup *lookup = server->lookup;
    enum io_result result = server->looking ? IO_TIMEOUT : known ? IO_OK : IO_CLOSED;
    mine = mine && !(known && server->address.numeric) && (lookup || clock_ns() >= server->lookup_after);
    server->looking |= mine;
    pthread_mutex_unlock(&registry_lock);
    if (!mine)
        return result;

    struct endpoints found = {.count = 0};
    const char *why;
    result = lookup_step(&lookup, &server->address, deadline, &found, &why);
    if (result == IO_CLOSED)
        server_failed(server, NULL, FAIL_RESOLVE, why);
    pthread_mutex_lock(&registry_lock);
    server->looking = false;
    server->lookup = result == IO_TIMEOUT ? lookup : NULL;
    if (result == IO_OK)
        server->endpoints = found;
    /* Less than the pause between two probes, so that each probe has a lookup. */
    if (result != IO_TIMEOUT)
        server->lookup_after = clock_ns() + setting_ns(BREAKER_RETRY_MS) / 2;
    pthread_mutex_unlock(&registry_lock);
    if (result != IO_TIMEOUT)
        lookup_free(lookup);
    return result;
}

/* For gman_servers_set. Without an address the breaker opens, and the probes look the name up again. */
static void resolve_now(struct server *server, int64_t deadline) {
    server_lookup(server, deadline);
    pthread_mutex_lock(&registry_lock);
    struct pass pass = {.closings = server->breaker.closings};
    if (server->endpoints.count == 0)
        breaker_trip(&server->breaker, &pass, clock_ns(), setting_ns(BREAKER_RETRY_MS));
    pthread_mutex_unlock(&registry_lock);
}

/* --- events of a server --- */

void server_connected(struct server *server) {
    atomic_fetch_add(&server->counts[CONNECTS], 1);
    long lost = atomic_load(&server->lost);
    while (lost > 0 && !atomic_compare_exchange_weak(&server->lost, &lost, lost - 1)) {
    }
    if (lost > 0)
        atomic_fetch_add(&server->counts[RECONNECTS], 1);
}

void server_lost(struct server *server) { atomic_fetch_add(&server->lost, 1); }

void server_works(struct server *server, struct pass *pass) {
    if (!pass->trial)
        return;
    pthread_mutex_lock(&registry_lock);
    if (breaker_works(&server->breaker, pass))
        server->last_error[0] = 0;
    pthread_mutex_unlock(&registry_lock);
}

void server_failed(struct server *server, struct pass *pass, enum failure_kind kind, const char *what) {
    struct connections dropped = TAILQ_HEAD_INITIALIZER(dropped);
    if (statement_killed()) {
        pass = NULL;
        kind = FAIL_KILLED;
        what = failures[kind].text;
    }
    atomic_fetch_add(&server->failures[kind], 1);
    pthread_mutex_lock(&registry_lock);
    snprintf(server->last_error, sizeof server->last_error, "%s", what);
    if (pass && breaker_trip(&server->breaker, pass, clock_ns(), setting_ns(BREAKER_RETRY_MS))) {
        TAILQ_CONCAT(&dropped, &server->kept, others);
        atomic_fetch_add(&server->lost, (long)server->idle);
        server->idle = 0;
    }
    pthread_mutex_unlock(&registry_lock);
    connections_close(&dropped);
}

/* --- lists --- */

void servers_release(struct server *const *servers, size_t count) {
    LIST_HEAD(, server) unused = LIST_HEAD_INITIALIZER(unused);
    pthread_mutex_lock(&registry_lock);
    for (size_t i = 0; i < count; i++)
        if (--servers[i]->references == 0) {
            LIST_REMOVE(servers[i], others);
            LIST_INSERT_HEAD(&unused, servers[i], others);
        }
    pthread_mutex_unlock(&registry_lock);
    for (struct server *server; (server = LIST_FIRST(&unused));) {
        LIST_REMOVE(server, others);
        connections_close(&server->kept);
        dial_end(&server->probe);
        dial_end(&server->wake.dial);
        lookup_free(server->lookup);
        free(server);
    }
}

static const struct server_list *find_list(struct slice function) {
    const struct server_list *common = NULL;
    for (const struct server_list *list = server_lists; list; list = list->next) {
        if (list->function[0] == 0)
            common = list;
        else if (text_is(function, list->function))
            return list;
    }
    return common;
}

size_t servers_take(struct slice function, struct server *out[LIST_MAX]) {
    size_t count = 0;
    pthread_mutex_lock(&registry_lock);
    const struct server_list *list = find_list(function);
    for (; list && count < list->count; count++) {
        out[count] = list->servers[count];
        out[count]->references++;
    }
    pthread_mutex_unlock(&registry_lock);
    return count;
}

static struct server *find_server(const char *text) {
    struct server *server = LIST_FIRST(&all_servers);
    while (server && strcmp(server->address.text, text) != 0)
        server = LIST_NEXT(server, others);
    return server;
}

void servers_write(const struct server_list *list, struct buffer *out) {
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            buffer_byte(out, ',');
        buffer_text(out, list->servers[i]->address.text);
    }
}

static void list_discard(struct server_list *list) {
    if (list)
        servers_release(list->servers, list->count);
    free(list);
}

/* A reference to each server, known or new. False: out of memory. */
static bool list_fill(struct server_list *list, const struct address *addresses, size_t count) {
    pthread_mutex_lock(&registry_lock);
    for (; list->count < count; list->count++) {
        struct server *server = find_server(addresses[list->count].text);
        if (!server) {
            server = calloc(1, sizeof *server);
            if (!server)
                break;
            server->address = addresses[list->count];
            TAILQ_INIT(&server->kept);
            LIST_INSERT_HEAD(&all_servers, server, others);
        }
        server->references++;
        server->lookup_after = 0;
        list->servers[list->count] = server;
    }
    pthread_mutex_unlock(&registry_lock);
    return list->count == count;
}

/* Put a list in the place of the function's old one, or, when it is empty, only remove that. With the
 * registry's lock held. The reason when nothing was done. */
static const char *list_put(struct server_list *list, struct server_list **old) {
    struct server_list **link = &server_lists;
    size_t others = 0;
    for (; *link && strcmp((*link)->function, list->function) != 0; link = &(*link)->next)
        others++;
    if (!*link && list->count && others >= LISTS_MAX)
        return "there are as many lists as there may be";
    *old = *link;
    if (*link)
        *link = (*link)->next;
    if (list->count) {
        list->next = *link;
        *link = list;
    }
    return NULL;
}

const char *servers_set(struct slice function, const struct address *addresses, size_t count,
                        struct buffer *text) {
    if (settings_latch())
        return settings_latch();
    struct server_list *list = calloc(1, sizeof *list + count * sizeof list->servers[0]), *old = NULL;
    if (!list || !list_fill(list, addresses, count)) {
        list_discard(list);
        return "out of memory";
    }
    if (function.length)
        memcpy(list->function, function.data, function.length);
    servers_write(list, text);
    /* The list holds references, so the servers are not freed during the lookups. */
    int64_t deadline = clock_ns() + lookup_budget;
    for (size_t i = 0; i < count; i++)
        resolve_now(list->servers[i], deadline);

    pthread_mutex_lock(&settings_lock);
    const char *problem = settings_latch();
    pthread_mutex_lock(&registry_lock);
    if (!problem)
        problem = list_put(list, &old);
    pthread_mutex_unlock(&registry_lock);
    pthread_mutex_unlock(&settings_lock);
    list_discard(old);
    if (problem || !count)
        list_discard(list);
    return problem;
}

void servers_unload(void) {
    /* The server unloads the library only when no call is running: the lists hold the last references. */
    while (server_lists) {
        struct server_list *list = server_lists;
        server_lists = list->next;
        list_discard(list);
    }
}
