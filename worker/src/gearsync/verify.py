"""Are both sides equal? Walks MySQL and asks Redis, then walks Redis and asks MySQL; what differs is looked at again before it is reported.

Constant memory: one piece of the table, or one page of Redis' keys, at a time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import msgspec

from gearsync import source as mysql
from gearsync.change import Row, decode_outbox
from gearsync.commands import Command
from gearsync.database import Database
from gearsync.declaration import Table
from gearsync.expectation import ORPHANED, Expectation, difference
from gearsync.source import Source
from gearsync.transform import Transform, transformed

#: Rows of one SELECT, and keys of one page of SCAN.
CHUNK = 1000
#: How often a row that changes while it is looked at is looked at again.
ROUNDS = 8
EXAMPLES = 10


class Difference(NamedTuple):
    """One key, or one member of a key, that is not as MySQL says."""

    table: str
    kind: str
    write: int
    key: bytes
    member: Optional[bytes]
    row: Row
    """The row's identity, as far as it is known."""


class Report(msgspec.Struct):
    """What a verification of one table found."""

    table: str
    rows: int = 0
    keys: int = 0
    different: Counter[str] = msgspec.field(default_factory=Counter)
    repaired: int = 0
    remaining: Counter[str] = msgspec.field(default_factory=Counter)
    """What is still different, by kind."""
    unsettled: int = 0
    unverifiable: list[str] = msgspec.field(default_factory=list)
    examples: list[Difference] = msgspec.field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not self.different and not self.unsettled


class Servers(NamedTuple):
    """The edges: MySQL, Redis, and the wait until all that is committed now is in Redis."""

    mysql: Database
    ask: Callable[[Sequence[Command]], list[Any]]
    scan: Callable[[], Iterator[list[bytes]]]
    scan_members: Callable[[bytes, bool], Iterator[list[bytes]]]
    settle: Callable[[], None]


