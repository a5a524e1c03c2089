/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "shared/text.h"

/* Of a host name, or of the name of an interface. */
static const char name_characters[] = "0123456789-_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

static const char *parse_name(struct address *out) {
    const char *host = out->host;
    struct in_addr ip;
    if (!*host)
        return "the host is missing";
    if (host[strspn(host, name_characters)])
        return "a host name consists of letters, digits, - _ .";
    if (*host == '.' || strstr(host, ".."))
        return "a part of the host name is empty";
    if (*host == '-')
        return "a host name must not begin with -";
    out->numeric = !host[strspn(host, "0123456789.")];
    return out->numeric && inet_pton(AF_INET, host, &ip) != 1 ? "not an IPv4 address" : NULL;
}

static const char *parse_v6(struct address *out) {
    struct in6_addr ip;
    char plain[HOST_MAX + 1];
    size_t length = strcspn(out->host, "%"); /* fe80::1%eth0 */
    const char *zone = out->host + length;
    snprintf(plain, sizeof plain, "%.*s", (int)length, out->host);
    out->numeric = inet_pton(AF_INET6, plain, &ip) == 1 &&
                   (!*zone || (zone[1] && !zone[1 + strspn(zone + 1, name_characters)]));
    return out->numeric ? NULL : "not an IPv6 address";
}

const char *address_host_parse(struct slice text, struct address *out) {
    memset(out, 0, sizeof *out);
    if (text.length > HOST_MAX)
        return "the host name is too long";
    memcpy(out->host, text.data, text.length);
    if (strlen(out->host) != text.length)
        return "a host name consists of letters, digits, - _ .";
    for (char *c = out->host; *c && *c != '%'; c++) /* names of interfaces have upper and lower case */
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return strchr(out->host, ':') ? parse_v6(out) : parse_name(out);
}

/* The text from start to end. */
static struct slice between(const char *start, const char *end) {
    return (struct slice){start, (size_t)(end - start)};
}

static const char *parse_entry(struct slice entry, struct address *out) {
    const char *start = entry.data, *end = start + entry.length, *stop;
    long port = DEFAULT_PORT;
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
    const char *problem = address_host_parse(between(start, stop), out);
    if (problem)
        return problem;
    if (v6 && !strchr(out->host, ':'))
        return "not an IPv6 address";
    const char *colon = v6 ? stop + 1 : stop;
    if (colon < end && !text_number(between(colon + 1, end), 1, 65535, &port))
        return "the port must be 1 to 65535";
    snprintf(out->port, sizeof out->port, "%ld", port);
    snprintf(out->text, sizeof out->text, v6 ? "[%s]:%s" : "%s:%s", out->host, out->port);
    return NULL;
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
