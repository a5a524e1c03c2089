/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hosts.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line {
    const char *at, *end;
};

/* The next line without its comment; false at the end of the text. */
static bool next_line(const char **text, const char *end, const char *comment, struct line *line) {
    if (*text == end)
        return false;
    const char *stop = memchr(*text, '\n', (size_t)(end - *text));
    *line = (struct line){*text, stop ? stop : end};
    *text = stop ? stop + 1 : end;
    for (const char *c = line->at; c < line->end; c++)
        if (*c && strchr(comment, *c)) {
            line->end = c;
            break;
        }
    return true;
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* The next word in lower case; false when there is none. A word that is too long for a host name is cut, and
 * matches none. */
static bool next_word(struct line *line, char out[HOST_MAX + 2]) {
    while (line->at < line->end && blank(*line->at))
        line->at++;
    size_t length = 0;
    for (; line->at < line->end && !blank(*line->at); line->at++)
        if (length < HOST_MAX + 1)
            out[length++] = *line->at >= 'A' && *line->at <= 'Z' ? (char)(*line->at - 'A' + 'a') : *line->at;
    out[length] = 0;
    return length > 0;
}

void hosts_find(const char *text, size_t length, const char *host, in_port_t port, struct endpoints *out) {
    struct line line;
    char address[HOST_MAX + 2], name[HOST_MAX + 2];
    for (const char *end = text + length; next_line(&text, end, "#", &line);) {
        if (!next_word(&line, address))
            continue;
        while (next_word(&line, name))
            if (strcmp(name, host) == 0) {
                endpoints_add_text(out, address, port);
                break;
            }
    }
}

/* options ndots:2 timeout:1 attempts:3 */
static void read_option(const char *word, const char *name, unsigned low, unsigned high, unsigned *value) {
    size_t length = strlen(name);
    if (strncmp(word, name, length) != 0)
        return;
    unsigned long number = strtoul(word + length, NULL, 10);
    *value = number < low ? low : number > high ? high : (unsigned)number;
}

void resolver_parse(const char *text, size_t length, in_port_t port, struct resolver *out) {
    struct line line;
    char word[HOST_MAX + 2];
    memset(out, 0, sizeof *out);
    out->dots = 1;
    out->attempts = 2;
    out->timeout = 5;
    for (const char *end = text + length; next_line(&text, end, "#;", &line);) {
        if (!next_word(&line, word))
            continue;
        if (strcmp(word, "nameserver") == 0) {
            if (out->servers.count < NAME_SERVERS_MAX && next_word(&line, word))
                endpoints_add_text(&out->servers, word, port);
        } else if (strcmp(word, "search") == 0 || strcmp(word, "domain") == 0) {
            /* The last one wins. */
            for (out->search_count = 0; out->search_count < SEARCH_MAX && next_word(&line, word);)
                if (strlen(word) <= HOST_MAX)
                    snprintf(out->search[out->search_count++], HOST_MAX + 1, "%.*s", HOST_MAX, word);
        } else if (strcmp(word, "options") == 0) {
            while (next_word(&line, word)) {
                read_option(word, "ndots:", 0, 15, &out->dots);
                read_option(word, "attempts:", 1, 5, &out->attempts);
                read_option(word, "timeout:", 1, 30, &out->timeout);
            }
        }
    }
    if (out->servers.count == 0)
        endpoints_add_text(&out->servers, "127.0.0.1", port);
}
