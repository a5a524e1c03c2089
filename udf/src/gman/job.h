/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Submitting a job to the first server of the list that takes it.
 */
#ifndef JOB_H
#define JOB_H

#include "servers.h"

struct request {
    enum packet_type type;
    struct slice function;
    struct slice unique; /* of any length; it is hashed when it is too long */
    struct slice workload;
};

struct job {
    struct server *server; /* with a reference */
    struct connection *connection;
    char handle[HANDLE_MAX + 1];
    size_t handle_length;
};

struct job_error {
    char text[200];
};

/* Calls that returned NULL or 0 because no server took the job, and because no list names one. */
extern atomic_ullong jobs_failed, jobs_without_server;

/* Why a request cannot be sent at all; NULL when it can. */
const char *request_problem(const struct request *request);

/* Submit and wait for the job's handle: connect timeout + I/O timeout at most (a large workload gets a millisecond more for each
 * 16 KiB). A job that a server may have taken is not sent again, unless it has a unique key. On success the caller ends with
 * job_wait, job_done or job_abandon. */
bool job_submit(const struct request *request, struct job *job, struct job_error *error);
/* The result of a foreground job, appended to the buffer. Ends the job, whatever comes of it. */
bool job_wait(struct job *job, struct buffer *result, struct job_error *error);
/* Give the connection back to the pool. */
void job_done(struct job *job);
/* Close the connection: an answer is outstanding. */
void job_abandon(struct job *job);

#endif
