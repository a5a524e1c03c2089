# SPDX-License-Identifier: GPL-3.0-or-later
"""The terms in which servers of a source were drained, as far as the data of a server know: the table
`term`, which replicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional

from gearsync.contract import SCHEMA
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import SchemaAbsent


class Term(NamedTuple):
    """The time in which one server is drained."""

    number: int
    server: str

    def __str__(self) -> str:
        return f"{self.number} {self.server}"


#: How far the data know of each term: microseconds since 1970 by the clock of its server.
Known = Mapping[Term, int]


def own_term(server: str, known: Known, least: int) -> Term:
    """The server's present term, or the one that it begins; its number is not less than ``least``. Pure."""
    latest = max((term.number for term in known), default=0)
    is_present = {term.server for term in known if term.number == latest} == {server}
    return Term(max(least, latest if is_present else latest + 1), server)


class Terms:
    """The table. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Optional[Known]:
        """What the data know; None for a schema of an earlier release."""
        try:
            rows = self._database.rows(f"SELECT number, server, beat FROM {SCHEMA}.term")
        except SchemaAbsent:
            return None
        return {Term(int(number), server.decode()): int(beat) for number, server, beat in rows}

    def beat(self, term: Term) -> int:
        """Note that the server is drained now. Returns when that is, which only grows."""
        self._database.run(
            f"INSERT INTO {SCHEMA}.term (number, server, beat) VALUES (%s, %s, 1000000 * "
            "UNIX_TIMESTAMP(NOW(6))) ON DUPLICATE KEY UPDATE beat = GREATEST(beat + 1, VALUES(beat))",
            tuple(term),
        )
        ((beat,),) = self._database.rows(
            f"SELECT beat FROM {SCHEMA}.term WHERE number = %s AND server = %s", tuple(term)
        )
        return int(beat)
