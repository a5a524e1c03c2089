/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The interface between the server and a loadable function, for MariaDB 10.5 and later and MySQL 8.0.1 and
 * later from one source, and helpers for it.
 */
#pragma once

#include <mysql.h>
#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"

/* The two structures are declared here and not taken from the headers: MariaDB's connector package, often the
 * only one on a database host, has a short UDF_ARGS without the attribute names that the server sets. The
 * assertions compare the members that both have, so a header that moves one stops the build. The server's
 * boolean is its my_bool or bool: one byte that is 0 or 1. */
typedef struct {
    unsigned int arg_count;
    enum Item_result *arg_type;
    char **args;
    unsigned long *lengths;
    char *maybe_null;
    char **attributes; /* alias or expression text of each argument */
    unsigned long *attribute_lengths;
    void *extension;
} udf_args;

typedef struct {
    bool maybe_null;
    unsigned int decimals;
    unsigned long max_length;
    char *ptr;
    bool const_item;
    void *extension;
} udf_init;

_Static_assert(offsetof(udf_args, arg_type) == offsetof(UDF_ARGS, arg_type), "UDF_ARGS.arg_type moved");
_Static_assert(offsetof(udf_args, args) == offsetof(UDF_ARGS, args), "UDF_ARGS.args moved");
_Static_assert(offsetof(udf_args, lengths) == offsetof(UDF_ARGS, lengths), "UDF_ARGS.lengths moved");
_Static_assert(offsetof(udf_args, maybe_null) == offsetof(UDF_ARGS, maybe_null), "UDF_ARGS.maybe_null moved");
_Static_assert(offsetof(udf_init, decimals) == offsetof(UDF_INIT, decimals), "UDF_INIT.decimals moved");
_Static_assert(offsetof(udf_init, max_length) == offsetof(UDF_INIT, max_length), "UDF_INIT.max_length moved");
_Static_assert(offsetof(udf_init, ptr) == offsetof(UDF_INIT, ptr), "UDF_INIT.ptr moved");
_Static_assert(offsetof(udf_init, const_item) == offsetof(UDF_INIT, const_item), "UDF_INIT.const_item moved");
_Static_assert(sizeof(bool) == sizeof(((UDF_INIT *)0)->const_item), "the server's boolean has another size");

/* The manual guarantees a message buffer of this size for _init, whatever MYSQL_ERRMSG_SIZE is. */
#define UDF_MESSAGE_SIZE 80
/* The result buffer that the server passes to a row function. */
#define UDF_RESULT_SIZE 255
/* A server truncates results in temporary tables and new columns at the length that _init announces. From
 * this length on they are LONGTEXT. */
#define UDF_MAX_LENGTH 4294967295UL

#define UDF_EXPORT __attribute__((visibility("default")))
#define UNUSED __attribute__((unused))

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
    /* The checks of _init. True, from udf_refuse: the statement fails. NULL: there are none. */
    bool (*begin)(struct udf_call *call, char *message);
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
    const struct metadata *metadata; /* of character sets, during _init; NULL: not available */
};

bool udf_begin(const struct udf_function *function, udf_init *initid, udf_args *args, char *message);
char *udf_row(udf_init *initid, udf_args *args, char *result, unsigned long *length, unsigned char *is_null,
              unsigned char *error);
void udf_end(udf_init *initid);

/* Export a function. The rest are members of its struct udf_function. */
#define UDF_TEXT(NAME, ...)                                                                      \
    UDF_EXPORT bool NAME##_init(udf_init *initid, udf_args *args, char *message);                \
    UDF_EXPORT char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length, \
                          unsigned char *is_null, unsigned char *error);                         \
    UDF_EXPORT void NAME##_deinit(udf_init *initid);                                             \
    bool NAME##_init(udf_init *initid, udf_args *args, char *message) {                          \
        static const struct udf_function function = {.name = #NAME, __VA_ARGS__};                \
        return udf_begin(&function, initid, args, message);                                      \
    }                                                                                            \
    char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length,            \
               unsigned char *is_null, unsigned char *error) {                                   \
        return udf_row(initid, args, result, length, is_null, error);                            \
    }                                                                                            \
    void NAME##_deinit(udf_init *initid) { udf_end(initid); }

/* Set the message with which _init fails, and return true. */
bool udf_refuse(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Refuse a wrong number of arguments. */
bool udf_count(const udf_args *args, unsigned int fewest, unsigned int most, char *message, const char *name,
               const char *usage);
/* A text argument of a row. Its data is NULL when the value is. */
struct slice udf_argument(const udf_args *args, unsigned int index);
/* Request argument index as text, whatever its type. */
void udf_as_text(udf_args *args, unsigned int index);
/* The text of an argument that is constant, in _init. False without one. */
bool udf_constant_text(const udf_args *args, unsigned int index, struct slice *text);
/* Request a text argument in UTF-8, in _init: MySQL 8.0.19 and later convert it, MariaDB has no interface for
 * that. */
void udf_as_utf8(const struct udf_call *call, unsigned int index);
/* Fail the statement with an SQL error (1105, HY000) and return false. On a server without support for it
 * the result is NULL from here on. */
bool udf_fail(const struct udf_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
