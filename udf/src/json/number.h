/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Numbers as JSON text.
 */
#pragma once

#include "shared/buffer.h"

/* The shortest text that reads back as the same double; null when it is not finite. A value that is exact as
 * a float and has more than digits digits is taken for a float, and written with the digits that a float
 * needs (digits < 17). */
void number_double(struct buffer *out, double value, int digits);
/* Convert a number's text as the server writes it (leading zeros and ".5" are possible) to JSON. False: not a
 * number. */
bool number_text(struct buffer *out, const char *text, size_t length);
