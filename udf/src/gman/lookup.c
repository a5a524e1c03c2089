/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE /* getaddrinfo_a, EAI_NODATA */
#include "lookup.h"

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wait.h"

/* Until the next look at a lookup that is waited for. */
static const int64_t pause = 2 * 1000000;

struct lookup {
    struct lookup *next; /* among the abandoned ones */
    struct gaicb request;
    struct addrinfo hints;
    struct address address;
};

/* Lookups that were not finished when nobody needed them any more: the resolver still writes into them. */
static struct lookup *abandoned;
static pthread_mutex_t abandoned_lock = PTHREAD_MUTEX_INITIALIZER;

static void take(const struct addrinfo *found, struct endpoints *out) {
    for (out->count = 0; found && out->count < ENDPOINTS_MAX; found = found->ai_next) {
        struct endpoint *endpoint = &out->list[out->count];
        if (found->ai_addrlen > sizeof endpoint->address)
            continue;
        memcpy(&endpoint->address, found->ai_addr, found->ai_addrlen);
        endpoint->length = found->ai_addrlen;
        out->count++;
    }
}

/* An IP address is nothing to wait for. It has no endpoint when its zone does not exist. */
static void take_numeric(const struct address *address, struct endpoints *found) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *result = NULL;
    if (getaddrinfo(address->host, address->port, &hints, &result) == 0) {
        take(result, found);
        freeaddrinfo(result);
    }
}

static void discard(struct lookup *lookup) {
    if (lookup->request.ar_result)
        freeaddrinfo(lookup->request.ar_result);
    free(lookup);
}

/* Free those that are finished by now. */
static void free_abandoned(void) {
    pthread_mutex_lock(&abandoned_lock);
    for (struct lookup **link = &abandoned; *link;) {
        struct lookup *one = *link;
        if (gai_error(&one->request) == EAI_INPROGRESS) {
            link = &one->next;
            continue;
        }
        *link = one->next;
        discard(one);
    }
    pthread_mutex_unlock(&abandoned_lock);
}

/* NULL: out of memory. */
static struct lookup *begin(const struct address *address) {
    free_abandoned();
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return NULL;
    /* Its threads must not lose their code when this library is unloaded. Since glibc 2.34 it is in libc. */
    (void)dlopen("libanl.so.1", RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
    lookup->address = *address;
    address_host(address, lookup->address.host);
    lookup->hints = (struct addrinfo){.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    lookup->request = (struct gaicb){
        .ar_name = lookup->address.host, .ar_service = lookup->address.port, .ar_request = &lookup->hints};
    struct gaicb *requests[] = {&lookup->request};
    if (getaddrinfo_a(GAI_NOWAIT, requests, 1, NULL) == 0)
        return lookup;
    free(lookup);
    return NULL;
}

enum io_result lookup_step(struct lookup **lookup, const struct address *address, int64_t deadline,
                           struct endpoints *found, const char **why) {
    int state = 0;
    if (address->numeric)
        take_numeric(address, found);
    else if (!*lookup && !(*lookup = begin(address)))
        state = EAI_MEMORY;
    while (*lookup && (state = gai_error(&(*lookup)->request)) == EAI_INPROGRESS) {
        int64_t now = clock_ns(), left = deadline - now;
        if (left <= 0 || statement_killed())
            return IO_TIMEOUT;
        socket_wait(-1, 0, now + (left < pause ? left : pause)); /* no descriptor: only the time */
    }
    if (*lookup && state == 0)
        take((*lookup)->request.ar_result, found);
    *why = state == 0 || state == EAI_NONAME || state == EAI_NODATA
               ? failures[FAIL_RESOLVE].text
               : "no name server has answered for the host's name";
    return found->count ? IO_OK : IO_CLOSED;
}

void lookup_free(struct lookup *lookup) {
    if (!lookup)
        return;
    if (gai_cancel(&lookup->request) != EAI_NOTCANCELED) {
        discard(lookup);
        return;
    }
    pthread_mutex_lock(&abandoned_lock);
    lookup->next = abandoned;
    abandoned = lookup;
    pthread_mutex_unlock(&abandoned_lock);
}
