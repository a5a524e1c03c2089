/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The files that the settings of TLS name, open to be read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "settings.h"

enum { FILE_NAME_MAX = 32 };

struct tls_files {
    int fd[TEXT_SETTINGS]; /* -1: the setting is empty */
    struct stamp { /* what tells that a file is another one, or was written to */
        dev_t device;
        ino_t number;
        off_t size;
        time_t seconds;
        long nanoseconds;
    } stamp[TEXT_SETTINGS];
};

/* Regular files only, because opening or reading another one may wait for ever. False with the reason, and
 * nothing to close. */
bool tls_files_open(struct tls_files *files, char *problem, size_t size);
void tls_files_close(struct tls_files *files);
/* The name of an open file, for OpenSSL: whatever lies at its path by now, it is the one that was checked. */
const char *tls_file_name(const struct tls_files *files, enum text_setting which, char out[FILE_NAME_MAX]);
