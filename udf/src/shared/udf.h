/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Helpers of all functions for the interface to the server.
 */
#pragma once

#include "buffer.h"
#include "compat.h"

/* A function that returns text: what its _init, row function and _deinit share. */
struct udf_call;
struct udf_function {
    const char *name;
    const char *usage;           /* of the arguments: "(name, value)" */
    unsigned int fewest, most;   /* arguments */
    size_t limit;                /* bytes of a result */
    bool each_row;               /* it is called for each row, even when all arguments are constants */
    bool binary;                 /* the result is bytes, and not text */
    int kind;                    /* for functions that share the rest */
    /* The checks of _init. Returns udf_refuse when the statement fails. NULL: there are none. */
    udf_bool (*begin)(struct udf_call *call, char *message);
    /* Append a row's result to out. False: it is NULL. */
    bool (*row)(struct udf_call *call);
};

/* A call of a function in a statement, from _init to _deinit. */
struct udf_call {
    const struct udf_function *function;
    udf_args *args;
    unsigned char *error;
    struct buffer out; /* kept from row to row */
    void *data;        /* of the function; freed with the call */
};

udf_bool udf_begin(const struct udf_function *function, udf_init *initid, udf_args *args, char *message);
char *udf_row(udf_init *initid, udf_args *args, char *result, unsigned long *length, unsigned char *is_null,
              unsigned char *error);
void udf_end(udf_init *initid);

/* Export a function. The rest are members of its struct udf_function. */
#define UDF_TEXT(NAME, ...)                                                                      \
    UDF_EXPORT udf_bool NAME##_init(udf_init *initid, udf_args *args, char *message);            \
    UDF_EXPORT char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length, \
                          unsigned char *is_null, unsigned char *error);                         \
    UDF_EXPORT void NAME##_deinit(udf_init *initid);                                             \
    udf_bool NAME##_init(udf_init *initid, udf_args *args, char *message) {                      \
        static const struct udf_function function = {.name = #NAME, __VA_ARGS__};                \
        return udf_begin(&function, initid, args, message);                                      \
    }                                                                                            \
    char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length,            \
               unsigned char *is_null, unsigned char *error) {                                   \
        return udf_row(initid, args, result, length, is_null, error);                            \
    }                                                                                            \
    void NAME##_deinit(udf_init *initid) { udf_end(initid); }

/* Set the message with which _init fails, and return the value for that. */
udf_bool udf_refuse(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Refuse a wrong number of arguments. */
udf_bool udf_count(const udf_args *args, unsigned int fewest, unsigned int most, char *message,
                   const char *name, const char *usage);
/* A text argument of a row. Its data is NULL when the value is. */
struct slice udf_argument(const udf_args *args, unsigned int index);
/* Request argument index as text, whatever its type. */
void udf_as_text(udf_args *args, unsigned int index);
/* The text of an argument that is constant, in _init. False without one. */
bool udf_constant_text(const udf_args *args, unsigned int index, struct slice *text);
/* Request arguments in UTF-8: MySQL 8.0.19 and later convert them, MariaDB has no interface for it. */
struct registry;
struct udf_charsets {
    const struct registry *registry;
    void *metadata; /* NULL: not available */
};
void udf_charsets_open(struct udf_charsets *charsets);
void udf_charsets_close(struct udf_charsets *charsets);
void udf_charsets_argument(const struct udf_charsets *charsets, udf_args *args, unsigned int index);
/* Fail the statement with an SQL error (1105, HY000) and return false. On a server without support for it
 * the result is NULL from here on. */
bool udf_fail(const struct udf_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
