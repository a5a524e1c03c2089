/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE /* SOCK_NONBLOCK */
#include "lookup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dns.h"
#include "hosts.h"
#include "wait.h"

/* Only the test build can use other files and another port. */
#ifdef LOOKUP_TEST
#define PLACE(VARIABLE, NORMAL) (getenv(VARIABLE) ? getenv(VARIABLE) : (NORMAL))
#else
#define PLACE(VARIABLE, NORMAL) (NORMAL)
#endif

enum { FILE_MAX = 1024 * 1024, QUESTIONS = 2, PACKETS = 16 };

/* How long a name server may take to answer, unless resolv.conf has a shorter timeout. */
static const int64_t longest_try = 2LL * 1000000000;
/* How long to wait for the addresses of the other family after those of one have arrived: they may never
 * arrive. */
static const int64_t patience = 50LL * 1000000;

struct lookup {
    char host[HOST_MAX + 1];
    in_port_t port;
    struct endpoints hosts; /* from /etc/hosts */
    struct resolver resolver;
    size_t names;                       /* names that were begun */
    struct dns_query query[QUESTIONS];  /* A and AAAA */
    struct endpoints found[QUESTIONS];
    bool answered[QUESTIONS], unable;
    size_t tries; /* for this name; each uses the next name server */
    int fd;       /* of the current try, or -1 */
    int64_t limit;
};

