# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of Gearmand's workers, for the tests of the loadable functions."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from harness.gearman_protocol import (
    CAN_DO,
    GRAB_JOB,
    JOB_ASSIGN,
    NO_JOB,
    NOOP,
    PRE_SLEEP,
    WORK_COMPLETE,
    WORK_DATA,
    WORK_EXCEPTION,
    WORK_FAIL,
    WORK_STATUS,
    WORK_WARNING,
    Connection,
    packet,
)


def answers(function: str, handle: bytes, data: bytes) -> list[bytes]:
    """What the worker sends for a job of one of the functions that it offers."""
    if function == "reverse":  # the article's worker: the input as WORK_DATA, then the reversed string
        return [packet(WORK_DATA, handle, data), packet(WORK_COMPLETE, handle, data[::-1])]
    if function == "echo":
        return [packet(WORK_COMPLETE, handle, data)]
    if function == "count":
        return [packet(WORK_COMPLETE, handle, str(len(data)).encode())]
    if function == "chatty":
        return [
            packet(WORK_WARNING, handle, b"careful"),
            packet(WORK_STATUS, handle, b"1", b"2"),
            packet(WORK_DATA, handle, b"part"),
            packet(WORK_COMPLETE, handle, b"done"),
        ]
    if function == "raise":  # gearmand makes a WORK_FAIL of it for clients that have not asked for exceptions
        return [packet(WORK_EXCEPTION, handle, data)]
    if function == "large":
        return [packet(WORK_COMPLETE, handle, b"x" * int(data))]
    if (
        function == "meet"
    ):  # ends when two jobs run: each creates a file, whose path it gets, and waits for the other's
        file = Path(data.decode())
        file.touch()
        for _ in range(6000):
            if len(list(file.parent.iterdir())) == 2:
                return [packet(WORK_COMPLETE, handle, b"1")]
            time.sleep(0.01)
    return [packet(WORK_FAIL, handle)]


FUNCTIONS = ("reverse", "echo", "count", "chatty", "large", "meet", "fail", "raise")


def main(port: int, host: str) -> None:
    connection = Connection(port, host, seconds=None)
    for name in FUNCTIONS:
        connection.send(CAN_DO, name.encode())
    while True:
        connection.send(GRAB_JOB)
        kind, body = connection.receive()
        if kind == NO_JOB:
            connection.send(PRE_SLEEP)
            while connection.receive()[0] != NOOP:
                pass
        elif kind == JOB_ASSIGN:
            handle, function, data = body.split(b"\0", 2)
            connection.socket.sendall(b"".join(answers(function.decode(), handle, data)))


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError, KeyboardInterrupt):
        main(int(sys.argv[1]), sys.argv[2])
