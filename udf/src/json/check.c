/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json.h"

#include <ctype.h>
#include <string.h>

#include "shared/text.h"

struct reader {
    const unsigned char *at, *end;
};

static void skip_blanks(struct reader *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r'))
        in->at++;
}

static bool accept(struct reader *in, unsigned char c) {
    if (in->at == in->end || *in->at != c)
        return false;
    in->at++;
    return true;
}

static bool accept_word(struct reader *in, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length) != 0)
        return false;
    in->at += length;
    return true;
}

static bool digit(const struct reader *in) { return in->at < in->end && *in->at >= '0' && *in->at <= '9'; }

static bool digits(struct reader *in) {
    if (!digit(in))
        return false;
    while (digit(in))
        in->at++;
    return true;
}

static bool number(struct reader *in) {
    accept(in, '-');
    if (!accept(in, '0') && !digits(in))
        return false;
    if (accept(in, '.') && !digits(in))
        return false;
    if (accept(in, 'e') || accept(in, 'E')) {
        if (!accept(in, '+'))
            accept(in, '-');
        return digits(in);
    }
    return true;
}

static bool hex4(struct reader *in) {
    for (int i = 0; i < 4; i++, in->at++)
        if (in->at == in->end || !isxdigit(*in->at))
            return false;
    return true;
}

static bool string(struct reader *in) {
    if (!accept(in, '"'))
        return false;
    while (in->at < in->end) {
        unsigned char c = *in->at;
        if (c == '"') {
            in->at++;
            return true;
        }
        if (c < 0x20)
            return false;
        if (c == '\\') {
            in->at++;
            if (in->at == in->end)
                return false;
            c = *in->at++;
            if (c == 'u' ? !hex4(in) : c == 0 || !strchr("\"\\/bfnrt", c))
                return false;
            continue;
        }
        size_t skip, size = utf8_character(in->at, (size_t)(in->end - in->at), &skip);
        if (!size)
            return false;
        in->at += size;
    }
    return false;
}

static bool name(struct reader *in) {
    skip_blanks(in);
    if (!string(in))
        return false;
    skip_blanks(in);
    return accept(in, ':');
}

/* Check the rest of a value; first is the kind of container that it is in already ('{', or 0 for none). */
static bool check(const char *text, size_t length, char first) {
    struct reader in = {(const unsigned char *)text, (const unsigned char *)text + length};
    bool objects[JSON_DEPTH_MAX]; /* each level: object or array */
    size_t depth = 0;
    if (first) {
        objects[0] = true;
        depth = 1;
        skip_blanks(&in);
        if (in.at == in.end)
            return true;
        if (!name(&in))
            return false;
    }
    for (;;) {
        skip_blanks(&in);
        if (in.at == in.end)
            return false;
        bool opened = false;
        if (*in.at == '{' || *in.at == '[') {
            bool object = *in.at++ == '{';
            skip_blanks(&in);
            if (!accept(&in, object ? '}' : ']')) {
                if (depth == JSON_DEPTH_MAX)
                    return false;
                objects[depth++] = object;
                opened = true;
                if (object && !name(&in))
                    return false;
            }
        } else if (*in.at == '"'                 ? !string(&in)
                   : *in.at == '-' || digit(&in) ? !number(&in)
                                                 : !accept_word(&in, "true") && !accept_word(&in, "false") &&
                                                       !accept_word(&in, "null")) {
            return false;
        }
        /* After a value: close containers until a comma requires the next value. */
        while (!opened) {
            skip_blanks(&in);
            if (depth == (first ? 1 : 0) && in.at == in.end)
                return true;
            if (depth == 0)
                return false;
            bool object = objects[depth - 1];
            if (accept(&in, ',')) {
                if (object && !name(&in))
                    return false;
                break;
            }
            if ((first && depth == 1) || !accept(&in, object ? '}' : ']'))
                return false;
            depth--;
        }
    }
}

bool json_is_value(const char *text, size_t length) { return check(text, length, 0); }

bool json_is_members(const char *text, size_t length) { return check(text, length, '{'); }
