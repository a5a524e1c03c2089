# SPDX-License-Identifier: GPL-3.0-or-later
"""Gearman's administrative protocol: a job server's version and its queues."""

from __future__ import annotations

from typing import NamedTuple, Optional

from gearsync.declare.tls import TlsSettings
from gearsync.servers.gearman_socket import connect
from gearsync.servers.hops import Hop, hop

#: The line that ends an answer of several lines.
_END = b"\n.\n"
_LARGEST = 16 << 20


class Queue(NamedTuple):
    """One function of a job server: all its jobs, those of them that run, and the workers that offer it."""

    jobs: int
    running: int
    workers: int


def version(address: tuple[str, int], timeout: float, tls: Optional[TlsSettings] = None) -> tuple[str, Hop]:
    """The server's answer to `version`, ``OK`` and the version; and how the way to it is protected. Raises
    OSError.
    """
    with connect(address, timeout, tls) as connection:
        connection.sendall(b"version\n")
        return connection.recv(256).decode(errors="replace").strip(), hop(connection, tls is not None)


def queues(address: tuple[str, int], timeout: float, tls: Optional[TlsSettings] = None) -> dict[str, Queue]:
    """The functions that the server knows. Raises OSError, and ValueError for an invalid answer."""
    with connect(address, timeout, tls) as connection:
        connection.sendall(b"status\n")
        text = b"\n"
        while not text.endswith(_END):
            more = connection.recv(1 << 16)
            if not more or len(text) > _LARGEST:
                raise ValueError("the answer to `status` is incomplete")
            text += more
    by_function = {}
    for line in text[: -len(_END)].split(b"\n"):
        if line:
            name, jobs, running, workers = line.rsplit(b"\t", 3)
            by_function[name.decode(errors="replace")] = Queue(int(jobs), int(running), int(workers))
    return by_function
