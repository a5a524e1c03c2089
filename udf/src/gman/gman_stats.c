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
#include "pool.h"
#include "settings.h"
#include "shared/text.h"
#include "wake.h"

#include <string.h>

UDF_EXPORT udf_bool gman_stats_init(udf_init *initid, udf_args *args, char *message);
UDF_EXPORT char *gman_stats(udf_init *initid, udf_args *args, char *result, unsigned long *length,
                            unsigned char *is_null, unsigned char *error);
UDF_EXPORT void gman_stats_deinit(udf_init *initid);

enum { STATS_MAX = 16 * 1024 * 1024 };

udf_bool gman_stats_init(udf_init *initid, udf_args *args, char *message) {
    if (args->arg_count)
        return udf_refuse(message, "gman_stats takes no arguments");
    initid->maybe_null = 1;
    initid->const_item = 0;
    initid->max_length = STATS_MAX;
    udf_utf8_result(initid);
    if (!udf_buffer_new(initid, STATS_MAX))
        return udf_refuse(message, "gman_stats: out of memory");
    return 0;
}

static void write_server(struct buffer *out, const struct server_list *list, struct server *server) {
    buffer_text(out, "{\"address\":");
    text_quote(out, server->address.text, strlen(server->address.text));
    buffer_text(out, ",\"functions\":");
    if (list->function[0])
        text_quote(out, list->function, strlen(list->function));
    else
        buffer_text(out, "null");
    buffer_format(out, ",\"state\":\"%s\",\"breaker_openings\":%llu", breaker_name(&server->breaker),
                  (unsigned long long)server->breaker.openings);
    buffer_format(
        out,
        ",\"busy_connections\":%ld,\"idle_connections\":%zu,\"connects\":%llu,\"stale_connections\":%llu",
        atomic_load(&server->busy), server->idle, atomic_load(&server->connects),
        atomic_load(&server->stale));
    buffer_format(out, ",\"reconnects\":%llu,\"jobs_sent\":%llu,\"refused\":%llu",
                  atomic_load(&server->reconnects), atomic_load(&server->jobs_sent),
                  atomic_load(&server->refused));
    buffer_format(out, ",\"wakes_sent\":%llu,\"wakes_dropped\":%llu,\"failures\":{",
                  atomic_load(&server->wakes_sent), atomic_load(&server->wakes_dropped));
    for (int kind = 0; kind < FAILURE_KINDS; kind++)
        buffer_format(out, kind ? ",\"%s\":%llu" : "\"%s\":%llu", failure_name((enum failure_kind)kind),
                      atomic_load(&server->failures[kind]));
    buffer_text(out, "},\"last_error\":");
    if (server->last_error[0])
        text_quote(out, server->last_error, strlen(server->last_error));
    else
        buffer_text(out, "null");
    buffer_byte(out, '}');
}

static void write_servers(struct buffer *out) {
    bool first = true;
    pthread_mutex_lock(&registry_lock);
    buffer_text(out, ",\"server_lists\":{");
    for (const struct server_list *list = servers_lists(); list; list = list->next) {
        if (!first)
            buffer_byte(out, ',');
        first = false;
        text_quote(out, list->function, strlen(list->function));
        buffer_byte(out, ':');
        text_quote(out, list->text, strlen(list->text));
    }
    buffer_text(out, "},\"servers\":[");
    first = true;
    for (const struct server_list *list = servers_lists(); list; list = list->next)
        for (size_t i = 0; i < list->count; i++) {
            if (!first)
                buffer_byte(out, ',');
            first = false;
            write_server(out, list, list->servers[i]);
        }
    pthread_mutex_unlock(&registry_lock);
    buffer_byte(out, ']');
}

char *gman_stats(udf_init *initid, udf_args *args UNUSED, char *result, unsigned long *length,
                 unsigned char *is_null, unsigned char *error UNUSED) {
    struct buffer *out = (struct buffer *)(void *)initid->ptr;
    buffer_clear(out);
    pool_trim();
    buffer_text(out, "{\"version\":\"" GMAN_VERSION "\",\"settings\":");
    settings_write(out);
    buffer_text(out, ",\"changed_settings\":");
    settings_write_changed(out);
    write_servers(out);
    buffer_format(out, ",\"jobs\":{\"failed\":%llu,\"without_server\":%llu}", atomic_load(&jobs_failed),
                  atomic_load(&jobs_without_server));
    struct wake_counts wakes = wake_counts();
    buffer_format(out, ",\"wakes\":{\"sent\":%llu,\"skipped\":%llu,\"dropped\":%llu}}", wakes.sent,
                  wakes.skipped, wakes.dropped);
    if (out->failed)
        return udf_null(is_null);
    return udf_answer((struct slice){out->data, out->length}, result, length);
}

void gman_stats_deinit(udf_init *initid) { udf_buffer_free(initid); }
