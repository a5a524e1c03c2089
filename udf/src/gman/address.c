/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static bool digit(char c) { return c >= '0' && c <= '9'; }

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* The entry, shortened and printable, for messages of at most 79 characters. */
static const char *shown(const char *entry, size_t length, char out[33]) {
    size_t n = length > 32 ? 29 : length;
    for (size_t i = 0; i < n; i++)
        out[i] = entry[i] >= 0x20 && entry[i] < 0x7F ? entry[i] : '?';
    memcpy(out + n, length > 32 ? "..." : "", length > 32 ? 4 : 1);
    return out;
}

static const char *parse_port(const char *text, size_t length, struct address *out) {
    unsigned long port = 0;
    if (length == 0 || length > 5)
        return "the port must be 1 to 65535";
    for (size_t i = 0; i < length; i++) {
        if (!digit(text[i]))
            return "the port must be 1 to 65535";
        port = port * 10 + (unsigned long)(text[i] - '0');
    }
    if (port == 0 || port > 65535)
        return "the port must be 1 to 65535";
    snprintf(out->port, sizeof out->port, "%lu", port);
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
        if (!letter(c) && !digit(c) && c != '-' && c != '_' && c != '.')
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
            if (!letter(*c) && !digit(*c) && *c != '-' && *c != '_' && *c != '.')
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

static const char *copy_host(const char *text, size_t length, struct address *out) {
    bool zone = false; /* names of interfaces have upper and lower case */
    if (length > HOST_MAX)
        return "the host name is too long";
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == 0)
            return "a host name consists of letters, digits, - _ .";
        zone |= c == '%';
        out->host[i] = c >= 'A' && c <= 'Z' && !zone ? (char)(c - 'A' + 'a') : c;
    }
    out->host[length] = 0;
    return NULL;
}

static const char *parse_entry(const char *entry, size_t length, struct address *out) {
    memset(out, 0, sizeof *out);
    const char *problem, *end = entry + length, *port = NULL;
    bool v6 = entry[0] == '[';
    if (v6) {
        const char *close = memchr(entry, ']', length);
        if (!close)
            return "the ] is missing";
        if (close + 1 < end) {
            if (close[1] != ':')
                return "after ] only :port may follow";
            port = close + 2;
        }
        problem = copy_host(entry + 1, (size_t)(close - entry - 1), out);
        if (!problem)
            problem = parse_v6(out);
    } else {
        const char *colon = memchr(entry, ':', length);
        if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1)))
            return "an IPv6 address must be in [ ]";
        if (colon)
            port = colon + 1;
        problem = copy_host(entry, (size_t)((colon ? colon : end) - entry), out);
        if (!problem)
            problem = parse_name(out);
    }
    if (problem)
        return problem;
    if (port)
        problem = parse_port(port, (size_t)(end - port), out);
    else
        snprintf(out->port, sizeof out->port, "%d", DEFAULT_PORT);
    snprintf(out->text, sizeof out->text, v6 ? "[%s]:%s" : "%s:%s", out->host, out->port);
    return problem;
}

int address_list_parse(const char *list, size_t length, struct address *out, char *message, size_t size) {
    const char *at = list, *end = list + length;
    int count = 0;
    while (at < end && blank(*at))
        at++;
    if (at == end)
        return 0;
    for (;;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *start = at, *stop = comma ? comma : end;
        while (start < stop && blank(*start))
            start++;
        while (stop > start && blank(stop[-1]))
            stop--;
        char name[33];
        if (start == stop) {
            snprintf(message, size, "server list: entry %d is empty", count + 1);
            return -1;
        }
        if (count == LIST_MAX) {
            snprintf(message, size, "server list: more than %d servers", LIST_MAX);
            return -1;
        }
        const char *problem = parse_entry(start, (size_t)(stop - start), &out[count]);
        if (problem) {
            snprintf(message, size, "'%s': %s", shown(start, (size_t)(stop - start), name), problem);
            return -1;
        }
        for (int i = 0; i < count; i++)
            if (strcmp(out[i].text, out[count].text) == 0) {
                snprintf(message, size, "'%s' is in the list twice",
                         shown(start, (size_t)(stop - start), name));
                return -1;
            }
        count++;
        if (!comma)
            return count;
        at = comma + 1;
    }
}
