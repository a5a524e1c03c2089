/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shared/text.h"

static const char members[] = "json_members";

static struct slice attribute(const udf_args *args, unsigned int index) {
    if (!args->attributes || !args->attributes[index])
        return (struct slice){"", 0};
    return (struct slice){args->attributes[index], args->attribute_lengths[index]};
}

/* Function names are not case-sensitive in SQL. */
static bool begins(struct slice text, const char *prefix) {
    return text.length >= strlen(prefix) && strncasecmp(text.data, prefix, strlen(prefix)) == 0;
}

static bool plain(char c) {
    return (unsigned char)c >= 0x80 || c == '_' || c == '$' || isalnum((unsigned char)c);
}

/* Without qualifier and backticks, when the whole text is an identifier: `t`.`name`, NEW.name. */
static struct slice unqualified(struct slice text) {
    const char *at = text.data, *end = at + text.length;
    for (;;) {
        bool quoted = at < end && *at == '`';
        const char *start = at + quoted, *stop = start;
        while (stop < end && (quoted ? *stop != '`' : plain(*stop)))
            stop++;
        if (quoted ? stop == end : stop == start)
            return text;
        at = stop + quoted;
        if (at == end)
            return (struct slice){start, (size_t)(stop - start)};
        if (*at++ != '.')
            return text;
    }
}

static enum argument_kind kind_of(udf_args *args, unsigned int index) {
    struct slice name = unqualified(attribute(args, index));
    enum argument_kind kind = KIND_TEXT;
    if (begins(name, "udf_json_"))
        name = (struct slice){name.data + 4, name.length - 4};
    if (begins(name, members))
        kind = KIND_MEMBERS;
    else if (begins(name, "json_"))
        kind = KIND_JSON;
    else if (begins(name, "base64_"))
        kind = KIND_BASE64;
    if (kind != KIND_TEXT) {
        udf_as_text(args, index);
        return kind;
    }
    switch (args->arg_type[index]) {
    case INT_RESULT:
        /* The interface does not report whether an integer has a sign, but its text is correct. Types and
         * expressions that can be beyond a signed 64-bit number are 19 to 21 characters wide, and all others
         * are left alone, because the text of a BIT is its bytes. (is_bits recognizes BIT(19) to BIT(21).)
         */
        if (args->lengths[index] != 64 && (args->lengths[index] < 19 || args->lengths[index] > 21))
            return KIND_INTEGER;
        udf_as_text(args, index);
        return args->lengths[index] == 64 ? KIND_BITS : KIND_WHOLE;
    case DECIMAL_RESULT: return KIND_DECIMAL;
    case REAL_RESULT: return KIND_DOUBLE;
    default: udf_as_text(args, index); return KIND_TEXT;
    }
}

bool json_begin(struct udf_call *call, char *message) {
    udf_args *args = call->args;
    struct argument *arguments = call->data = calloc(args->arg_count + 1, sizeof *arguments);
    if (!arguments)
        return udf_refuse(message, "%s: out of memory", call->function->name);
    for (unsigned int i = 0; i < args->arg_count; i++) {
        bool text = args->arg_type[i] == STRING_RESULT;
        /* The interface has one type for FLOAT and DOUBLE. A DOUBLE(M,D) has M digits at most, so a value
         * with more is of a FLOAT(M,D), or of a FLOAT, whose width is 12. From 16 on the digits prove
         * nothing: a DOUBLE without (M,D), as nearly all are, is 22 wide. */
        arguments[i].digits = args->lengths[i] <= 15 ? (int)args->lengths[i] : 17;
        arguments[i].kind = kind_of(args, i);
        if (text && arguments[i].kind != KIND_BASE64)
            udf_as_utf8(call, i);
    }
    return false;
}

static const char *name_problem(struct slice name) {
    if (name.length == 0)
        return "it is empty: give it an alias";
    for (size_t at = 0; at < name.length;) {
        unsigned char c = (unsigned char)name.data[at];
        size_t skip, size = utf8_character((const unsigned char *)name.data + at, name.length - at, &skip);
        if (!size)
            return "it is not UTF-8";
        if (c < 0x20 || c == 0x7F)
            return "it has a control character";
        if (c == '(' || c == ')' || c == '\'' || c == '"' || c == '`' || c == '\\')
            return "give it an alias";
        at += size;
    }
    return NULL;
}

