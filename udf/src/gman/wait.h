/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Sockets. Every wait of the library ends at a deadline, a time of clock_ns(), and when the server ends the
 * statement. Meanwhile the server's thread pool knows that the thread waits. Nothing else waits.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

/* Monotonic, in nanoseconds. */
int64_t clock_ns(void);
/* Whether the calling thread's statement ends: by KILL, its time limit or the server's shutdown. */
bool statement_killed(void);
/* Wait until the socket is ready: 0 at the deadline or when the statement is killed, otherwise the events. */
short socket_wait(int fd, short events, int64_t deadline);
/* Receive or send what is possible at once. IO_TIMEOUT: nothing is. */
enum io_result socket_receive(int fd, void *data, size_t size, size_t *got);
enum io_result socket_send(int fd, const void *data, size_t length, size_t *sent);
