/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An argument of a json_* function: its kind, how it is written, and its member's name.
 */
#pragma once

#include <limits.h>

#include "shared/udf.h"

/* The longest max_allowed_packet that a server can have. */
enum { JSON_MAX = 1024 * 1024 * 1024 };

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
    struct slice name; /* of the member, in json_object; it points behind the arguments */
};

/* The _init of all functions: determine the kinds of the arguments, and request the types in which the server
 * passes them. */
bool json_begin(struct udf_call *call, char *message);
/* The call's arguments, after json_begin. */
struct argument *json_arguments(const struct udf_call *call);
/* Names for the members. */
bool json_names(struct udf_call *call, char *message);
/* Reserve room for a row, so that most rows need no reallocation. */
void json_row(struct udf_call *call);
/* A row's value as JSON. */
void json_value(struct udf_call *call, unsigned int index);
/* All of them, with commas between them. */
void json_write_values(struct udf_call *call);

/* Servers with native functions of the first names refuse those: so each function has a second name. */
#define JSON_FUNCTION(NAME, ...)                                           \
    UDF_TEXT(NAME, .limit = JSON_MAX, .most = UINT_MAX, __VA_ARGS__)       \
    UDF_TEXT(udf_##NAME, .limit = JSON_MAX, .most = UINT_MAX, __VA_ARGS__)