bool json_names(struct udf_call *call, char *message) {
    const udf_args *args = call->args;
    const char *function = call->function->name;
    size_t before = args->arg_count * sizeof(struct argument), total = before;
    for (unsigned int i = 0; i < args->arg_count; i++)
        total += attribute(args, i).length + sizeof members;
    struct argument *arguments = realloc(call->data, total + 1);
    if (!arguments)
        return udf_refuse(message, "%s: out of memory", function);
    call->data = arguments;
    char *copy = (char *)call->data + before, shown[25];
    for (unsigned int i = 0; i < args->arg_count; i++) {
        struct slice name = unqualified(attribute(args, i));
        const char *problem = name_problem(name);
        if (problem && arguments[i].kind == KIND_MEMBERS) /* a call of it, whose own members have names */
            name = (struct slice){members, sizeof members - 1};
        else if (problem)
            return udf_refuse(message, "%s: invalid member name '%s': %s", function,
                              text_shown(name, shown, sizeof shown), problem);
        memcpy(copy, name.data, name.length);
        arguments[i].name = (struct slice){copy, name.length};
        copy += name.length;
    }
    return false;
}

static void base64(struct buffer *out, const char *text, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = (const unsigned char *)text;
    if (!buffer_reserve(out, (length + 2) / 3 * 4 + 2))
        return;
    buffer_byte(out, '"');
    for (size_t at = 0; at < length; at += 3) {
        size_t left = length - at;
        unsigned group =
            (unsigned)in[at] << 16 | (left > 1 ? (unsigned)in[at + 1] << 8 : 0) | (left > 2 ? in[at + 2] : 0);
        char four[4] = {digits[group >> 18], digits[group >> 12 & 63],
                        left > 1 ? digits[group >> 6 & 63] : '=', left > 2 ? digits[group & 63] : '='};
        buffer_append(out, four, 4);
    }
    buffer_byte(out, '"');
}

void json_row(struct udf_call *call) {
    enum { AROUND = 32 }; /* roughly: quotes, commas and a number */
    const struct argument *arguments = call->data;
    const udf_args *args = call->args;
    size_t room = 0;
    for (unsigned int i = 0; i < args->arg_count; i++)
        room += AROUND + arguments[i].name.length +
                (args->args[i] && arguments[i].kind != KIND_INTEGER && arguments[i].kind != KIND_DOUBLE
                     ? args->lengths[i]
                     : 0);
    /* If this is too much to reserve, writing fails later when it needs as much. */
    if (room <= call->out.limit)
        buffer_reserve(&call->out, room);
}

/* Whether an integer's text is the bytes of a BIT: three of a BIT(19) to BIT(21), of which the first is no
 * digit, or eight of a BIT(64). An integer that is 64 wide and has eight characters does not begin with
 * zeros: those are 64 characters. */
static bool is_bits(enum argument_kind kind, const char *text, size_t length) {
    if (kind == KIND_WHOLE)
        return length == 3 && (unsigned char)text[0] < 0x20;
    if (length != 8)
        return false;
    if (text[0] != '-' && (text[0] < '1' || text[0] > '9'))
        return true;
    for (size_t i = 1; i < length; i++)
        if (text[i] < '0' || text[i] > '9')
            return true;
    return false;
}

void json_value(struct udf_call *call, unsigned int index) {
    struct buffer *out = &call->out;
    const struct argument *argument = (struct argument *)call->data + index;
    const char *data = call->args->args[index];
    if (!data) {
        buffer_text(out, "null");
        return;
    }
    size_t length = call->args->lengths[index];
    switch (argument->kind) {
    case KIND_INTEGER: {
        long long value;
        memcpy(&value, data, sizeof value);
        buffer_format(out, "%lld", value);
        return;
    }
    case KIND_WHOLE:
    case KIND_BITS:
        if (is_bits(argument->kind, data, length)) {
            unsigned long long value = 0;
            for (size_t i = 0; i < length; i++)
                value = value << 8 | (unsigned char)data[i];
            buffer_format(out, "%llu", value);
            return;
        }
        break;
    case KIND_DOUBLE: {
        double value;
        memcpy(&value, data, sizeof value);
        number_double(out, value, argument->digits);
        return;
    }
    case KIND_DECIMAL: break;
    case KIND_JSON:
        if (json_is_value(data, length)) {
            buffer_append(out, data, length);
            return;
        }
        text_quote(out, data, length);
        return;
    case KIND_BASE64: base64(out, data, length); return;
    default: text_quote(out, data, length); return;
    }
    if (!number_text(out, data, length))
        text_quote(out, data, length);
}

void json_write_values(struct udf_call *call) {
    for (unsigned int i = 0; i < call->args->arg_count; i++) {
        if (i)
            buffer_byte(&call->out, ',');
        json_value(call, i);
    }
}
