/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void decimal_point(char *text) {
    for (; *text; text++) /* in place of the locale's decimal point */
        if (!strchr("0123456789+-e", *text))
            *text = '.';
}

static bool reads_back(const char *text, double value, bool single) {
    return single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value;
}

/* Next to a power of two, rounding to 16 digits can miss a neighbour that reads back as the same value. */
static bool neighbour(char *text, size_t size, double value) {
    char digits[40], *exponent;
    snprintf(digits, sizeof digits, "%.15e", fabs(value));
    digits[1] = digits[0]; /* overwrite the point: the digits begin here */
    long long mantissa = strtoll(digits + 1, &exponent, 10);
    int power = atoi(exponent + 1) - 15;
    for (int step = -1; step <= 1; step += 2) {
        snprintf(text, size, "%s%llde%d", signbit(value) ? "-" : "", mantissa + step, power);
        if (!reads_back(text, value, false))
            continue;
        /* A long double tells more than 16 digits apart, so it is written with these. */
        snprintf(text, size, "%.16Lg", strtold(text, NULL));
        return reads_back(text, value, false);
    }
    return false;
}

static void shortest(char *text, size_t size, double value, bool single) {
    char other[48];
    /* All normal numbers with this many digits read back; subnormal ones may need less. */
    int enough = single ? 6 : 15, most = single ? 9 : 17;
    int precision = fabs(value) < (single ? (double)FLT_MIN : DBL_MIN) ? 1 : enough;
    do
        snprintf(text, size, "%.*g", precision, value);
    while (precision++ < most && !reads_back(text, value, single));
    if (!single && precision > most && neighbour(other, sizeof other, value))
        snprintf(text, size, "%s", other);
    decimal_point(text);
}

/* The number of digits from the first to the last that is not zero. */
static int significant(const char *text) {
    int count = 0, zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9')
            continue;
        zeros = *text == '0' ? zeros + (count > 0) : 0;
        count += *text != '0' || count > 0;
    }
    return count - zeros;
}

void number_double(struct buffer *out, double value, int digits) {
    char text[48];
    if (!isfinite(value)) {
        buffer_text(out, "null");
        return;
    }
    if (value == 0) {
        buffer_text(out, signbit(value) ? "-0.0" : "0");
        return;
    }
    shortest(text, sizeof text, value, false);
    /* A FLOAT is exact as a double, but has far more digits there than in the column. */
    if ((double)(float)value == value && significant(text) > digits)
        shortest(text, sizeof text, value, true);
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
