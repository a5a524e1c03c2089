/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An argument of a json_* function: its kind, how it is written, and its member's name.
 */
#ifndef JSON_ARGUMENT_H
#define JSON_ARGUMENT_H

#include "shared/udf.h"

/* Determined by the alias or the expression's text, or by the type that the server reports. */
enum argument_kind {
    KIND_TEXT,
    KIND_WHOLE,   /* integers that may need 64 bits without a sign: the server's text of it */
    KIND_BITS,    /* BIT(64), or an integer of that display width */
    KIND_INTEGER, /* all other integers, and BIT */
    KIND_DECIMAL,
    KIND_DOUBLE,
    KIND_JSON,    /* json_…: taken as JSON when it is JSON, otherwise text */
    KIND_MEMBERS, /* json_members…: the same, for the inside of an object */
    KIND_BASE64,  /* base64_…: any bytes */
};

struct argument {
    enum argument_kind kind;
    int digits;        /* of a DOUBLE: the most that its type can have; 17: no limit */
    struct slice name; /* of the member, in json_object; it points into names */
};

struct json_state {
    struct buffer out;
    struct buffer names;
    struct argument arguments[];
};

/* Allocate memory for all arguments, determine their kinds, and request the types in which the server passes
 * them. */
struct json_state *json_begin(udf_init *initid, udf_args *args, char *message, const char *function);
/* Names for the members. */
bool json_names(struct json_state *state, const udf_args *args, char *message, const char *function);
/* Empty the buffer and reserve room for a row, so that most rows need no reallocation. */
void json_row(struct json_state *state, const udf_args *args);
/* A row's value as JSON. */
void json_value(struct json_state *state, const udf_args *args, unsigned int index);
/* The row's result. */
char *json_answer(struct json_state *state, char *result, unsigned long *length, unsigned char *is_null);
void json_end(udf_init *initid);

#define JSON_STATE(initid) ((struct json_state *)(void *)(initid)->ptr)

/* Each function is exported under two names: servers with a native function of the first name refuse that
 * one. */
#define JSON_FUNCTION(NAME)                                                                      \
    UDF_EXPORT udf_bool NAME##_init(udf_init *initid, udf_args *args, char *message);            \
    UDF_EXPORT char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length, \
                          unsigned char *is_null, unsigned char *error);                         \
    UDF_EXPORT void NAME##_deinit(udf_init *initid);                                             \
    udf_bool NAME##_init(udf_init *initid, udf_args *args, char *message) {                      \
        return init(initid, args, message, #NAME);                                               \
    }                                                                                            \
    char *NAME(udf_init *initid, udf_args *args, char *result, unsigned long *length,            \
               unsigned char *is_null, unsigned char *error) {                                   \
        return row(initid, args, result, length, is_null, error, #NAME);                         \
    }                                                                                            \
    void NAME##_deinit(udf_init *initid) { json_end(initid); }

#endif
