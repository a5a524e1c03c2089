# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gearman's text protocol for administrators, over a socket with one deadline for all of it."""

from __future__ import annotations

import re
import socket
import time

DEFAULT_PORT = 4730


class JobServerError(Exception):
    """A job server cannot be reached, or does not answer as one."""


def parse_address(text):
    """'host', 'host:port', '[v6]', '[v6]:port' or a bare v6 address as (host, port)."""
    match = re.match(r"\[([^\]]+)\](?::(\d+))?\Z", text) or re.match(r"([^:\[\]]+)(?::(\d+))?\Z", text)
    if match:
        host, port = match.group(1), int(match.group(2) or DEFAULT_PORT)
    elif text.count(":") > 1 and re.match(r"[0-9A-Fa-f:.]+(%\w+)?\Z", text):
        host, port = text, DEFAULT_PORT
    else:
        raise ValueError(
            f"{text!r} is not the address of a job server; write host, host:port or [address]:port"
        )
    if not 0 < port < 65536:
        raise ValueError(f"{text!r} has no valid port")
    if re.search(r"[\s,]", host):
        raise ValueError(
            f"{text!r} is not the address of a job server; write host, host:port or [address]:port"
        )
    return host, port


def format_address(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Deadline:
    def __init__(self, seconds):
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self):
        left = self.end - time.monotonic()
        if left <= 0:
            raise socket.timeout(f"no answer within {self.seconds} s")
        return left


def open_connection(host, port, deadline, tls=None):
    """A socket to a job server, over IPv6 or IPv4 as its name resolves; inside it TLS, when it is
    given, as tls_context makes it.
    """
    try:
        connection = socket.create_connection((host, port), timeout=deadline.left())
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is None:
                return connection
            connection.settimeout(deadline.left())
            return tls.wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise
    except (OSError, UnicodeError) as error:
        raise JobServerError(f"job server {format_address(host, port)} cannot be reached: {error}") from error


class Admin:
    """A conversation with one job server."""

    def __init__(self, host, port, timeout, tls=None):
        self.name = format_address(host, port)
        self.deadline = Deadline(timeout)
        self.connection = open_connection(host, port, self.deadline, tls)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.connection.close()

    def _line(self):
        while b"\n" not in self.buffer:
            self.connection.settimeout(self.deadline.left())
            received = self.connection.recv(65536)
            if not received:
                raise JobServerError(f"job server {self.name} closed the connection")
            self.buffer += received
        line, _newline, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def _ask(self, command):
        self.connection.settimeout(self.deadline.left())
        self.connection.sendall(command.encode("ascii") + b"\n")
        line = self._line()
        if line.startswith("ERR"):
            raise JobServerError(f"job server {self.name} refuses the command {command!r}: {line}")
        return line

    def _list(self, command):
        lines = []
        line = self._ask(command)
        while line != ".":
            lines.append(line)
            line = self._line()
        return lines

    def _guarded(self, ask, *arguments):
        try:
            return ask(*arguments)
        except (OSError, ValueError) as error:
            raise JobServerError(f"job server {self.name} does not answer as one: {error}") from error

    def version(self):
        return parse_version(self._guarded(self._ask, "version"), self.name)

    def functions(self):
        return self._guarded(lambda: [parse_function(line) for line in self._list("status")])

    def workers(self):
        return self._guarded(lambda: [parse_worker(line) for line in self._list("workers")])


def parse_version(line, name):
    if not line.startswith("OK "):
        raise JobServerError(
            f"what listens at {name} is not a job server: it answers {line[:80]!r} to 'version'"
        )
    return line[3:].strip()


def parse_function(line):
    """A line of 'status': name, jobs in all, jobs that run, workers. A name may hold tabs: the numbers
    are at the end.
    """
    name, total, running, workers = line.rsplit("\t", 3)
    return {
        "name": name,
        "queued": int(total) - int(running),
        "running": int(running),
        "workers": int(workers),
    }


def parse_worker(line):
    """A line of 'workers': file descriptor, address, client id, a colon, its functions."""
    descriptor, address, rest = line.split(" ", 2)
    client, _colon, functions = rest.partition(" :")
    return {"fd": int(descriptor), "address": address, "client_id": client, "functions": functions.split()}
