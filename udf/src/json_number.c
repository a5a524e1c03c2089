/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json_number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void number_double(struct buffer *out, double value, bool single) {
    char text[40];
    if (!isfinite(value)) {
        buffer_text(out, "null");
        return;
    }
    if (value == 0) {
        buffer_text(out, signbit(value) ? "-0.0" : "0");
        return;
    }
    /* What a FLOAT holds is exact as a double, but has far more digits there than it had in the column. */
    single = single && (double)(float)value == value;
    int precision = single ? 6 : 15, most = single ? 9 : 17;
    do
        snprintf(text, sizeof text, "%.*g", precision, value);
    while ((single ? strtof(text, NULL) != (float)value : strtod(text, NULL) != value) && precision++ < most);
    for (char *c = text; *c; c++) /* the decimal point of the server's locale */
        if (!strchr("0123456789+-e", *c))
            *c = '.';
    buffer_text(out, text);
}

static size_t count_digits(const char *text, size_t length, size_t at) {
    size_t start = at;
    while (at < length && text[at] >= '0' && text[at] <= '9')
        at++;
    return at - start;
}

bool number_text(struct buffer *out, const char *text, size_t length) {
    size_t at = 0;
    bool minus = at < length && text[at] == '-';
    at += minus;
    size_t whole = at, digits = count_digits(text, length, at);
    at += digits;
    size_t point = at, decimals = 0;
    if (at < length && text[at] == '.') {
        decimals = count_digits(text, length, ++at);
        at += decimals;
    }
    if (at != length || digits + decimals == 0)
        return false;
    while (digits > 1 && text[whole] == '0') {
        whole++;
        digits--;
    }
    if (minus)
        buffer_byte(out, '-');
    if (digits)
        buffer_append(out, text + whole, digits);
    else
        buffer_byte(out, '0');
    if (decimals)
        buffer_append(out, text + point, 1 + decimals);
    return true;
}
