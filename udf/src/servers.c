/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "servers.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "settings.h"

/* Guards the lists, references, breakers, pools and addresses. Nobody waits for anything while holding it. */
pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;

static struct server *all_servers;
static struct server_list *all_lists;

const struct server_list *servers_lists(void) { return all_lists; }

const char *failure_name(enum failure_kind kind) {
    static const char *const names[FAILURE_KINDS] = {"resolve", "connect", "timeout", "closed", "protocol", "rejected", "job_failed", "job_timeout", "memory", "tls"};
    return names[kind];
}

static struct server *server_new(const struct address *address) {
    struct server *server = calloc(1, sizeof *server);
    if (!server)
        return NULL;
    server->address = *address;
    return server;
}

static void server_free(struct server *server) {
    while (server->newest) {
        struct connection *connection = server->newest;
        server->newest = connection->older;
        connection_close(connection);
    }
    connection_close(server->probe);
    connection_close(server->wake.connection);
    free(server);
}

bool server_resolve(struct server *server) {
    int64_t began = clock_ns();
    pthread_mutex_lock(&registry_lock);
    bool have = server->endpoint_count > 0;
    bool skip = (have && server->address.numeric) || began < server->resolve_after;
    pthread_mutex_unlock(&registry_lock);
    if (skip)
        return have;

    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | (server->address.numeric ? AI_NUMERICHOST : 0)};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(server->address.host, server->address.port, &hints, &found);
    int64_t now = clock_ns();

    pthread_mutex_lock(&registry_lock);
    /* getaddrinfo has no timeout of its own: a name server that is slow is asked seldom. */
    server->resolve_after = now + 10 * (now - began);
    /* When the name server fails, the addresses that we have are better than none. */
    if (!error) {
        size_t count = 0;
        for (struct addrinfo *one = found; one && count < ENDPOINTS_MAX; one = one->ai_next) {
            if (one->ai_addrlen > sizeof server->endpoints[0].address)
                continue;
            memcpy(&server->endpoints[count].address, one->ai_addr, one->ai_addrlen);
            server->endpoints[count++].length = one->ai_addrlen;
        }
        server->endpoint_count = count;
    }
    have = server->endpoint_count > 0;
    pthread_mutex_unlock(&registry_lock);
    if (found)
        freeaddrinfo(found);
    return have;
}

static void fail(struct server *server, enum failure_kind kind, const char *what, bool trip) {
    struct connection *dropped = NULL;
    atomic_fetch_add(&server->failures[kind], 1);
    pthread_mutex_lock(&registry_lock);
    snprintf(server->last_error, sizeof server->last_error, "%s", what);
    if (trip && breaker_trip(&server->breaker, clock_ns(), setting_ns(BREAKER_RETRY_MS))) {
        dropped = server->newest;
        server->newest = server->oldest = NULL;
        server->idle = 0;
    }
    pthread_mutex_unlock(&registry_lock);
    while (dropped) {
        struct connection *older = dropped->older;
        connection_close(dropped);
        dropped = older;
    }
}

void server_failed(struct server *server, enum failure_kind kind, const char *what) { fail(server, kind, what, true); }

void server_noted(struct server *server, enum failure_kind kind, const char *what) { fail(server, kind, what, false); }

/* With the lock held. The servers that nobody needs any more, to be freed without it. */
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
        else if (strlen(list->function) == function.length && memcmp(list->function, function.data, function.length) == 0)
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

static struct server_list *list_new(const char *function, const struct address *addresses, size_t count, struct buffer *text) {
    for (size_t i = 0; i < count; i++) {
        if (i)
            buffer_byte(text, ',');
        buffer_text(text, addresses[i].text);
    }
    buffer_byte(text, 0);
    if (text->failed)
        return NULL;
    text->length--;
    struct server_list *list = calloc(1, sizeof *list + count * sizeof list->servers[0]);
    if (!list)
        return NULL;
    snprintf(list->function, sizeof list->function, "%s", function);
    list->text = strdup(text->data);
    if (!list->text) {
        free(list);
        return NULL;
    }
    return list;
}

static void list_free(struct server_list *list) {
    if (list)
        free(list->text);
    free(list);
}

bool servers_set(const char *function, const struct address *addresses, size_t count, struct buffer *text) {
    struct server_list *list = list_new(function, addresses, count, text);
    struct server *unused = NULL;
    bool enough = list != NULL;
    if (list) {
        pthread_mutex_lock(&registry_lock);
        for (; list->count < count; list->count++) {
            struct server *server = find_server(addresses[list->count].text);
            if (!server) {
                server = server_new(&addresses[list->count]);
                if (!server)
                    break;
                server->next = all_servers;
                all_servers = server;
            }
            server->references++;
            list->servers[list->count] = server;
        }
        pthread_mutex_unlock(&registry_lock);
        enough = list->count == count;
    }
    if (!enough) {
        if (list)
            servers_release(list->servers, list->count);
        list_free(list);
        return false;
    }

    /* The list holds references, so the servers stay while their names are looked up. */
    for (size_t i = 0; i < count; i++)
        if (!server_resolve(list->servers[i]))
            server_failed(list->servers[i], FAIL_RESOLVE, "the host's name has no address");

    pthread_mutex_lock(&registry_lock);
    struct server_list **link = &all_lists;
    while (*link && strcmp((*link)->function, function) != 0)
        link = &(*link)->next;
    struct server_list *old = *link;
    if (count) {
        list->next = old ? old->next : NULL;
        *link = list;
    } else if (old) {
        *link = old->next;
    }
    if (old)
        unused = drop_references(old->servers, old->count);
    pthread_mutex_unlock(&registry_lock);
    free_servers(unused);
    list_free(old);
    if (!count)
        list_free(list);
    return true;
}

void servers_unload(void) {
    /* The server unloads the library only when no call is under way, so nothing else uses these. */
    while (all_lists) {
        struct server_list *list = all_lists;
        all_lists = list->next;
        list_free(list);
    }
    free_servers(all_servers);
    all_servers = NULL;
}