class Verifier:
    """One declared table."""

    def __init__(self, servers: Servers, table: Table, source: Source, transform: Optional[Transform] = None) -> None:
        self.servers = servers
        self.source = source
        self.transform = transform
        self.expectation = Expectation(table, [column.declared for column in source.key])
        self.report = Report(table.table, unverifiable=self.expectation.unverifiable)

    def row(self, text: bytes) -> Optional[Row]:
        """A row of MySQL's as it is written; None for one that the transform leaves out."""
        row = decode_outbox(self.source.table, "update", b'{"new":' + text + b"}").new
        return row if self.transform is None or row is None else transformed(self.transform, row, self.source.table)

    def identity(self, row: Row) -> Row:
        return {column.declared: row[column.declared] for column in self.source.key}

    def forward(self, sample: float, where: str = "") -> Iterator[list[Difference]]:
        """Pieces of what MySQL has and Redis has not as it should; ``sample`` is the share of rows to look at. Raises mysql.NoKey."""
        if sample < 1.0:
            where = f"({where}) AND RAND() < {sample!r}" if where else f"RAND() < {sample!r}"
        for piece in mysql.walk(self.servers.mysql, self.source, CHUNK, where):
            yield self._look(piece)

    def ends(self) -> Iterator[list[Difference]]:
        """The same for the rows with the least and with the greatest keys alone, which costs as much for a large table as for a small one."""
        for statement in (mysql.chunk_sql(self.source, None, CHUNK), mysql.last_sql(self.source, CHUNK)):
            yield self._look(mysql.entries(self.source, self.servers.mysql.rows(statement)))

    def _look(self, piece: Sequence[mysql.Entry]) -> list[Difference]:
        texts = [entry.row for entry in piece if entry.row is not None]
        # Too large to be put into words by the server: nobody can tell.
        self.report.unsettled += len(piece) - len(texts)
        rows = [row for row in map(self.row, texts) if row is not None]
        self.report.rows += len(piece)
        return [self._different(probe, kind, row) for row, probe, kind in self._compare(rows)]

    def _different(self, probe: Any, kind: str, row: Row) -> Difference:
        return Difference(self.source.table, kind, probe.write, probe.key, probe.member, self.identity(row))

    def _compare(self, rows: Sequence[Row]) -> list[tuple[Row, Any, str]]:
        probes = [(row, probe) for row in rows for probe in self.expectation.probes(row)]
        self.report.keys += len(probes)
        answers = self.servers.ask([probe.command for _row, probe in probes])
        found = []
        for (row, probe), answer in zip(probes, answers):
            if answer == probe.expected:
                continue
            kind = difference(probe, answer, self.expectation.expires(probe))
            if kind:
                found.append((row, probe, kind))
        return found

    def candidates(self, write: int, key: bytes, member: Optional[bytes]) -> Iterator[Row]:
        """Rows that may have made this key, and this member of it: those whose identity is one."""
        for row in self.expectation.rows(write, key, member):
            try:
                mysql.identity(self.source, row)
            except ValueError:
                continue
            yield row

    def fetch_keys(self, rows: Sequence[Row]) -> dict[tuple[bytes, ...], Row]:
        """The rows with these identities, by identity, with what their keys are made of."""
        return self._fetch(rows, "" if self.transform or self.expectation.needs_values else self.source.old_sql)

    def asks_for(self, write: int, there: dict[tuple[bytes, ...], Row], row: Row, key: bytes, member: Optional[bytes]) -> bool:
        """Whether MySQL's row of this identity makes this key, and this member of it."""
        found = there.get(self._name(row))
        return found is not None and self.expectation.holds(write, found, key, member)

    def _fetch(self, identities: Sequence[Row], sql: str = "") -> dict[tuple[bytes, ...], Row]:
        """The rows as they are now, by their identity."""
        positions = [mysql.identity(self.source, row) for row in identities]
        rows = [row for row in map(self.row, mysql.fetch(self.servers.mysql, self.source, positions, sql)) if row is not None]
        return {self._name(row): row for row in rows}

    def _name(self, row: Row) -> tuple[bytes, ...]:
        return mysql.identity_bytes(self.source.key, row)

    def confirm(self, candidates: list[Difference]) -> list[Difference]:
        """Those of ``candidates`` that are still different when nothing is on its way: a row that was the same before and after the look."""
        confirmed: list[Difference] = []
        for _round in range(ROUNDS):
            if not candidates:
                return confirmed
            identities = list({self._name(found.row): found.row for found in candidates}.values())
            before = self._fetch(identities)
            self.servers.settle()
            looks = [self._again(found, before.get(self._name(found.row))) for found in candidates]
            later = self._fetch(identities)
            moving = []
            for found, look in zip(candidates, looks):
                name = self._name(found.row)
                if before.get(name) != later.get(name):
                    moving.append(found)
                elif look is not None:
                    confirmed.append(look)
            candidates = moving
        self.report.unsettled += len(candidates)
        return confirmed

    def _again(self, found: Difference, row: Optional[Row]) -> Optional[Difference]:
        """The difference as it is now, with ``row`` as MySQL has it."""
        if row is not None:
            wanted = [probe for probe in self.expectation.probes(row) if (probe.write, probe.key, probe.member) == (found.write, found.key, found.member)]
            if wanted:
                (answer,) = self.servers.ask([wanted[0].command])
                kind = difference(wanted[0], answer, self.expectation.expires(wanted[0]))
                return None if kind is None else found._replace(kind=kind)
        # MySQL does not ask for this key or member: is it there?
        write = self.expectation.shapes[found.write].write
        command: Command = ("EXISTS", found.key)
        if found.member is not None:
            command = ("SISMEMBER" if write.type == "set" else "ZSCORE", found.key, found.member)
        (answer,) = self.servers.ask([command])
        there = answer is not None and answer != 0 if write.type == "zset" and found.member is not None else answer not in (None, 0) and not isinstance(
            answer, Exception)
        return found._replace(kind=ORPHANED) if there else None

    def note(self, differences: Sequence[Difference]) -> None:
        """Count what was confirmed."""
        for found in differences:
            self.report.different[found.kind] += 1
            if len(self.report.examples) < EXAMPLES:
                self.report.examples.append(found)

    def repair(self, differences: Sequence[Difference]) -> list[Difference]:
        """Have the worker write these rows anew, and remove what no row asks for; those of ``differences`` that are not mended then."""
        if not differences:
            return []
        mysql.enqueue_reload(self.servers.mysql, self.source, [found.row for found in differences])
        self.servers.settle()
        return self.confirm(list(differences))


