# SPDX-License-Identifier: GPL-3.0-or-later
"""When a difference counts: looks at a row that changes, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from gearsync.declare.declaration import Table, Write
from gearsync.operate.verify.report import Difference
from gearsync.operate.verify.servers import Servers
from gearsync.operate.verify.table_verifier import TableVerifier
from gearsync.outbox import walk
from gearsync.outbox.synced_table import KeyColumn, SyncedTable
from gearsync.project.expectation import STALE
from gearsync.servers.redis_errors import Unavailable
from gearsync.shapes.shape import Command
from gearsync.values import Malformed

TABLE = Table(table="s.t", columns=["id", "a"], write=[Write(type="string", key="t:{id}", value="{a}")])
SYNCED = SyncedTable("s.t", "s", "t", 1, [KeyColumn("id", "id", "integer")], "0", "row", "old")


class Sides:
    """MySQL and Redis as lists of what each look finds; the last one stays."""

    def __init__(self, rows: list[bytes | None], answers: list[Any]) -> None:
        self.rows, self.answers = rows, answers
        self.settled = self.asked = 0

    @staticmethod
    def _next(found: list[Any]) -> Any:
        return found.pop(0) if len(found) > 1 else found[0]

    def fetch(
        self, _database: Any, _synced: SyncedTable, positions: Sequence[list[str]], _sql: str = ""
    ) -> Iterator[list[tuple[list[str], bytes | None]]]:
        row = self._next(self.rows)
        yield [(position, row) for position in positions] if row is not None else []

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        self.asked += bool(commands)
        return [self._next(self.answers) for _command in commands]

    def settle(self, _table: str) -> None:
        self.settled += 1


def confirmed(
    monkeypatch: pytest.MonkeyPatch, sides: Sides, orphans: bool = False, number: int = 1
) -> list[Difference]:
    monkeypatch.setattr(walk, "fetch", sides.fetch)
    servers = Servers(None, sides.ask, lambda: iter(()), lambda _key, _scored: iter(()), sides.settle)  # type: ignore[arg-type]
    candidates = [
        Difference("s.t", STALE, 0, b"t:%d" % row, None, {"id": row}) for row in range(1, number + 1)
    ]
    return TableVerifier(servers, TABLE, SYNCED).confirm(candidates, orphans)


A, B = b'{"id": 1, "a": "A"}', b'{"id": 1, "a": "B"}'


def test_a_row_that_goes_to_and_fro_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    # MySQL returns A in each look; between two of them the row was B, which Redis showed once.
    assert confirmed(monkeypatch, Sides([A], [b"B", b"A"])) == []
    assert confirmed(monkeypatch, Sides([A], [b"B", b"B", b"A"])) == []
    assert [found.kind for found in confirmed(monkeypatch, Sides([A], [b"B"]))] == [STALE]


def test_a_row_that_has_changed_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert confirmed(monkeypatch, Sides([A, B, B], [b"C", b"B"])) == []
    assert len(confirmed(monkeypatch, Sides([A, B, B], [b"C"]))) == 1


def test_a_row_that_is_equal_to_what_it_was_a_moment_ago_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sides = Sides([A, B], [b"A"])
    assert confirmed(monkeypatch, sides) == []
    assert sides.settled == 1


def test_many_differences_cost_a_few_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = Sides([None], [b"string"])
    assert len(confirmed(monkeypatch, sides, orphans=True, number=500)) == 500
    assert sides.asked < 10


def test_what_is_orphaned_is_not_looked_for_from_mysql_and_only_by_its_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert confirmed(monkeypatch, Sides([None], [b"string"])) == []
    assert confirmed(monkeypatch, Sides([None], [b"hash"]), orphans=True) == []
    assert len(confirmed(monkeypatch, Sides([None], [b"string"]), orphans=True)) == 1


def test_a_refusal_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in (A, None):
        with pytest.raises(Unavailable, match="no permissions"):
            confirmed(monkeypatch, Sides([row], [Exception("this user has no permissions")]), orphans=True)


def test_a_row_that_cannot_be_written_is_unsettled_alone() -> None:
    def transform(row: dict[str, Any], _table: str) -> dict[str, Any]:
        if row["a"] == "bad":
            raise Malformed("no")
        return row

    answers = iter([[b"x"]])
    servers = Servers(
        None,
        lambda _commands: next(answers),
        lambda: iter(()),
        lambda _key, _scored: iter(()),
        lambda _table: None,
    )  # type: ignore[arg-type]
    verifier = TableVerifier(servers, TABLE, SYNCED, transform)
    entries = [
        walk.Entry(["1"], 0, b'{"id": 1, "a": "bad"}'),
        walk.Entry(["2"], 0, b'{"id": 2, "a": "y"}'),
        walk.Entry(["3"], 0, b'{"a": "y"}'),
    ]
    assert [found.key for part in verifier.compare(entries) for found in part] == [b"t:2"]
    assert verifier.report.unsettled == 2
    assert not verifier.report.equal
