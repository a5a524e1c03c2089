/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Numbers as JSON text.
 */
#ifndef JSON_NUMBER_H
#define JSON_NUMBER_H

#include "shared/buffer.h"

/* The shortest text that reads back as the same double; null for what is no number. A value with more than digits digits that is a float is taken
 * for one, and written with the digits that a float needs (digits < 17). */
void number_double(struct buffer *out, double value, int digits);
/* A number's text as the server writes it (perhaps with leading zeros, perhaps ".5"), made JSON. False: it is no number. */
bool number_text(struct buffer *out, const char *text, size_t length);

#endif
