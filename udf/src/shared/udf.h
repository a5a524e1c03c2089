/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the functions of both libraries share in talking to the server.
 */
#ifndef UDF_H
#define UDF_H

#include "buffer.h"
#include "compat.h"
#include "slice.h"

/* End _init with a message: returns the value that tells the server so. */
udf_bool udf_refuse(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text argument of a row. Its data is NULL when the value is. */
struct slice udf_argument(const udf_args *args, unsigned int index);
/* Let the server hand argument index over as text, whatever its type. */
void udf_as_text(udf_args *args, unsigned int index);
/* Let text come and go as UTF-8: MySQL converts it when it is asked to (8.0.19 and later), MariaDB has no way to ask. */
struct registry;
struct udf_charsets {
    const struct registry *registry;
    void *metadata; /* NULL: nobody to ask */
};
void udf_charsets_open(struct udf_charsets *charsets);
void udf_charsets_close(struct udf_charsets *charsets);
void udf_charsets_argument(const struct udf_charsets *charsets, udf_args *args, unsigned int index);
void udf_charsets_result(const struct udf_charsets *charsets, udf_init *initid);
/* The same, for a function whose result alone is text. */
void udf_utf8_result(udf_init *initid);
/* The argument of a constant in _init, when it has text. */
bool udf_constant_text(const udf_args *args, unsigned int index, struct slice *text);
/* Fail the statement with an SQL error (1105, HY000). Without the server's help for that, *error makes it NULL from here on. */
void udf_raise(const char *text, unsigned char *error);
/* Answer with text: in the server's own buffer when it fits, otherwise where it stands. */
char *udf_answer(struct slice text, char *result, unsigned long *length);
char *udf_null(unsigned char *is_null);
/* A buffer in initid->ptr that lives until _deinit. */
bool udf_buffer_new(udf_init *initid, size_t limit);
void udf_buffer_free(udf_init *initid);

#endif
