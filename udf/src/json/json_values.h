/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef JSON_VALUES_H
#define JSON_VALUES_H

#include "argument.h"

/* All arguments, with commas between them. */
void json_write_values(struct json_state *state, const udf_args *args);

#endif
