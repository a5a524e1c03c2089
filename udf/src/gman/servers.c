/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "servers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settings.h"
#include "shared/text.h"
#include "wait.h"

/* Guards the lists, references, breakers, pools and addresses. Never wait while holding it. */
pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;

/* How long gman_servers_set may take for all its names together, so that mysqld's start does not wait for a
 * name server that hangs. */
static const int64_t lookup_budget = 5LL * 1000000000;

enum { LISTS_MAX = 64 }; /* every job looks its function up in them */

static struct server *all_servers;
static struct server_list *all_lists;

const struct server_list *servers_lists(void) { return all_lists; }

static void server_free(struct server *server) {
    connections_close(server->newest);
    dial_end(&server->probe);
    dial_end(&server->wake.dial);
    lookup_free(server->lookup);
    free(server);
}

/* --- addresses --- */

void server_endpoints(struct server *server, struct endpoints *out) {
    pthread_mutex_lock(&registry_lock);
    *out = server->endpoints;
    pthread_mutex_unlock(&registry_lock);
}

/* Look the name up, or continue with that. An IP address is nothing to wait for. */
static enum lookup_result look_up(const struct address *address, struct lookup **lookup, int64_t deadline,
                                  struct endpoints *found) {
    if (address->numeric)
        return lookup_numeric(address, found) ? LOOKUP_DONE : LOOKUP_NO_NAME;
    if (!*lookup)
        *lookup = lookup_new(address);
    return *lookup ? lookup_step(*lookup, deadline, found) : LOOKUP_FAILED;
}

enum lookup_result server_lookup(struct server *server, int64_t deadline) {
    pthread_mutex_lock(&registry_lock);
    bool known = server->endpoints.count > 0, mine = !server->looking;
    struct lookup *lookup = server->lookup;
    enum lookup_result result = server->looking ? LOOKUP_WAIT : known ? LOOKUP_DONE : LOOKUP_FAILED;
    mine = mine && !(known && server->address.numeric) && (lookup || clock_ns() >= server->lookup_after);
    server->looking |= mine;
    pthread_mutex_unlock(&registry_lock);
    if (!mine)
        return result;

    struct endpoints found = {.count = 0};
    result = look_up(&server->address, &lookup, deadline, &found);
    if (result == LOOKUP_NO_NAME)
        server_failed(server, NULL, FAIL_RESOLVE, failure_text(FAIL_RESOLVE));
    else if (result == LOOKUP_FAILED)
        server_failed(server, NULL, FAIL_RESOLVE, "no name server has answered for the host's name");
    pthread_mutex_lock(&registry_lock);
    server->looking = false;
    server->lookup = result == LOOKUP_WAIT ? lookup : NULL;
    if (result == LOOKUP_DONE)
        server->endpoints = found;
    /* Less than the pause between two probes, so that each probe has a lookup. */
    if (result != LOOKUP_WAIT)
        server->lookup_after = clock_ns() + setting_ns(BREAKER_RETRY_MS) / 2;
    pthread_mutex_unlock(&registry_lock);
    if (result != LOOKUP_WAIT)
        lookup_free(lookup);
    return result;
}

/* For gman_servers_set. Without an address the breaker opens, and the probes look the name up again. */
static void resolve_now(struct server *server, int64_t deadline) {
    pthread_mutex_lock(&registry_lock);
    server->lookup_after = 0;
    pthread_mutex_unlock(&registry_lock);
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
    struct connection *dropped = NULL;
    atomic_fetch_add(&server->failures[kind], 1);
    pthread_mutex_lock(&registry_lock);
    snprintf(server->last_error, sizeof server->last_error, "%s", what);
    if (pass && breaker_trip(&server->breaker, pass, clock_ns(), setting_ns(BREAKER_RETRY_MS))) {
        dropped = server->newest;
        atomic_fetch_add(&server->lost, (long)server->idle);
        server->newest = server->oldest = NULL;
        server->idle = 0;
    }
    pthread_mutex_unlock(&registry_lock);
    connections_close(dropped);
}

/* --- lists --- */

/* With the lock held. Returns the servers without references, to be freed after unlocking. */
static struct server *drop_references(struct server *const *servers, size_t count) {
    struct server *unused = NULL;
    for (size_t i = 0; i < count; i++) {
        if (--servers[i]->references > 0)
            continue;
        struct server **link = &all_servers;
        while (*link != servers[i])
            link = &(*link)->next;
        *link = servers[i]->next;
        servers[i]->next = unused;
        unused = servers[i];
    }
    return unused;
}

static void free_servers(struct server *server) {
    while (server) {
        struct server *next = server->next;
        server_free(server);
        server = next;
    }
}

void servers_release(struct server *const *servers, size_t count) {
    pthread_mutex_lock(&registry_lock);
    struct server *unused = drop_references(servers, count);
    pthread_mutex_unlock(&registry_lock);
    free_servers(unused);
}

static const struct server_list *find_list(struct slice function) {
    const struct server_list *common = NULL;
    for (const struct server_list *list = all_lists; list; list = list->next) {
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
    struct server *server = all_servers;
    while (server && strcmp(server->address.text, text) != 0)
        server = server->next;
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
            server->next = all_servers;
            all_servers = server;
        }
        server->references++;
        list->servers[list->count] = server;
    }
    pthread_mutex_unlock(&registry_lock);
    return list->count == count;
}

/* Put a list in the place of the function's old one, or, when it is empty, only remove that. With the
 * registry's lock held. The reason when nothing was done. */
static const char *list_put(struct server_list *list, struct server_list **old) {
    struct server_list **link = &all_lists;
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

    settings_lock();
    const char *problem = settings_latch();
    pthread_mutex_lock(&registry_lock);
    if (!problem)
        problem = list_put(list, &old);
    pthread_mutex_unlock(&registry_lock);
    settings_unlock();
    list_discard(old);
    if (problem || !count)
        list_discard(list);
    return problem;
}

void servers_unload(void) {
    /* The server unloads the library only when no call is running, so nothing else uses these. */
    while (all_lists) {
        struct server_list *list = all_lists;
        all_lists = list->next;
        free(list);
    }
    free_servers(all_servers);
    all_servers = NULL;
}
