/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the functions of both libraries share in talking to the server.
 */
#ifndef UDF_H
#define UDF_H

#include "buffer.h"
#include "compat.h"
#include "protocol.h"

/* End _init with a message: returns the value that tells the server so. */
udf_bool udf_refuse(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text argument of a row. Its data is NULL when the value is. */
struct slice udf_argument(const udf_args *args, unsigned int index);
/* Let the server hand argument index over as text, whatever its type. */
void udf_as_text(udf_args *args, unsigned int index);
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
