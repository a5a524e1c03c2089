/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whether a text is JSON (RFC 8259). One pass, no memory, no recursion.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { JSON_DEPTH_MAX = 1000 }; /* deeper nesting is invalid */

/* One value of any kind, with white space around it. */
bool json_is_value(const char *text, size_t length);
/* The inside of an object's braces: "name":value,… or nothing. */
bool json_is_members(const char *text, size_t length);
/* Only white space. */
bool json_is_blank(const char *text, size_t length);
