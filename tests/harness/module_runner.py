# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that runs the collection's modules for modules.py: each in a process of its own.

That process is a copy of this one, in which a module's imports are made already: starting Python and
importing them takes twenty times as long as most modules do. The module itself is read from its file and run
as Ansible's wrapper does it, as the program `__main__`.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import socket
import sys
import traceback
from typing import NoReturn

PACKAGE = "ansible_collections.gearsync.mysql_redis.plugins.modules"


def run(name: str, arguments: str, out: str, err: str) -> NoReturn:
    """In the copy: what `python -m` does, with the output in two files."""
    status = 1
    try:
        for path, number in ((os.devnull, 0), (out, 1), (err, 2)):
            opened = os.open(path, os.O_RDWR)
            os.dup2(opened, number)
            os.close(opened)
        sys.argv = [name, arguments]
        runpy.run_module(f"{PACKAGE}.{name}", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - what the interpreter does with what a program does not catch
        traceback.print_exc()
    finally:
        # AnsibleModule removes its temporary directory there.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(path: str, names: list[str]) -> None:
    """Answer each line of JSON, the arguments of run(), with the exit status."""
    # The directory of this file: its names are not for the modules.
    del sys.path[0]
    for name in names:
        importlib.import_module(f"{PACKAGE}.{name}")
        del sys.modules[f"{PACKAGE}.{name}"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("r") as stream:
                if line := stream.readline():
                    child = os.fork()
                    if child == 0:
                        listener.close()
                        connection.detach()
                        run(**json.loads(line))
                    _, status = os.waitpid(child, 0)
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
