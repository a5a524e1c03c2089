/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The JSON check and the writer: any text is a JSON value when quoted; a value is also one as an element of
 * an array; members are an object between braces, and vice versa; the output of number_text is a value.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/text.h"
#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition) {
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    struct buffer out = {.limit = 1 << 24};

    text_quote(&out, text, size);
    expect(!out.failed && json_is_value(out.data, out.length));

    buffer_clear(&out);
    buffer_text(&out, "[1,");
    buffer_append(&out, text, size);
    buffer_text(&out, "]");
    if (json_is_value(text, size) && size < JSON_DEPTH_MAX)
        expect(json_is_value(out.data, out.length));

    buffer_clear(&out);
    buffer_byte(&out, '{');
    buffer_append(&out, text, size);
    buffer_byte(&out, '}');
    bool members = json_is_members(text, size);
    if (members)
        expect(json_is_value(out.data, out.length));
    if (size < JSON_DEPTH_MAX && members && text_trim((struct slice){text, size}).length) {
        buffer_clear(&out);
        buffer_text(&out, "{\"a\":1,");
        buffer_append(&out, text, size);
        buffer_byte(&out, '}');
        expect(json_is_value(out.data, out.length));
    }

    buffer_clear(&out);
    if (number_text(&out, text, size))
        expect(json_is_value(out.data, out.length));

    if (size == sizeof(double)) {
        double value;
        memcpy(&value, data, sizeof value);
        buffer_clear(&out);
        number_double(&out, value, 17);
        expect(json_is_value(out.data, out.length));
        buffer_byte(&out, 0);
        expect(value != value || value - value != 0 || strtod(out.data, NULL) == value);
        /* As a FLOAT, it reads back as the same FLOAT. */
        for (int digits = 0; digits < 17; digits += 4) {
            buffer_clear(&out);
            number_double(&out, value, digits);
            expect(json_is_value(out.data, out.length));
            buffer_byte(&out, 0);
            expect(value != value || value - value != 0 || strtod(out.data, NULL) == value ||
                   strtof(out.data, NULL) == (float)value);
        }
    }
    buffer_free(&out);
    return 0;
}
