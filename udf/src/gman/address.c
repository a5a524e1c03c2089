/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "shared/text.h"

static bool digit(char c) { return c >= '0' && c <= '9'; }

/* Of a host name, or of the name of an interface. */
static bool name_character(char c) {
    return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.';
}

static const char *parse_port(struct slice text, struct address *out) {
    long port;
    if (!text_number(text, 1, 65535, &port))
        return "the port must be 1 to 65535";
    snprintf(out->port, sizeof out->port, "%ld", port);
    return NULL;
}

static const char *parse_name(struct address *out) {
    const char *host = out->host;
    size_t length = strlen(host);
    if (length == 0)
        return "the host is missing";
    bool numbers = true;
    for (size_t i = 0; i < length; i++) {
        char c = host[i];
        if (!name_character(c))
            return "a host name consists of letters, digits, - _ .";
        if (c == '.' && (i == 0 || host[i - 1] == '.'))
            return "a part of the host name is empty";
        numbers = numbers && (digit(c) || c == '.');
    }
    if (host[0] == '-')
        return "a host name must not begin with -";
    if (numbers) {
        struct in_addr ip;
        if (inet_pton(AF_INET, host, &ip) != 1)
            return "not an IPv4 address";
        out->numeric = true;
    }
    return NULL;
}

static const char *parse_v6(struct address *out) {
    struct in6_addr ip;
    char plain[HOST_MAX + 1];
    snprintf(plain, sizeof plain, "%s", out->host);
    char *zone = strchr(plain, '%'); /* fe80::1%eth0 */
    if (zone) {
        for (const char *c = zone + 1; *c; c++)
            if (!name_character(*c))
                return "not an IPv6 address";
        if (!zone[1])
            return "not an IPv6 address";
        *zone = 0;
    }
    if (inet_pton(AF_INET6, plain, &ip) != 1)
        return "not an IPv6 address";
    out->numeric = true;
    return NULL;
}

static const char *copy_host(struct slice text, struct address *out) {
    bool zone = false; /* names of interfaces have upper and lower case */
    if (text.length > HOST_MAX)
        return "the host name is too long";
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == 0)
            return "a host name consists of letters, digits, - _ .";
        zone |= c == '%';
        out->host[i] = c >= 'A' && c <= 'Z' && !zone ? (char)(c - 'A' + 'a') : c;
    }
    out->host[text.length] = 0;
    return NULL;
}

const char *address_host_parse(struct slice text, struct address *out) {
    memset(out, 0, sizeof *out);
    const char *problem = copy_host(text, out);
    if (problem)
        return problem;
    return strchr(out->host, ':') ? parse_v6(out) : parse_name(out);
}

/* The text from start to end. */
static struct slice between(const char *start, const char *end) {
    return (struct slice){start, (size_t)(end - start)};
}

static const char *parse_entry(struct slice entry, struct address *out) {
    const char *problem, *start = entry.data, *end = start + entry.length, *stop;
    bool v6 = *start == '[';
    if (v6) {
        stop = memchr(start++, ']', entry.length);
        if (!stop)
            return "the ] is missing";
        if (stop + 1 < end && stop[1] != ':')
            return "after ] only :port may follow";
    } else {
        stop = memchr(start, ':', entry.length);
        if (stop && memchr(stop + 1, ':', (size_t)(end - stop - 1)))
            return "an IPv6 address must be in [ ]";
        if (!stop)
            stop = end;
    }
    problem = address_host_parse(between(start, stop), out);
    if (problem)
        return problem;
    if (v6 && !strchr(out->host, ':'))
        return "not an IPv6 address";
    const char *colon = v6 ? stop + 1 : stop;
    if (colon < end)
        problem = parse_port(between(colon + 1, end), out);
    else
        snprintf(out->port, sizeof out->port, "%d", DEFAULT_PORT);
    snprintf(out->text, sizeof out->text, v6 ? "[%s]:%s" : "%s:%s", out->host, out->port);
    return problem;
}

int address_list_parse(struct slice list, struct address *out, char *message, size_t size) {
    const char *at = list.data, *end = at + list.length;
    char shown[33];
    if (text_trim(list).length == 0)
        return 0;
    for (int count = 0;; count++) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct slice entry = text_trim(between(at, comma ? comma : end));
        if (entry.length == 0) {
            snprintf(message, size, "server list: entry %d is empty", count + 1);
            return -1;
        }
        if (count == LIST_MAX) {
            snprintf(message, size, "server list: more than %d servers", LIST_MAX);
            return -1;
        }
        const char *problem = parse_entry(entry, &out[count]);
        if (problem) {
            snprintf(message, size, "'%s': %s", text_shown(entry, shown, sizeof shown), problem);
            return -1;
        }
        for (int i = 0; i < count; i++)
            if (strcmp(out[i].text, out[count].text) == 0) {
                snprintf(message, size, "'%s' is in the list twice", text_shown(entry, shown, sizeof shown));
                return -1;
            }
        if (!comma)
            return count + 1;
        at = comma + 1;
    }
}

void address_host(const struct address *address, char host[HOST_MAX + 1]) {
    size_t length = strlen(address->host);
    memcpy(host, address->host, length + 1);
    if (length > 1 && host[length - 1] == '.')
        host[length - 1] = 0;
}
