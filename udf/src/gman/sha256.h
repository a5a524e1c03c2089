/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SHA-256 (FIPS 180-4), included so that no other library is mapped into the database server.
 */
#pragma once

#include <stddef.h>

enum { SHA256_SIZE = 32 };

void sha256(const void *data, size_t length, unsigned char digest[SHA256_SIZE]);
