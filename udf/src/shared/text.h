/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * UTF-8 and JSON text, shared by both libraries.
 */
#ifndef TEXT_H
#define TEXT_H

#include "buffer.h"

/* Length in bytes of the well-formed UTF-8 character at text, or 0: then replace *skip bytes with one U+FFFD.
 */
size_t utf8_character(const unsigned char *text, size_t length, size_t *skip);
/* Text as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void text_quote(struct buffer *out, const char *text, size_t length);

#endif
