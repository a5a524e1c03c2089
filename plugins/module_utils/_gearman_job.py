# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Submit one job in Gearman's binary protocol and follow it to its end."""

from __future__ import annotations

import collections
import hashlib
import struct

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_admin import (
    Deadline,
    JobServerError,
    format_address,
    open_connection,
)

REQUEST, RESPONSE = b"\0REQ", b"\0RES"
HEADER = struct.Struct(">4sII")

JOB_CREATED = 8
WORK_STATUS = 12
WORK_COMPLETE = 13
WORK_FAIL = 14
ERROR = 19
WORK_EXCEPTION = 25
OPTION_REQ = 26
OPTION_RES = 27
WORK_DATA = 28
WORK_WARNING = 29

# By priority: the command for a job whose result is waited for, and the one for a job in the background.
SUBMIT = {"low": (33, 34), "normal": (7, 18), "high": (21, 32)}

# What a job server keeps of a unique; two longer ones would be taken for the same.
MAX_UNIQUE = 63
# No worker's answer is that long; a greater length is not Gearman's protocol.
MAX_PACKET = 1 << 30

Outcome = collections.namedtuple("Outcome", "handle data warnings result")


class JobError(Exception):
    """The job came to an end without a result; with what had arrived until then."""

    def __init__(self, text, outcome):
        super().__init__(text)
        self.outcome = outcome


def packet(command, *arguments):
    body = b"\0".join(arguments)
    return HEADER.pack(REQUEST, command, len(body)) + body


def fit_unique(unique):
    """A unique that the job server keeps whole: what is longer is replaced by its hash."""
    return (
        unique
        if len(unique) <= MAX_UNIQUE
        else hashlib.sha256(unique).hexdigest()[:MAX_UNIQUE].encode("ascii")
    )


def submit_name(priority, background):
    """What the protocol calls the packet that submits such a job."""
    return (
        "SUBMIT_JOB"
        + {"low": "_LOW", "normal": "", "high": "_HIGH"}[priority]
        + ("_BG" if background else "")
    )


class Connection:
    def __init__(self, host, port, deadline, tls=None):
        self.name = format_address(host, port)
        self.deadline = deadline
        self.socket = open_connection(host, port, deadline, tls)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.socket.close()

    def send(self, command, *arguments):
        self.socket.settimeout(self.deadline.left())
        self.socket.sendall(packet(command, *arguments))

    def _exactly(self, size):
        chunks, missing = [], size
        while missing:
            self.socket.settimeout(self.deadline.left())
            chunk = self.socket.recv(min(missing, 1 << 20))
            if not chunk:
                raise JobServerError(f"job server {self.name} closed the connection")
            chunks.append(chunk)
            missing -= len(chunk)
        return b"".join(chunks)

    def receive(self):
        """The next packet: (command, body)."""
        magic, command, size = HEADER.unpack(self._exactly(HEADER.size))
        if magic != RESPONSE or size > MAX_PACKET:
            raise JobServerError(f"what listens at {self.name} is not a job server")
        body = self._exactly(size)
        if command == ERROR:
            code, _separator, text = body.partition(b"\0")
            raise JobServerError(
                "job server {}: {} ({})".format(
                    self.name, text.decode("utf-8", "replace"), code.decode("utf-8", "replace")
                )
            )
        return command, body


def run_job(
    host, port, function, data, *, unique=b"", priority="normal", background=False, timeout=10.0, tls=None
):
    """Submit a job and, unless it goes to the background, wait for its end. All bytes."""
    outcome = Outcome("", [], [], None)
    try:
        with Connection(host, port, Deadline(timeout), tls) as connection:
            if not background:
                # Otherwise the server turns a worker's exception into a bare failure.
                connection.send(OPTION_REQ, b"exceptions")
                connection.receive()
            connection.send(SUBMIT[priority][1 if background else 0], function, fit_unique(unique), data)
            command, body = connection.receive()
            if command != JOB_CREATED:
                raise JobServerError(f"job server {connection.name} answers a job with packet {command}")
            outcome = outcome._replace(handle=body.decode("ascii", "replace"))
            while not background and outcome.result is None:
                outcome = _step(connection.receive(), outcome)
    except OSError as error:
        where = "job server {}, function {}".format(
            format_address(host, port), function.decode("utf-8", "replace")
        )
        if outcome.handle:
            raise JobError(f"{where}: job {outcome.handle} has not ended: {error}", outcome) from error
        raise JobServerError(f"{where}: the job was perhaps not taken: {error}") from error
    return outcome


def _step(received, outcome):
    """What an answer of the worker makes of the outcome so far."""
    command, body = received
    handle, _separator, payload = body.partition(b"\0")
    if handle.decode("ascii", "replace") != outcome.handle:
        return outcome
    if command == WORK_DATA:
        outcome.data.append(payload)
    elif command == WORK_WARNING:
        outcome.warnings.append(payload)
    elif command == WORK_FAIL:
        raise JobError(f"job {outcome.handle}: the worker reports that it has failed", outcome)
    elif command == WORK_EXCEPTION:
        raise JobError(
            "job {}: the worker's exception: {}".format(outcome.handle, payload.decode("utf-8", "replace")),
            outcome,
        )
    elif command == WORK_COMPLETE:
        return outcome._replace(result=payload)
    return outcome
