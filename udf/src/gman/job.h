/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Submit a job to the first server of the list that accepts it.
 */
#pragma once

#include "servers.h"

struct request {
    enum packet_type type;
    struct slice function;
    struct slice unique; /* of any length; hashed when it is too long */
    struct slice workload;
};

struct job {
    struct server *server; /* holds a reference */
    struct connection *connection; /* NULL after the end */
    char handle[HANDLE_MAX + 1];
    size_t handle_length;
    char error[200]; /* why no server has accepted it */
};

/* Calls that returned NULL or 0 because no server accepted the job, and those among them for which no list
 * names a server. */
extern atomic_ullong jobs_failed, jobs_without_server;

/* The time that a workload has on the way, beyond io_timeout_ms: a millisecond for each 16 KiB. */
int64_t workload_time(struct slice workload);
/* Submit and wait for the job's handle: connect timeout + I/O timeout at most (a large workload gets a
 * millisecond more for each 16 KiB). A job that a server may have accepted is not sent again, unless it has a
 * unique key. On success the caller ends with job_wait or job_end. */
bool job_submit(const struct request *request, struct job *job);
/* Append the result of a foreground job to the buffer. Ends the job in any case. */
bool job_wait(struct job *job, struct buffer *result);
/* Return the connection to the pool, or close it because an answer is outstanding. */
void job_end(struct job *job, bool usable);