/* The content of a small local file; NULL without one. */
static char *read_file(const char *path, size_t *length) {
    struct stat what;
    *length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    char *text = fstat(fd, &what) == 0 && S_ISREG(what.st_mode) && what.st_size <= FILE_MAX
                     ? malloc((size_t)what.st_size + 1)
                     : NULL;
    while (text && *length < (size_t)what.st_size) {
        ssize_t got = read(fd, text + *length, (size_t)what.st_size - *length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        *length += (size_t)got;
    }
    close(fd);
    return text;
}

static in_port_t port_of(const char *text) { return htons((uint16_t)strtoul(text, NULL, 10)); }

/* Without a domain in resolv.conf, the domain of this machine's name. */
static void own_domain(struct resolver *resolver) {
    char name[HOST_MAX + 1] = "";
    if (resolver->search_count || gethostname(name, sizeof name - 1) != 0)
        return;
    const char *dot = strchr(name, '.');
    if (dot && dot[1])
        snprintf(resolver->search[resolver->search_count++], HOST_MAX + 1, "%s", dot + 1);
}

/* The next name to query: unchanged and with each search domain, in the order that the number of its dots
 * determines. */
static bool next_name(struct lookup *lookup) {
    const struct resolver *resolver = &lookup->resolver;
    size_t length = strlen(lookup->host), dots = 0;
    for (size_t i = 0; i < length; i++)
        dots += lookup->host[i] == '.';
    bool absolute = length && lookup->host[length - 1] == '.', first = dots >= resolver->dots;
    size_t count = absolute ? 1 : resolver->search_count + 1, plain = absolute || first ? 0 : count - 1;
    while (lookup->names < count) {
        size_t index = lookup->names++;
        char name[2 * HOST_MAX + 2];
        if (index == plain)
            snprintf(name, sizeof name, "%s", lookup->host);
        else
            snprintf(name, sizeof name, "%s.%s", lookup->host,
                     resolver->search[plain == 0 ? index - 1 : index]);
        lookup->tries = 0;
        if (dns_query(name, DNS_A, &lookup->query[0]) && dns_query(name, DNS_AAAA, &lookup->query[1]))
            return true;
    }
    return false;
}

struct lookup *lookup_new(const struct address *address) {
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return NULL;
    lookup->fd = -1;
    lookup->port = port_of(address->port);
    snprintf(lookup->host, sizeof lookup->host, "%s", address->host);
    size_t length;
    char *text = read_file(PLACE("GMAN_TEST_HOSTS", "/etc/hosts"), &length);
    if (text)
        hosts_find(text, length, address->host, lookup->port, &lookup->hosts);
    free(text);
    if (lookup->hosts.count == 0) {
        text = read_file(PLACE("GMAN_TEST_RESOLV_CONF", "/etc/resolv.conf"), &length);
        resolver_parse(text ? text : "", length, port_of(PLACE("GMAN_TEST_DNS_PORT", "53")),
                       &lookup->resolver);
        own_domain(&lookup->resolver);
        free(text);
    }
    return lookup;
}

static void hang_up(struct lookup *lookup) {
    if (lookup->fd >= 0)
        close(lookup->fd);
    lookup->fd = -1;
}

void lookup_free(struct lookup *lookup) {
    if (lookup)
        hang_up(lookup);
    free(lookup);
}

/* Send both queries to one name server. The socket is connected: only packets of this server arrive, and a
 * closed port is an error. */
static bool send_to(struct lookup *lookup, const struct endpoint *server) {
    uint16_t ids[QUESTIONS];
    if (getrandom(ids, sizeof ids, GRND_NONBLOCK) != (ssize_t)sizeof ids)
        return false;
    if (ids[0] == ids[1])
        ids[1]++;
    lookup->fd = socket(server->address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (lookup->fd < 0 || connect(lookup->fd, (const struct sockaddr *)&server->address, server->length) != 0)
        return false;
    lookup->unable = false;
    for (int i = 0; i < QUESTIONS; i++) {
        dns_query_id(&lookup->query[i], ids[i]);
        lookup->answered[i] = false;
        lookup->found[i].count = 0;
        if (send(lookup->fd, lookup->query[i].bytes, lookup->query[i].length, MSG_NOSIGNAL | MSG_DONTWAIT) !=
            (ssize_t)lookup->query[i].length)
            return false;
    }
    int64_t time = (int64_t)lookup->resolver.timeout * 1000000000;
    lookup->limit = clock_ns() + (time < longest_try ? time : longest_try);
    return true;
}

/* Begin the next try; false when there is no name server left for this name. */
static bool ask(struct lookup *lookup) {
    const struct endpoints *servers = &lookup->resolver.servers;
    while (lookup->tries < servers->count * lookup->resolver.attempts) {
        if (send_to(lookup, &servers->list[lookup->tries++ % servers->count]))
            return true;
        hang_up(lookup);
    }
    return false;
}

enum reply { REPLY_WAIT, REPLY_COMPLETE, REPLY_USELESS };

static bool any_found(const struct lookup *lookup) {
    return lookup->found[0].count || lookup->found[1].count;
}

/* Process the packets that have arrived. */
static enum reply take_replies(struct lookup *lookup) {
    unsigned char packet[DNS_ANSWER_MAX];
    for (int i = 0; i < PACKETS; i++) {
        ssize_t got = recv(lookup->fd, packet, sizeof packet, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? REPLY_WAIT : REPLY_USELESS;
        for (int q = 0; q < QUESTIONS; q++) {
            enum dns_verdict verdict =
                lookup->answered[q]
                    ? DNS_OTHER
                    : dns_answer(&lookup->query[q], packet, (size_t)got, lookup->port, &lookup->found[q]);
            if (verdict == DNS_OTHER)
                continue;
            lookup->answered[q] = true;
            lookup->unable |= verdict == DNS_UNABLE;
            int64_t soon = clock_ns() + patience;
            if (lookup->found[q].count && soon < lookup->limit)
                lookup->limit = soon;
        }
        if (lookup->answered[0] && lookup->answered[1])
            return any_found(lookup) || !lookup->unable ? REPLY_COMPLETE : REPLY_USELESS;
    }
    return REPLY_WAIT;
}

/* Each family gets at least half of the list when it has as many addresses. */
static void merge(const struct lookup *lookup, struct endpoints *out) {
    const struct endpoints *four = &lookup->found[0], *six = &lookup->found[1];
    size_t room = ENDPOINTS_MAX - (six->count < ENDPOINTS_MAX / 2 ? six->count : ENDPOINTS_MAX / 2);
    out->count = 0;
    for (size_t i = 0; i < four->count && i < room; i++)
        out->list[out->count++] = four->list[i];
    for (size_t i = 0; i < six->count && out->count < ENDPOINTS_MAX; i++)
        out->list[out->count++] = six->list[i];
}

enum lookup_result lookup_step(struct lookup *lookup, int64_t deadline, struct endpoints *found) {
    if (lookup->hosts.count) {
        *found = lookup->hosts;
        return LOOKUP_DONE;
    }
    if (lookup->names == 0 && !next_name(lookup))
        return LOOKUP_NO_NAME;
    for (;;) {
        if (lookup->fd < 0 && !ask(lookup))
            return LOOKUP_FAILED;
        enum reply reply = take_replies(lookup);
        int64_t now = clock_ns();
        if (reply == REPLY_WAIT && now >= lookup->limit)
            reply = any_found(lookup) ? REPLY_COMPLETE : REPLY_USELESS;
        if (reply == REPLY_WAIT) {
            if (now >= deadline || statement_killed())
                return LOOKUP_WAIT;
            socket_wait(lookup->fd, POLLIN, deadline < lookup->limit ? deadline : lookup->limit);
            continue;
        }
        hang_up(lookup);
        if (reply == REPLY_COMPLETE && any_found(lookup)) {
            merge(lookup, found);
            return LOOKUP_DONE;
        }
        if (reply == REPLY_COMPLETE && !next_name(lookup))
            return LOOKUP_NO_NAME;
        /* Without time left, the next call sends the next packets. */
        if (now >= deadline)
            return LOOKUP_WAIT;
    }
}
