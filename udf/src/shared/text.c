/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "text.h"

#include <string.h>

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct slice text_trim(struct slice text) {
    while (text.length && blank(text.data[text.length - 1]))
        text.length--;
    for (; text.length && blank(*text.data); text.length--)
        text.data++;
    return text;
}

bool text_is(struct slice text, const char *word) {
    return text.length == strlen(word) && memcmp(text.data, word, text.length) == 0;
}

bool text_number(struct slice text, long low, long high, long *number) {
    *number = 0;
    if (text.length == 0 || text.length > 9)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *number = *number * 10 + (text.data[i] - '0');
    }
    return *number >= low && *number <= high;
}

const char *text_shown(struct slice text, char *out, size_t size) {
    bool whole = text.length < size;
    size_t length = whole ? text.length : size - 4;
    for (size_t i = 0; i < length; i++)
        out[i] = text.data[i] >= 0x20 && text.data[i] < 0x7F ? text.data[i] : '?';
    memcpy(out + length, whole ? "" : "...", whole ? 1 : 4);
    return out;
}

size_t utf8_character(const unsigned char *text, size_t length, size_t *skip) {
    *skip = 1;
    if (length == 0)
        return 0;
    unsigned char lead = text[0];
    size_t size = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    /* The second byte tells overlong forms, surrogates and what is above U+10FFFF. */
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    /* One replacement for the longest piece that could have begun a character, as Unicode recommends. */
    for (size_t at = 1; at < size; at++, low = 0x80, high = 0xBF)
        if (at >= length || text[at] < low || text[at] > high) {
            *skip = at;
            return 0;
        }
    return size;
}

static void escape(struct buffer *out, unsigned char byte) {
    static const char special[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = memchr(special, byte, sizeof special - 1);
    if (found) {
        buffer_byte(out, '\\');
        buffer_byte(out, letters[found - special]);
    } else {
        buffer_format(out, "\\u%04x", byte);
    }
}

void text_quote(struct buffer *out, const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    size_t start = 0, at = 0; /* what needs no change is copied in one piece */
    /* Almost always enough, so a long string grows the buffer once. */
    buffer_reserve(out, length < (size_t)-3 ? length + 2 : length);
    buffer_byte(out, '"');
    while (at < length && !out->failed) {
        unsigned char byte = bytes[at];
        if (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\') {
            at++;
            continue;
        }
        size_t skip = 1, size = byte < 0x80 ? 0 : utf8_character(bytes + at, length - at, &skip);
        if (size) {
            at += size;
            continue;
        }
        buffer_append(out, text + start, at - start);
        if (byte < 0x80)
            escape(out, byte);
        else
            buffer_append(out, "\xEF\xBF\xBD", 3);
        at += skip;
        start = at;
    }
    buffer_append(out, text + start, at - start);
    buffer_byte(out, '"');
}
