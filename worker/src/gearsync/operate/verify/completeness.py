# SPDX-License-Identifier: GPL-3.0-or-later
"""The marker in Redis by which a later verification knows that Redis has lost nothing: then a key that is
absent has expired.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gearsync.contract import whole_key
from gearsync.declare.declaration import Table
from gearsync.operate.verify.servers import Refused
from gearsync.shapes.shape import Command


class CompletenessMarker:
    """Is set when all rows of a table were in Redis, and disappears with Redis' data.

    An emptied Redis, or another one in its place, has no marker; a worker that sees Redis step back to an
    older state removes it. It is valid only while both of its parts are of the same verification: one is set
    before the first row is compared, the other after the last.
    """

    def __init__(self, ask: Callable[[Sequence[Command]], list[Any]], source: str, table: Table) -> None:
        self._key = whole_key(source, table.table)
        self._ask = ask
        # Another declaration has other keys.
        self._declaration = (
            hashlib.sha256(msgspec.json.encode([table.fields, table.write, table.transform]))
            .hexdigest()
            .encode()
        )
        self._run = b"%s %s" % (self._declaration, uuid.uuid4().hex.encode())

    def is_valid(self) -> bool:
        """Whether everything that was written has been in Redis since, or has expired. Raises Unavailable."""
        begun, ended = self._asked("HMGET", self._key, "begun", "ended")
        return begun is not None and begun == ended and begun.startswith(self._declaration)

    def begin(self) -> None:
        """Raises Unavailable."""
        self._asked("HSET", self._key, "begun", self._run)

    def end(self) -> None:
        """Raises Unavailable."""
        self._asked("HSET", self._key, "ended", self._run)

    def _asked(self, *command: Any) -> Any:
        (answer,) = self._ask([command])
        if isinstance(answer, Exception):
            raise Refused(f"{command[0]} {self._key}: {answer}")
        return answer
