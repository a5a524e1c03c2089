"""What is deleted, and whose turn it is: the pure parts of the outbox, the leases and the fence."""

from __future__ import annotations

import datetime
import re
from types import SimpleNamespace

import pymysql
import pytest
from gearsync.barrier import Barrier
from gearsync.change import Change, Malformed
from gearsync.commands import Step, Writer
from gearsync.database import DatabaseUnavailable
from gearsync.declaration import Table, Write
from gearsync.drain import Drain, _Outage
from gearsync.lease import share
from gearsync.metrics import Tally
from gearsync.outbox import Entry, ids_condition, layout, summary
from gearsync.ready import Reader, work_of
from gearsync.target import append_ids, flatten
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(1, 60), min_size=1, unique=True).map(sorted))
def test_a_condition_holds_for_exactly_the_ids_that_were_read(ids: list[int]) -> None:
    condition = ids_condition(ids)
    found: set[int] = set()
    for low, high in re.findall(r"BETWEEN (\d+) AND (\d+)", condition):
        found |= set(range(int(low), int(high) + 1))
    for part in re.findall(r"IN \(([^)]*)\)", condition):
        found |= {int(number) for number in part.split(",")}
    assert found == set(ids)


def test_shards_of_different_counts_are_never_the_same() -> None:
    assert [list(layout(shard)) for shard in (0, 1, 2, 3, 5, 6, 9)] == [[0], [1, 2], [1, 2], [3, 4, 5], [3, 4, 5], [6, 7, 8, 9], [6, 7, 8, 9]]
    for count in range(1, 200):
        shards = list(layout(count * (count - 1) // 2))
        assert len(shards) == count
        assert list(layout(shards[-1])) == shards


@pytest.mark.parametrize(("shards", "processes", "fair"), [(0, 1, 0), (1, 2, 1), (8, 3, 3), (8, 0, 8), (4, 4, 1)])
def test_the_shares_of_all_processes_hold_all_shards(shards: int, processes: int, fair: int) -> None:
    assert share(shards, processes) == fair


WRITES = [Write(type="list", key="l", value="{id}"), Write(type="hash", key="h:{id}"), Write(type="stream", key="x")]
LOG = Writer(Table(table="s.log", columns=["id"], write=WRITES))


def test_every_append_has_an_id_of_its_own() -> None:
    steps = LOG.steps(Change("s.log", "insert", {"id": 1}, None))
    assert append_ids(steps, [70]) == ["70.0", "", "70.1"]
    assert flatten(steps, append_ids(steps, [70])) == [
        -1, "70.0", 3, "RPUSH", b"l", b"1", 4, "HSET", b"h:1", "id", 1, -1, "70.1", 7, "XADD", b"x", "*", "event", "insert", "id", 1]


def test_changes_of_one_moment_are_counted_together() -> None:
    first, second = b"2026-01-01 00:00:00.500000 insert s.a", b"2025-12-31 23:59:01.000000 refresh s.b c"
    entries = [Entry(number, "", "", b"", stamp) for number, stamp in enumerate([first, second, first])]
    assert list(summary(entries)) == [
        (datetime.datetime.fromisoformat("2026-01-01 00:00:00.500"), "insert", "s.a", 2),
        (datetime.datetime.fromisoformat("2025-12-31 23:59:01"), "refresh", "s.b c", 1),
    ]


def test_an_error_that_nobody_expected_is_about_one_change(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(Table(table="s.log", columns=["id"], write=WRITES))
    steps = writer.steps

    def fail(change: Change) -> list[Step]:
        if change.new == {"id": 2}:
            raise ZeroDivisionError("secret")
        return steps(change)

    monkeypatch.setattr(writer, "steps", fail)
    work = work_of([Entry(number, "s.log", "insert", b'{"new":{"id":%d}}' % number) for number in (1, 2, 3)], {"s.log": writer}, {}, {})
    assert {number: (str(error), error.detail) for number, error in work.dead.items()} == {
        2: ("applying it raised ZeroDivisionError", "applying it raised ZeroDivisionError: secret")}
    assert [step.change for step in work.steps] == [0, 0, 0, 2, 2, 2]


@pytest.mark.parametrize(("code", "denied", "refused"), [
    (1142, True, False), (1143, True, False), (1044, True, False), (1045, True, False), (1054, False, True), (1146, False, True), (1267, False, True),
    (1690, False, True), (1205, False, False), (1213, False, False), (1290, False, False), (1053, False, False), (1040, False, False), (3024, False, False),
    (2013, False, False), (2006, False, False), (0, False, False),
])
def test_what_an_error_of_the_server_is_about(code: int, denied: bool, refused: bool) -> None:
    error = DatabaseUnavailable(pymysql.err.OperationalError(code, "words"))
    assert (error.denied, error.refused, str(error)) == (denied, refused, "words")
    # The operating system numbers its own errors.
    assert not DatabaseUnavailable(OSError(code, "words")).refused


def test_other_tables_backlog_is_not_looked_through_for_every_batch() -> None:
    class Backlog:
        found, settled, looks = None, True, 0

        def oldest(self, _table: str, _shards: list[int]) -> int | None:
            self.looks += 1
            return self.found

        def is_settled(self, _table: str) -> bool:
            return self.settled

    reader, backlog = object.__new__(Reader), Backlog()
    reader._outbox, reader._nothing_in = backlog, {}  # type: ignore[assignment]  # as much of one as is needed
    assert [reader._oldest("s.t", [1, 2]) for _ in range(3)] == [None] * 3
    assert backlog.looks == 1
    # What is there is asked for each time, and so is what may be changing.
    backlog.found = 7  # type: ignore[assignment]
    assert [reader._oldest("s.t", [1, 2, 3]) for _ in range(3)] == [7] * 3
    backlog.found, backlog.settled = None, False
    assert [reader._oldest("s.u", [1, 2]) for _ in range(3)] == [None] * 3
    assert backlog.looks == 7


def test_open_barriers_make_one_attempt_while_the_database_is_away() -> None:
    attempts = 0

    class Away:
        def snapshot(self) -> None:
            nonlocal attempts
            attempts += 1
            raise DatabaseUnavailable(OSError("away"))

    drain = object.__new__(Drain)
    drain._database_outage, drain._shards = _Outage("MySQL", "mysql", 2.0, Tally()), {}
    questions = [Barrier(SimpleNamespace(database=Away()), timeout) for timeout in (3600.0, 3600.0, 0.0)]  # type: ignore[arg-type]
    answers = [drain._look_for(question, 0.0) for question in questions]
    assert attempts == 1
    assert answers[:2] == [None, None]
    assert answers[2] is not None
    assert (answers[2]["ok"], answers[2]["error"]) == (False, "the database does not answer: away")


def test_a_change_that_cannot_be_understood_takes_no_other_with_it() -> None:
    entries = [Entry(number, "s.log", "insert", payload) for number, payload in enumerate([b'{"new":{"id":1}}', b"{", b'{"new":{"id":2}}', b'{"new":{}}'])]
    work = work_of([*entries, Entry(9, "s.log", "reload", b"{}")], {"s.log": LOG}, {}, {9: Malformed("gone")})
    assert sorted(work.dead) == [1, 3, 9]
    assert [step.change for step in work.steps] == [0, 0, 0, 2, 2, 2]
