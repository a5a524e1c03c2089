/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the settings of TLS say: the files that they name, open to be read, and the rest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "address.h"
#include "settings.h"

enum { FILE_NAME_MAX = 32 };

struct tls_files {
    int fd[TLS_FILES]; /* -1: the setting is empty */
    struct tls_choice {
        struct stamp { /* what tells that a file is another one, or was written to */
            dev_t device;
            ino_t number;
            off_t size;
            time_t seconds;
            long nanoseconds;
        } stamp[TLS_FILES];
        int64_t version;       /* of TLS_MIN_VERSION */
        struct address server; /* the host that certificates must have; "": the one in each address */
    } choice;
};

/* Regular files only, because opening or reading another one may wait for ever. False with the reason, and
 * nothing to close. */
bool tls_files_open(struct tls_files *files, char *problem, size_t size);
void tls_files_close(struct tls_files *files);
/* The name of an open file, for OpenSSL: whatever lies at its path by now, it is the one that was checked. */
const char *tls_file_name(const struct tls_files *files, enum setting which, char out[FILE_NAME_MAX]);
