/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "udf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The interface of loadable functions gives a row function no way to fail a statement: *error only makes
 * NULLs. Both servers export their internal error function; in one that does not, the weak reference is NULL.
 */
extern void my_printf_error(unsigned int number, const char *format, unsigned long flags, ...)
    __attribute__((weak));
extern void mysql_printf_error(unsigned int number, const char *format, int flags,
                               ...) __asm__("_Z15my_printf_errorjPKciz") __attribute__((weak));

enum {
    UNKNOWN_ERROR = 1105,
    LONG_TEXT = 16 * 1024 * 1024, /* bytes that are LONGTEXT in a temporary table */
};

/* The component services of MySQL that are used here. The client's headers lack them. */
struct registry {
    bool (*acquire)(const char *name, void **service);
    bool (*acquire_related)(const char *name, void *service, void **related);
    bool (*release)(void *service);
};

struct metadata {
    bool (*argument_get)(udf_args *args, const char *what, unsigned int index, void **value);
    bool (*result_get)(udf_init *initid, const char *what, void **value);
    bool (*argument_set)(udf_args *args, const char *what, unsigned int index, void *value);
    bool (*result_set)(udf_init *initid, const char *what, void *value);
};

extern const struct registry *registry_acquire(void) __asm__("_Z29mysql_plugin_registry_acquirev")
    __attribute__((weak));
extern int registry_release(const struct registry *registry) __asm__(
    "_Z29mysql_plugin_registry_releasePK16s_mysql_registry") __attribute__((weak));

static char charset[] = "charset", utf8mb4[] = "utf8mb4";

void udf_as_utf8(const struct udf_call *call, unsigned int index) {
    const struct metadata *metadata = call->metadata;
    void *now = NULL;
    /* Binary data has no character set to convert from. */
    if (metadata && !metadata->argument_get(call->args, charset, index, &now) && now &&
        strcmp(now, "binary") != 0 && strcmp(now, utf8mb4) != 0)
        (void)metadata->argument_set(call->args, charset, index, utf8mb4);
}

/* The function's own checks, and the result in UTF-8. False: the statement fails. */
static bool begin_text(struct udf_call *call, udf_init *initid, char *message) {
    const struct udf_function *function = call->function;
    bool open = !function->binary && registry_acquire && registry_release;
    const struct registry *registry = open ? registry_acquire() : NULL;
    void *metadata = NULL;
    if (registry && !registry->acquire("mysql_udf_metadata", &metadata))
        call->metadata = metadata;
    bool good = !function->begin || !function->begin(call, message);
    if (call->metadata) {
        (void)call->metadata->result_set(initid, charset, utf8mb4);
        registry->release(metadata);
    }
    if (registry)
        registry_release(registry);
    call->metadata = NULL;
    return good;
}

bool udf_begin(const struct udf_function *function, udf_init *initid, udf_args *args, char *message) {
    if (udf_count(args, function->fewest, function->most, message, function->name, function->usage))
        return true;
    struct udf_call *call = calloc(1, sizeof *call);
    if (!call)
        return udf_refuse(message, "%s: out of memory", function->name);
    call->function = function;
    call->args = args;
    call->out.limit = function->limit;
    initid->ptr = (char *)call;
    if (!begin_text(call, initid, message)) {
        udf_end(initid);
        return true;
    }
    initid->maybe_null = 1;
    initid->max_length = function->limit < LONG_TEXT ? function->limit : UDF_MAX_LENGTH;
    if (function->each_row)
        initid->const_item = 0;
    return false;
}

char *udf_row(udf_init *initid, udf_args *args, char *result, unsigned long *length, unsigned char *is_null,
              unsigned char *error) {
    struct udf_call *call = (struct udf_call *)(void *)initid->ptr;
    struct buffer *out = &call->out;
    call->args = args;
    call->error = error;
    buffer_clear(out);
    if (!call->function->row(call) || out->failed) {
        *is_null = 1;
        return NULL;
    }
    *length = out->length;
    if (out->length > UDF_RESULT_SIZE)
        return out->data;
    if (out->length)
        memcpy(result, out->data, out->length);
    return result;
}

void udf_end(udf_init *initid) {
    struct udf_call *call = (struct udf_call *)(void *)initid->ptr;
    buffer_free(&call->out);
    free(call->data);
    free(call);
    initid->ptr = NULL;
}

bool udf_refuse(char *message, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, UDF_MESSAGE_SIZE, format, arguments);
    va_end(arguments);
    return true;
}

bool udf_count(const udf_args *args, unsigned int fewest, unsigned int most, char *message, const char *name,
               const char *usage) {
    if (args->arg_count >= fewest && args->arg_count <= most)
        return false;
    return udf_refuse(message, "%s takes %s", name, usage);
}

struct slice udf_argument(const udf_args *args, unsigned int index) {
    if (index >= args->arg_count || !args->args[index])
        return (struct slice){NULL, 0};
    return (struct slice){args->args[index], args->lengths[index]};
}

void udf_as_text(udf_args *args, unsigned int index) { args->arg_type[index] = STRING_RESULT; }

bool udf_constant_text(const udf_args *args, unsigned int index, struct slice *text) {
    if (index >= args->arg_count || !args->args[index] ||
        (args->arg_type[index] != STRING_RESULT && args->arg_type[index] != DECIMAL_RESULT))
        return false;
    *text = udf_argument(args, index);
    return true;
}

bool udf_fail(const struct udf_call *call, const char *format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (my_printf_error)
        my_printf_error(UNKNOWN_ERROR, "%s", 0, text);
    else if (mysql_printf_error)
        mysql_printf_error(UNKNOWN_ERROR, "%s", 0, text);
    else
        *call->error = 1;
    return false;
}