def backward(verifiers: Sequence[Verifier], servers: Servers, sample: float) -> Iterator[tuple[Verifier, list[Difference]]]:
    """What Redis has and no row of MySQL asks for, by table; ``sample`` is the share of keys to look at.

    Redis is walked once for all tables. A key that several writes may have made is orphaned when none of them asks for it.
    """
    for page in servers.scan():
        keys = [key for key in page if sample >= 1.0 or random.random() < sample]  # noqa: S311  # a sample, no secret
        claimed = [(key, claims) for key, claims in ((key, _claims(verifiers, key)) for key in keys) if claims]
        # Only where several types come into question is the type asked for.
        unclear = [number for number, (_key, claims) in enumerate(claimed) if len({verifier.expectation.redis_type(write) for verifier, write in claims}) > 1]
        for number, kind in zip(unclear, servers.ask([("TYPE", claimed[number][0]) for number in unclear])):
            key, claims = claimed[number]
            claimed[number] = (key, [(verifier, write) for verifier, write in claims if verifier.expectation.redis_type(write) == kind])
        plain: list[_Candidate] = []
        for key, claims in claimed:
            with_members = [(verifier, write) for verifier, write in claims if verifier.expectation.has_members(write)]
            if with_members:
                kind = with_members[0][0].expectation.redis_type(with_members[0][1])
                for members in servers.scan_members(key, kind == b"zset"):
                    yield from _unclaimed([(key, member, with_members) for member in members])
            elif claims:
                plain.append((key, None, claims))
        yield from _unclaimed(plain)


_Claims = list[tuple[Verifier, int]]
_Candidate = tuple[bytes, Optional[bytes], _Claims]


def _claims(verifiers: Sequence[Verifier], key: bytes) -> _Claims:
    return [(verifier, write) for verifier in verifiers for write in verifier.expectation.claims(key)]


def _unclaimed(candidates: Sequence[_Candidate]) -> Iterator[tuple[Verifier, list[Difference]]]:
    """Those keys and members that no row asks for, by the first table whose row they may have been."""
    told: list[list[tuple[Verifier, int, Row]]] = []
    wanted: dict[int, list[Row]] = {}
    verifiers: dict[int, Verifier] = {}
    for key, member, claims in candidates:
        rows = [(verifier, write, row) for verifier, write in claims for row in verifier.candidates(write, key, member)]
        told.append(rows)
        for verifier, _write, row in rows:
            verifiers[id(verifier)] = verifier
            wanted.setdefault(id(verifier), []).append(row)
    there = {number: verifiers[number].fetch_keys(rows) for number, rows in wanted.items()}
    orphans: dict[int, list[Difference]] = {}
    for (key, member, _claims), rows in zip(candidates, told):
        if not rows or any(verifier.asks_for(write, there[id(verifier)], row, key, member) for verifier, write, row in rows):
            continue
        verifier, write, row = rows[0]
        orphans.setdefault(id(verifier), []).append(Difference(verifier.source.table, ORPHANED, write, key, member, row))
    for number, verifier in verifiers.items():
        verifier.report.keys += len(wanted[number])
        if number in orphans:
            yield verifier, orphans[number]
