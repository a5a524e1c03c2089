# SPDX-License-Identifier: GPL-3.0-or-later
"""Names are resolved in a bounded time."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
from gearsync.servers.resolver import Resolver
from harness.waiting import until
from harness.worker import SOURCES


class Names:
    """A name server that answers when the test lets it."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0
        self.error: OSError | None = None

    def __call__(self, host: str, port: int) -> Any:
        self.asked += 1
        self.answers.wait()
        if self.error:
            raise self.error
        return [(host, port, self.asked)]


def test_a_name_server_that_does_not_answer_delays_no_caller_and_a_late_answer_is_used() -> None:
    names = Names()
    resolve = Resolver(0.05, names)
    for _ in range(3):
        with pytest.raises(socket.gaierror, match=r"redis\.shop"):
            resolve("redis.shop", 6379)
    # The query stays open; there is no other meanwhile.
    assert names.asked == 1
    names.answers.set()
    until(lambda: not any(thread.name == "resolver" for thread in threading.enumerate()))
    assert resolve("redis.shop", 6379) == [("redis.shop", 6379, 1)]


def test_the_last_answer_is_used_until_there_is_another() -> None:
    names = Names()
    names.answers.set()
    resolve = Resolver(60.0, names)
    assert resolve("redis.shop", 6379) == [("redis.shop", 6379, 1)]
    names.error = socket.gaierror(socket.EAI_AGAIN, "no server")
    assert resolve("redis.shop", 6379) == [("redis.shop", 6379, 1)]
    names.error = socket.gaierror(socket.EAI_NONAME, "no such name")
    with pytest.raises(socket.gaierror, match="no such name"):
        resolve("redis.shop", 6379)
    names.error = None
    assert resolve("redis.shop", 6379) == [("redis.shop", 6379, 4)]


def test_an_address_is_not_resolved() -> None:
    assert Resolver(0.0)("127.0.0.1", 80, 0, socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 80)


def test_the_idna_tables_are_loaded_for_international_names_only() -> None:
    script = (
        "import sys; from gearsync.servers.resolver import Resolver; Resolver(60.0)('localhost', 80); "
        "Resolver(0.0)('127.0.0.1', 80); assert 'stringprep' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": str(SOURCES)})
    with pytest.raises(OSError, match=r".+"):
        Resolver(60.0)("n\N{LATIN SMALL LETTER A WITH DIAERESIS}me.invalid", 80)
