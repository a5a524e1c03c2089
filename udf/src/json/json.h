/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the json_* functions share: their arguments, the check of JSON (RFC 8259), and numbers as JSON text.
 */
#pragma once

#include <limits.h>

#include "shared/udf.h"

enum {
    JSON_MAX = 1024 * 1024 * 1024, /* the longest max_allowed_packet that a server can have */
    JSON_DEPTH_MAX = 1000,         /* deeper nesting is invalid */
};

/* Determined by the alias or the expression's text, or by the type that the server reports. */
enum argument_kind {
    KIND_TEXT,
    KIND_WHOLE,   /* integers that may need 64 bits without a sign: the server's text of it */
    KIND_BITS,    /* BIT(64), or an integer of that display width */
    KIND_INTEGER, /* all other integers, and BIT */
    KIND_DECIMAL,
    KIND_DOUBLE,
    KIND_JSON, /* json_…: taken as JSON when it is JSON, otherwise text */
    KIND_MEMBERS, /* json_members…: the same, for the inside of an object */
    KIND_BASE64, /* base64_…: any bytes */
};

struct argument {
    enum argument_kind kind;
    int digits; /* of a DOUBLE: the most that its type can have; 17: no limit */
    struct slice name; /* of the member, in json_object; it points behind the arguments */
};

/* The _init of all functions: determine the kinds of the arguments, the call's data, and request the types in
 * which the server passes them. */
bool json_begin(struct udf_call *call, char *message);
/* Names for the members. */
bool json_names(struct udf_call *call, char *message);
/* Reserve room for a row, so that most rows need no reallocation. */
void json_row(struct udf_call *call);
/* A row's value as JSON. */
void json_value(struct udf_call *call, unsigned int index);
/* All of them, with commas between them. */
void json_write_values(struct udf_call *call);

/* One value of any kind, with white space around it. One pass, no memory, no recursion. */
bool json_is_value(const char *text, size_t length);
/* The same of the inside of an object's braces: "name":value,… or nothing. */
bool json_is_members(const char *text, size_t length);

/* The shortest text that reads back as the same double; null when it is not finite. A value that is exact as
 * a float and has more than digits digits is taken for a float, and written with the digits that a float
 * needs (digits < 17). */
void number_double(struct buffer *out, double value, int digits);
/* Convert a number's text as the server writes it (leading zeros and ".5" are possible) to JSON. False: not a
 * number. */
bool number_text(struct buffer *out, const char *text, size_t length);

/* Servers with native functions of the first names refuse those: so each function has a second name. */
#define JSON_FUNCTION(NAME, ...)                                           \
    UDF_TEXT(NAME, .limit = JSON_MAX, .most = UINT_MAX, __VA_ARGS__)       \
    UDF_TEXT(udf_##NAME, .limit = JSON_MAX, .most = UINT_MAX, __VA_ARGS__)
