/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * UTF-8 and JSON text, shared by both libraries.
 */
#pragma once

#include "buffer.h"

/* Without the white space around it. */
struct slice text_trim(struct slice text);
bool text_is(struct slice text, const char *word);
/* A decimal number in this range. */
bool text_number(struct slice text, long low, long high, long *number);
/* The text for a message: printable, and shortened to the size. */
const char *text_shown(struct slice text, char *out, size_t size);
/* Length in bytes of the well-formed UTF-8 character at text, or 0: then replace *skip bytes with one U+FFFD.
 */
size_t utf8_character(const unsigned char *text, size_t length, size_t *skip);
/* Text as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void text_quote(struct buffer *out, const char *text, size_t length);
