/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Helpers of all functions for the interface to the server.
 */
#ifndef UDF_H
#define UDF_H

#include "buffer.h"
#include "compat.h"
#include "slice.h"

/* Set the message with which _init fails, and return the value for that. */
udf_bool udf_refuse(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text argument of a row. Its data is NULL when the value is. */
struct slice udf_argument(const udf_args *args, unsigned int index);
/* Request argument index as text, whatever its type. */
void udf_as_text(udf_args *args, unsigned int index);
/* Request arguments and results in UTF-8: MySQL 8.0.19 and later convert them, MariaDB has no interface for
 * it. */
struct registry;
struct udf_charsets {
    const struct registry *registry;
    void *metadata; /* NULL: not available */
};
void udf_charsets_open(struct udf_charsets *charsets);
void udf_charsets_close(struct udf_charsets *charsets);
void udf_charsets_argument(const struct udf_charsets *charsets, udf_args *args, unsigned int index);
void udf_charsets_result(const struct udf_charsets *charsets, udf_init *initid);
/* The same, for a function of which only the result is text. */
void udf_utf8_result(udf_init *initid);
/* The text of an argument that is constant, in _init. False without one. */
bool udf_constant_text(const udf_args *args, unsigned int index, struct slice *text);
/* Fail the statement with an SQL error (1105, HY000). On a server without support for it, set *error: the
 * result is NULL from here on. */
void udf_raise(const char *text, unsigned char *error);
/* Return a text, in the server's buffer when it fits, otherwise in place. */
char *udf_answer(struct slice text, char *result, unsigned long *length);
char *udf_null(unsigned char *is_null);
/* A buffer in initid->ptr that lives until _deinit. */
bool udf_buffer_new(udf_init *initid, size_t limit);
void udf_buffer_free(udf_init *initid);

#endif
