/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A view of bytes that are owned elsewhere.
 */
#ifndef SLICE_H
#define SLICE_H

#include <stddef.h>

struct slice {
    const char *data;
    size_t length;
};

#endif
