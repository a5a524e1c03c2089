/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A growing byte buffer with a limit. A failed append is recorded, so a sequence of appends needs one check
 * at its end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Bytes that are owned elsewhere. */
struct slice {
    const char *data;
    size_t length;
};

/* Zeroed but for its limit: empty. */
struct buffer {
    char *data;
    size_t length, capacity, limit;
    bool failed; /* out of memory, or over the limit */
};

void buffer_free(struct buffer *buffer);
/* Empty it, but keep the memory for the next row. */
void buffer_clear(struct buffer *buffer);
bool buffer_reserve(struct buffer *buffer, size_t more);
void buffer_append(struct buffer *buffer, const void *data, size_t length);
void buffer_text(struct buffer *buffer, const char *text);
void buffer_byte(struct buffer *buffer, char byte);
void buffer_format(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
