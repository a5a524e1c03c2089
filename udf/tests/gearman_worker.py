"""A Gearman worker of a few lines on a raw socket, for the tests: it knows the protocol and nothing of the code under test."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from pathlib import Path

CAN_DO, GRAB_JOB, NO_JOB, JOB_ASSIGN, PRE_SLEEP, NOOP = 1, 9, 10, 11, 4, 6
WORK_COMPLETE, WORK_FAIL, WORK_DATA, WORK_WARNING, WORK_STATUS = 13, 14, 28, 29, 12


def packet(kind: int, *parts: bytes) -> bytes:
    body = b"\0".join(parts)
    return b"\0REQ" + struct.pack(">II", kind, len(body)) + body


def receive(stream) -> tuple[int, bytes]:
    header = stream.read(12)
    if len(header) < 12:
        raise ConnectionError("the job server closed the connection")
    kind, length = struct.unpack(">II", header[4:])
    return kind, stream.read(length)


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
    if function == "large":
        return [packet(WORK_COMPLETE, handle, b"x" * int(data))]
    if function == "meet":  # done when two jobs are at it: each makes a file, whose path it gets, and waits for the other's
        file = Path(data.decode())
        file.touch()
        for _ in range(6000):
            if len(list(file.parent.iterdir())) == 2:
                return [packet(WORK_COMPLETE, handle, b"1")]
            time.sleep(0.01)
    return [packet(WORK_FAIL, handle)]


FUNCTIONS = ("reverse", "echo", "count", "chatty", "large", "meet", "fail")


def main(port: int, host: str) -> None:
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = connection.makefile("rb")
    connection.sendall(b"".join(packet(CAN_DO, name.encode()) for name in FUNCTIONS))
    while True:
        connection.sendall(packet(GRAB_JOB))
        kind, body = receive(stream)
        if kind == NO_JOB:
            connection.sendall(packet(PRE_SLEEP))
            while receive(stream)[0] != NOOP:
                pass
        elif kind == JOB_ASSIGN:
            handle, function, data = body.split(b"\0", 2)
            connection.sendall(b"".join(answers(function.decode(), handle, data)))


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError, KeyboardInterrupt):
        main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1")
