"""What a job server says of itself over its text protocol."""

from __future__ import annotations

from typing import NamedTuple, Optional

from gearsync.declare.configuration import TlsSettings
from gearsync.servers.gearman_socket import connect

#: The end of a list of gearmand's.
_END = b"\n.\n"
_LARGEST = 16 << 20


class Queue(NamedTuple):
    """One function of a job server: jobs in all, those of them that run, and workers that offer it."""

    jobs: int
    running: int
    workers: int


def version(address: tuple[str, int], timeout: float, tls: Optional[TlsSettings] = None) -> str:
    """The server's answer to `version`, ``OK`` and the version. Raises OSError."""
    with connect(address, timeout, tls) as connection:
        connection.sendall(b"version\n")
        return connection.recv(256).decode(errors="replace").strip()


def queues(address: tuple[str, int], timeout: float, tls: Optional[TlsSettings] = None) -> dict[str, Queue]:
    """The functions that the server knows. Raises OSError, and ValueError for an answer that is none."""
    with connect(address, timeout, tls) as connection:
        connection.sendall(b"status\n")
        text = b"\n"
        while not text.endswith(_END):
            more = connection.recv(1 << 16)
            if not more or len(text) > _LARGEST:
                raise ValueError("the answer to status has no end")
            text += more
    found = {}
    for line in text[: -len(_END)].split(b"\n"):
        if line:
            name, jobs, running, workers = line.rsplit(b"\t", 3)
            found[name.decode(errors="replace")] = Queue(int(jobs), int(running), int(workers))
    return found
