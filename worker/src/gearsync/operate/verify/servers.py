# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verification asks of MySQL and Redis, and which of their errors are about one table alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gearsync.project.expectation import is_wrong_type
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import AccessDenied, StatementRefused
from gearsync.servers.redis_errors import Unavailable, message_of, text
from gearsync.shapes.shape import Command

#: Errors of MySQL that are about one table, or a value in it: other tables can be compared.
ABOUT_TABLE = (AccessDenied, StatementRefused)


class Refused(Unavailable):
    """Redis answers, and refuses to show a key, for example for lack of rights: other keys can be
    compared.
    """


class Servers(NamedTuple):
    """The connections, and the wait until everything that is committed now for a table is in Redis."""

    mysql: Database
    ask: Callable[[Sequence[Command]], list[Any]]
    scan: Callable[[], Iterator[list[bytes]]]
    scan_members: Callable[[bytes, bool], Iterator[list[bytes]]]
    settle: Callable[[str], None]

    def ask_about_keys(self, commands: Sequence[Command]) -> list[Any]:
        """Redis' answers, with WRONGTYPE as the exception. Raises Refused for every other error: it does
        not show the key.
        """
        answers = self.ask(commands)
        for command, answer in zip(commands, answers):
            if isinstance(answer, Exception) and not is_wrong_type(answer):
                raise Refused(f"{text(command[0])}: {message_of(answer)}")
        return answers
