/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 512 };

void buffer_free(struct buffer *buffer) {
    free(buffer->data);
    buffer->data = NULL;
    buffer->length = buffer->capacity = 0;
}

void buffer_clear(struct buffer *buffer) {
    buffer->length = 0;
    buffer->failed = false;
}

bool buffer_reserve(struct buffer *buffer, size_t more) {
    if (buffer->failed || more <= buffer->capacity - buffer->length)
        return !buffer->failed;
    size_t capacity = buffer->capacity ? buffer->capacity : FIRST_CAPACITY;
    char *data = NULL;
    if (more <= buffer->limit - buffer->length) {
        while (capacity - buffer->length < more)
            capacity = capacity > buffer->limit / 2 ? buffer->limit : capacity * 2;
        data = realloc(buffer->data, capacity);
    }
    buffer->failed = !data;
    if (data) {
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return data;
}

void buffer_append(struct buffer *buffer, const void *data, size_t length) {
    if (length && buffer_reserve(buffer, length)) {
        memcpy(buffer->data + buffer->length, data, length);
        buffer->length += length;
    }
}

void buffer_text(struct buffer *buffer, const char *text) { buffer_append(buffer, text, strlen(text)); }

void buffer_byte(struct buffer *buffer, char byte) { buffer_append(buffer, &byte, 1); }

void buffer_format(struct buffer *buffer, const char *format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof text)
        buffer->failed = true;
    else
        buffer_append(buffer, text, (size_t)length);
}
