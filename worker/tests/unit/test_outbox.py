# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of the outbox, the leases and the fence: the conditions, deletions and scripts'
arguments.
"""

from __future__ import annotations

import datetime
import re

import pymysql
import pytest
from gearsync.apply.drain import Drain
from gearsync.apply.fence import Mark, Rows, batch, known, packed, without_done
from gearsync.apply.source_session import SourceSession
from gearsync.apply.work import Usable, work_of
from gearsync.declare.declaration import Table, Write
from gearsync.outbox.barrier import Barrier
from gearsync.outbox.changes import Entry, summary
from gearsync.outbox.lease import generation_of, share
from gearsync.outbox.spans import Spans
from gearsync.outbox.sql import ids_condition, ranges_condition
from gearsync.outbox.store import deletions
from gearsync.project.commands import Writer
from gearsync.project.payload import Change
from gearsync.servers.mysql_errors import AccessDenied, DatabaseUnavailable, StatementRefused, classified
from gearsync.servers.outage import Outage
from gearsync.shapes.shape import Step
from gearsync.telemetry.metrics import Tally
from gearsync.values import Malformed
from hypothesis import given
from hypothesis import strategies as st

IDS = st.lists(st.integers(1, 60), min_size=1, unique=True).map(sorted)


@given(IDS)
def test_a_condition_holds_for_exactly_the_ids_that_were_read(ids: list[int]) -> None:
    condition = ids_condition(ids)
    matched = {int(number) for number in re.findall(r"id = (\d+)", condition)}
    for low, high in re.findall(r"BETWEEN (\d+) AND (\d+)", condition):
        matched |= set(range(int(low), int(high) + 1))
    assert matched == set(ids)


def test_a_range_without_an_end_has_no_upper_bound() -> None:
    assert ranges_condition([(0, 4), (7, 7), (9, None)]) == "id BETWEEN 0 AND 4 OR id = 7 OR id >= 9"


@given(IDS, st.booleans())
def test_deletions_name_each_id_once_and_a_range_stops_at_its_last_row(ids: list[int], again: bool) -> None:
    deleted: list[int] = []
    for statement in deletions(ids, again):
        match = re.search(r"BETWEEN (\d+) AND (\d+) ORDER BY id LIMIT (\d+)$", statement)
        if match:
            low, high, limit = map(int, match.groups())
            assert limit == high - low + 1
            deleted += range(low, high + 1)
        else:
            deleted += map(int, re.findall(r"SELECT (\d+) AS id", statement))
    assert sorted(deleted) == ids
    assert not again or not any("BETWEEN" in statement for statement in deletions(ids, again))


def test_shards_of_different_generations_are_never_the_same() -> None:
    assert [generation_of(shard) for shard in (0, 1, 2, 3, 5, 6, 9)] == [1, 2, 2, 3, 3, 4, 4]
    for count in range(1, 200):
        first = count * (count - 1) // 2
        assert {generation_of(shard) for shard in range(first, first + count)} == {count}


@pytest.mark.parametrize(
    ("shards", "processes", "fair"), [(0, 1, 0), (1, 2, 1), (8, 3, 3), (8, 0, 8), (4, 4, 1)]
)
def test_the_shares_of_all_processes_hold_all_shards(shards: int, processes: int, fair: int) -> None:
    assert share(shards, processes) == fair


WRITES = [
    Write(type="list", key="l", value="{id}"),
    Write(type="hash", key="h:{id}"),
    Write(type="stream", key="x"),
]
LOG = Writer(Table(table="s.log", columns=["id"], write=WRITES))


def test_a_batch_names_its_fences_its_keys_and_each_step_with_its_change() -> None:
    steps = LOG.steps(Change("s.log", "insert", {"id": 1}, None))
    mark = Mark("fence", 3, 8, 9, [69, 70], b"digests", b"now", ["b7", "x1"])
    assert batch([mark], steps, [70]) == [
        4,
        "fence",
        b"l",
        b"h:1",
        b"x",
        1,
        3,
        8,
        9,
        "69-70",
        b"digests",
        b"now",
        2,
        "b7",
        "x1",
        3,
        -70,
        "RPUSH",
        b"l",
        b"1",
        4,
        70,
        "HSET",
        b"h:1",
        "id",
        1,
        7,
        -70,
        "XADD",
        b"x",
        "*",
        "event",
        "insert",
        "id",
        1,
    ]


def test_what_was_appended_keeps_its_place_and_is_not_appended_again() -> None:
    steps = LOG.steps(Change("s.log", "insert", {"id": 1}, None))
    assert [len(step.commands) for step in without_done(steps, [70], {(70, 0)})] == [0, 1, 1]
    assert [len(step.commands) for step in without_done(steps, [70], {(70, 1), (71, 0)})] == [1, 1, 0]
    assert without_done(steps, [70], set()) == steps


def test_a_fence_of_release_1_0_is_read() -> None:
    content = known({b"epoch": b"4", b"ids": b"7.0,7.2,9.0"})
    assert content.last == (4, 0)
    assert content.appended.keys() == {(7, 0), (7, 2), (9, 0)}
    assert content.partial == ["ids"]
    assert content.created > b"2099"
    content = known(
        {
            b"epoch": b"4",
            b"number": b"6",
            b"created": b"2026",
            b"b5": b"1-3,7",
            b"x2": b"WRONGTYPE",
            b"p6": b"8.1",
            b"later": b"unknown",
        }
    )
    assert (content.last, content.created) == ((4, 6), b"2026")
    assert {number: list(spans) for number, spans in content.batches.items()} == {5: [(1, 3), (7, 7)]}
    assert (content.dead, content.appended) == ({2: "WRONGTYPE"}, {(8, 1): None})
    # Without digests an id is enough.
    assert list(content.same(5, Rows({1: 1, 7: 1, 8: 1}))) == [(1, 1), (7, 7)]
    assert known({}).last is None


def test_the_digests_of_a_fence_are_those_of_its_batches() -> None:
    content = known(
        {
            b"b5": b"1-3,7",
            b"c5": packed([10, 20, 30, 70]),
            b"p6": b"2.0,8.1",
            b"c6": packed([21, 80]),
            # What it belonged to is forgotten.
            b"c4": packed([1]),
        }
    )
    assert content.left_over == ["c4"]
    assert content.appended == {(2, 0): 21, (8, 1): 80}
    assert list(content.same(5, Rows({1: 10, 2: 21, 7: 70, 8: 80}))) == [(1, 1), (7, 7)]


def test_changes_of_one_time_are_counted_together() -> None:
    first, second = b"2026-01-01 00:00:00.500000 insert s.a", b"2025-12-31 23:59:01.000000 refresh s.b c"
    entries = [Entry(number, 0, "", "", b"", stamp) for number, stamp in enumerate([first, second, first])]
    assert list(summary(entries)) == [
        (datetime.datetime.fromisoformat("2026-01-01 00:00:00.500"), "insert", "s.a", 2),
        (datetime.datetime.fromisoformat("2025-12-31 23:59:01"), "refresh", "s.b c", 1),
    ]


def test_an_unexpected_error_affects_one_change(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(Table(table="s.log", columns=["id"], write=WRITES))
    steps = writer.steps

    def fail(change: Change) -> list[Step]:
        if change.new == {"id": 2}:
            raise ZeroDivisionError("secret")
        return steps(change)

    monkeypatch.setattr(writer, "steps", fail)
    entries = [Entry(number, 0, "s.log", "insert", b'{"new":{"id":%d}}' % number) for number in (1, 2, 3)]
    made, dead = work_of(entries, [Usable(None, writer)] * 3, {}, {}, {})
    assert {number: (str(error), error.detail) for number, error in dead.items()} == {
        2: ("applying it raised ZeroDivisionError", "applying it raised ZeroDivisionError: secret")
    }
    assert [step.change for step in made] == [0, 0, 0, 2, 2, 2]


@pytest.mark.parametrize(
    ("code", "denied", "refused"),
    [
        (1142, True, False),
        (1143, True, False),
        (1044, True, False),
        (1045, True, False),
        (1054, False, True),
        (1146, False, True),
        (1267, False, True),
        (1690, False, True),
        (1205, False, False),
        (1213, False, False),
        (1290, False, False),
        (1053, False, False),
        (1040, False, False),
        (3024, False, False),
        (2013, False, False),
        (2006, False, False),
        (0, False, False),
    ],
)
def test_what_an_error_of_the_server_is_about(code: int, denied: bool, refused: bool) -> None:
    error = classified(pymysql.err.OperationalError(code, "words"))
    assert (isinstance(error, AccessDenied), isinstance(error, StatementRefused), str(error)) == (
        denied,
        refused,
        "words",
    )
    # The operating system numbers its own errors.
    assert type(classified(OSError(code, "words"))) is DatabaseUnavailable


def test_open_barriers_make_one_attempt_while_the_database_is_unavailable() -> None:
    attempts = 0

    class Away:
        def last_and_dead(self, _first: int) -> None:
            nonlocal attempts
            attempts += 1
            raise DatabaseUnavailable(OSError("away"))

    drain = object.__new__(Drain)
    drain._database_outage = Outage("MySQL", "mysql", 2.0, Tally())
    drain._session = SourceSession(None, Tally())  # type: ignore[arg-type]  # it is not asked
    questions = [Barrier(Away(), Spans, timeout) for timeout in (3600.0, 3600.0, 0.0)]  # type: ignore[arg-type]
    answers = [drain._look_at(question) for question in questions]
    assert attempts == 1
    assert answers[:2] == [None, None]
    assert answers[2] is not None
    assert (answers[2]["ok"], answers[2]["error"]) == (False, "the changes that wait are unknown: away")


def test_a_change_that_cannot_be_decoded_affects_no_other() -> None:
    entries = [
        Entry(number, 0, "s.log", "insert", payload)
        for number, payload in enumerate([b'{"new":{"id":1}}', b"{", b'{"new":{"id":2}}', b'{"new":{}}'])
    ]
    steps, dead = work_of(
        [*entries, Entry(9, 0, "s.log", "reload", b"{}")],
        [Usable(None, LOG)] * 5,
        {},
        {},
        {9: Malformed("gone")},
    )
    assert sorted(dead) == [1, 3, 9]
    assert [step.change for step in steps] == [0, 0, 0, 2, 2, 2]
