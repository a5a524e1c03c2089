/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE /* O_CLOEXEC, st_mtim */
#include "tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The reason when it cannot be read. */
static const char *open_one(struct tls_files *files, enum setting which) {
    char path[TEXT_SETTING_MAX + 1];
    struct stat is;
    settings_text(which, path);
    if (!path[0])
        return NULL;
    int fd = files->fd[which] = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &is) != 0)
        return strerror(errno);
    if (!S_ISREG(is.st_mode))
        return "not a regular file";
    files->choice.stamp[which] =
        (struct stamp){is.st_dev, is.st_ino, is.st_size, is.st_mtim.tv_sec, is.st_mtim.tv_nsec};
    return NULL;
}

bool tls_files_open(struct tls_files *files, char *problem, size_t size) {
    char name[TEXT_SETTING_MAX + 1];
    memset(files, 0, sizeof *files);
    files->choice.version = setting(TLS_MIN_VERSION);
    settings_text(TLS_SERVER_NAME, name);
    address_host_parse((struct slice){name, strlen(name)}, &files->choice.server); /* checked before */
    memset(files->fd, -1, sizeof files->fd);
    for (int i = 0; i < TLS_FILES; i++) {
        const char *why = open_one(files, (enum setting)i);
        if (!why)
            continue;
        snprintf(problem, size, "TLS: %s: %s", settings_name((enum setting)i), why);
        tls_files_close(files);
        return false;
    }
    if ((files->fd[TLS_CERT] < 0) == (files->fd[TLS_KEY] < 0))
        return true;
    snprintf(problem, size, "TLS: tls_cert and tls_key need each other, and one is missing");
    tls_files_close(files);
    return false;
}

void tls_files_close(struct tls_files *files) {
    for (int i = 0; i < TLS_FILES; i++)
        if (files->fd[i] >= 0)
            close(files->fd[i]);
}

const char *tls_file_name(const struct tls_files *files, enum setting which, char out[FILE_NAME_MAX]) {
    snprintf(out, FILE_NAME_MAX, "/proc/self/fd/%d", files->fd[which]);
    return out;
}
