/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CREATE FUNCTION gman_stats RETURNS STRING SONAME 'libgearman_mysql_udf.so';
 *
 * gman_stats()
 * Returns one JSON object: version, settings, changed_settings, server_lists, servers (state, counters and last error of each),
 *   jobs and wakes. README.md explains every member.
 * Errors: none; NULL when out of memory.
 * Cost: microseconds; it also closes connections that have been idle for longer than pool_idle_ms.
 */
#include "gman.h"
#include "settings.h"
#include "shared/text.h"

#include <string.h>

enum { STATS_MAX = 16 * 1024 * 1024 };

static const char *const counters[COUNTERS] = {"connects",  "reconnects", "stale_connections", "refused",
                                               "jobs_sent", "wakes_sent", "wakes_dropped"};

static const char *const states[] = {"closed", "open", "half-open"};

static void write_text(struct buffer *out, const char *text) {
    if (text[0])
        text_quote(out, text, strlen(text));
    else
        buffer_text(out, "null");
}

static void write_server(struct buffer *out, const struct server_list *list, struct server *server) {
    buffer_text(out, "{\"address\":");
    text_quote(out, server->address.text, strlen(server->address.text));
    buffer_text(out, ",\"functions\":");
    write_text(out, list->function);
    buffer_format(out, ",\"state\":\"%s\",\"breaker_openings\":%llu", states[server->breaker.state],
                  (unsigned long long)server->breaker.openings);
    buffer_format(out, ",\"busy_connections\":%ld,\"idle_connections\":%zu", atomic_load(&server->busy),
                  server->idle);
    for (int i = 0; i < COUNTERS; i++)
        buffer_format(out, ",\"%s\":%llu", counters[i], atomic_load(&server->counts[i]));
    buffer_text(out, ",\"failures\":{");
    for (int kind = 0; kind < FAILURE_KINDS; kind++)
        buffer_format(out, kind ? ",\"%s\":%llu" : "\"%s\":%llu", failures[kind].name,
                      atomic_load(&server->failures[kind]));
    buffer_text(out, "},\"last_error\":");
    write_text(out, server->last_error);
    buffer_byte(out, '}');
}

static void write_servers(struct buffer *out) {
    pthread_mutex_lock(&registry_lock);
    const struct server_list *first = server_lists, *list;
    buffer_text(out, ",\"server_lists\":{");
    for (list = first; list; list = list->next) {
        buffer_text(out, list == first ? "" : ",");
        text_quote(out, list->function, strlen(list->function));
        buffer_text(out, ":\"");
        servers_write(list, out);
        buffer_byte(out, '"');
    }
    buffer_text(out, "},\"servers\":[");
    for (list = first; list; list = list->next) /* a list has servers */
        for (size_t i = 0; i < list->count; i++) {
            buffer_text(out, list == first && i == 0 ? "" : ",");
            write_server(out, list, list->servers[i]);
        }
    pthread_mutex_unlock(&registry_lock);
    buffer_byte(out, ']');
}

static bool row(struct udf_call *call) {
    struct buffer *out = &call->out;
    pool_trim();
    buffer_text(out, "{\"version\":\"" GMAN_VERSION "\",\"settings\":");
    settings_write(out);
    buffer_text(out, ",\"changed_settings\":");
    settings_write_changed(out);
    write_servers(out);
    buffer_format(out, ",\"jobs\":{\"failed\":%llu,\"without_server\":%llu}", atomic_load(&jobs_failed),
                  atomic_load(&jobs_without_server));
    buffer_format(out, ",\"wakes\":{\"sent\":%llu,\"skipped\":%llu,\"dropped\":%llu}}",
                  atomic_load(&wake_counts[WAKE_SENT]), atomic_load(&wake_counts[WAKE_SKIPPED]),
                  atomic_load(&wake_counts[WAKE_DROPPED]));
    return true;
}

UDF_TEXT(gman_stats, .usage = "no arguments", .limit = STATS_MAX, .each_row = true, .row = row)
