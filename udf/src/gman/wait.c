/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE /* ppoll, TEMP_FAILURE_RETRY */
#include "wait.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What the servers export for their own plugins. In a server without one of these the reference is NULL. */
extern void *current_thread(void) __asm__("_current_thd") __attribute__((weak));
extern int thd_kill_level(const void *thread) __attribute__((weak)); /* MariaDB; any kill */
extern int thd_killed(const void *thread) __attribute__((weak)); /* MySQL; in MariaDB not for a time limit */
extern void thd_wait_begin(void *thread, int kind) __attribute__((weak));
extern void thd_wait_end(void *thread) __attribute__((weak));

enum { WAIT_SLEEP = 1 }; /* in both servers */

/* Most answers come within the first one: then the thread pool need not know, and begins no other thread. */
static const int64_t first_slice = 1000000, slice = 100 * 1000000;

int64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bool statement_killed(void) {
    if (current_thread && thd_kill_level) {
        void *thread = current_thread();
        return thread && thd_kill_level(thread) != 0;
    }
    return thd_killed && thd_killed(NULL) != 0;
}

/* poll() for so long; 0: nothing happened, or a signal did. */
static short poll_for(int fd, short events, int64_t time) {
    struct pollfd poll_fd = {.fd = fd, .events = events};
    struct timespec timeout = {.tv_sec = (time_t)(time / 1000000000), .tv_nsec = (long)(time % 1000000000)};
    int ready = ppoll(&poll_fd, 1, &timeout, NULL);
    if (ready > 0)
        return poll_fd.revents;
    return ready == 0 || errno == EINTR ? 0 : POLLERR;
}

/* POLLERR and POLLHUP count as readiness: the next call returns the error. */
short socket_wait(int fd, short events, int64_t deadline) {
    int64_t longest = first_slice;
    bool told = false;
    for (;;) {
        int64_t left = deadline - clock_ns(), time = left < 0 ? 0 : left < longest ? left : longest;
        short ready = poll_for(fd, events, time);
        if (ready || clock_ns() >= deadline || statement_killed()) {
            if (told)
                thd_wait_end(NULL);
            return ready;
        }
        if (!told && thd_wait_begin && thd_wait_end) {
            thd_wait_begin(NULL, WAIT_SLEEP);
            told = true;
        }
        longest = slice;
    }
}

static enum io_result outcome(ssize_t done, size_t *count) {
    *count = done > 0 ? (size_t)done : 0;
    if (done >= 0)
        return IO_OK;
    return errno == EAGAIN || errno == EWOULDBLOCK ? IO_TIMEOUT : IO_CLOSED;
}

enum io_result socket_receive(int fd, void *data, size_t size, size_t *got) {
    ssize_t done = TEMP_FAILURE_RETRY(recv(fd, data, size, MSG_DONTWAIT));
    return done == 0 ? IO_CLOSED : outcome(done, got);
}

enum io_result socket_send(int fd, const void *data, size_t length, size_t *sent) {
    return outcome(TEMP_FAILURE_RETRY(send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)), sent);
}
