/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "udf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row function has no way to fail a statement in the interface of loadable functions: *error only makes NULLs. Both servers
 * export their own error function to what they load; one that does not leaves the weak reference empty. */
extern void my_printf_error(unsigned int number, const char *format, unsigned long flags, ...) __attribute__((weak));
extern void mysql_printf_error(unsigned int number, const char *format, int flags, ...) __asm__("_Z15my_printf_errorjPKciz") __attribute__((weak));

enum { UNKNOWN_ERROR = 1105 };

udf_bool udf_refuse(char *message, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, UDF_MESSAGE_SIZE, format, arguments);
    va_end(arguments);
    return 1;
}

struct slice udf_argument(const udf_args *args, unsigned int index) {
    if (index >= args->arg_count || !args->args[index])
        return (struct slice){NULL, 0};
    return (struct slice){args->args[index], args->lengths[index]};
}

void udf_as_text(udf_args *args, unsigned int index) { args->arg_type[index] = STRING_RESULT; }

bool udf_constant_text(const udf_args *args, unsigned int index, struct slice *text) {
    if (index >= args->arg_count || !args->args[index] || (args->arg_type[index] != STRING_RESULT && args->arg_type[index] != DECIMAL_RESULT))
        return false;
    *text = udf_argument(args, index);
    return true;
}

void udf_raise(const char *text, unsigned char *error) {
    if (my_printf_error)
        my_printf_error(UNKNOWN_ERROR, "%s", 0, text);
    else if (mysql_printf_error)
        mysql_printf_error(UNKNOWN_ERROR, "%s", 0, text);
    else
        *error = 1;
}

char *udf_answer(struct slice text, char *result, unsigned long *length) {
    *length = text.length;
    if (text.length > UDF_RESULT_SIZE)
        return (char *)(uintptr_t)text.data;
    if (text.length)
        memcpy(result, text.data, text.length);
    return result;
}

char *udf_null(unsigned char *is_null) {
    *is_null = 1;
    return NULL;
}

bool udf_buffer_new(udf_init *initid, size_t limit) {
    struct buffer *buffer = malloc(sizeof *buffer);
    if (buffer)
        buffer_init(buffer, limit);
    initid->ptr = (char *)buffer;
    return buffer != NULL;
}

void udf_buffer_free(udf_init *initid) {
    if (initid->ptr)
        buffer_free((struct buffer *)(void *)initid->ptr);
    free(initid->ptr);
    initid->ptr = NULL;
}
