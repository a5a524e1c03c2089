# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that starts workers for worker.py: each is a copy of this process, in which the worker's
imports are made already.

Starting Python and importing them costs half a second of a processor, more than most tests need for all the
rest.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

import gearsync.cli.run  # noqa: F401  # what the service needs, imported before the copies are made
from gearsync.cli.main import main


def run(arguments: list[str], log: str, env: dict[str, str]) -> NoReturn:
    """In the copy: what `python -m gearsync` does, in a process group of its own."""
    status = 1
    try:
        os.setpgid(0, 0)
        for number, opened in (
            (0, os.open(os.devnull, os.O_RDONLY)),
            (1, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)),
        ):
            os.dup2(opened, number)
            os.close(opened)
        os.dup2(1, 2)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["gearsync", *arguments]
        status = main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - what the interpreter does with what a program does not catch
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def answer(connection: socket.socket, request: dict[str, Any]) -> NoReturn:
    """In a copy of its own: start a worker, and send its number, then its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        connection.close()
        run(**request)
    # Here too: its number is a group's as soon as it is sent.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    try:
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    finally:
        os._exit(0)


def serve(path: str) -> None:
    """Answer each line of JSON, the arguments of run()."""
    # The kernel forgets the copies that have ended; none is waited for here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("r") as stream:
                line = stream.readline()
                if line and os.fork() == 0:
                    listener.close()
                    answer(connection, json.loads(line))


if __name__ == "__main__":
    serve(sys.argv[1])
