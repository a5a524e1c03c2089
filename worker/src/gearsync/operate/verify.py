"""Are both sides equal? Walks MySQL and asks Redis, then walks Redis and asks MySQL; what differs is looked at again before it is reported.

Constant memory: one piece of the table, or one page of Redis' keys, at a time.
"""

from __future__ import annotations

import hashlib
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import msgspec

from gearsync.contract import whole_key
from gearsync.declare.declaration import Table
from gearsync.outbox import reloads, walk
from gearsync.outbox.synced_table import Position, SyncedTable, identity, identity_bytes
from gearsync.project.expectation import ABSENT, MISSING, ORPHANED, Expectation, difference, is_wrong_type
from gearsync.project.transform import Transform, transformed
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import AccessDenied, StatementInvalid, StatementRefused
from gearsync.servers.redis_errors import Unavailable, text, words_of
from gearsync.shapes.rendering import Untraceable
from gearsync.shapes.shape import Command, Probe
from gearsync.values import Malformed, Row

#: Rows of one SELECT, and keys of one page of SCAN.
CHUNK = 1000
#: How often a row that changes while it is looked at is looked at again.
ROUNDS = 8
#: How often a difference is seen, each time beside a row that was the same before and after. Once may be a row that went to and fro in between.
LOOKS = 3
#: Differences that are looked at again together: each look waits until what is on its way has arrived.
TOGETHER = 10_000
EXAMPLES = 10

#: Why absent keys with a time to live are no proof of anything.
_LOST_OR_EXPIRED = "absent, and it may have expired or Redis may have lost it; --repair or gearsync resync writes it again"

#: A row's identity as Redis sees it.
Name = tuple[bytes, ...]


class Difference(NamedTuple):
    """One key, or one member of a key, that is not as MySQL says."""

    table: str
    kind: str
    write: int
    key: bytes
    member: Optional[bytes]
    row: Row
    """The row's identity, as far as it is known."""


class Seen(NamedTuple):
    """A row as MySQL has it."""

    name: Name
    identity: Row
    row: Optional[Row]
    """What is written of it; None when the transform leaves it out."""
    mistake: str
    """Why nobody can say what is to be written; empty when it can be said."""


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
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    """Why rows could not be compared, and how many."""
    unverifiable: list[str] = msgspec.field(default_factory=list)
    untraced: list[str] = msgspec.field(default_factory=list)
    """Writes whose keys do not name their rows, so that only the rows are looked for in Redis."""
    shared: int = 0
    """Keys that no row of this table asks for, but that another write may have made whose rows cannot be asked for."""
    untraceable: int = 0
    """Keys and members of which nobody can say whether a row asks for them."""
    absent: int = 0
    """Keys and members with a time to live that are gone from a Redis that has not lost its data."""
    walked: int = 0
    """Keys and members in Redis that rows of this table may have made."""
    refused: str = ""
    """Why nothing was removed."""
    examples: list[Difference] = msgspec.field(default_factory=list)
    error: str = ""
    """Why the table could not be looked at to its end."""

    @property
    def equal(self) -> bool:
        return not self.remaining and not self.unsettled and not self.error

    @property
    def may_prune(self) -> bool:
        return bool(self.remaining[ORPHANED]) and not self.error and not self.refused

    def unsettle(self, reason: str, number: int = 1) -> None:
        self.unsettled += number
        self.reasons[reason] += number


class Servers(NamedTuple):
    """The edges: MySQL, Redis, and the wait until all that is committed now of a table is in Redis."""

    mysql: Database
    ask: Callable[[Sequence[Command]], list[Any]]
    scan: Callable[[], Iterator[list[bytes]]]
    scan_members: Callable[[bytes, bool], Iterator[list[bytes]]]
    settle: Callable[[str], None]


class Refused(Unavailable):
    """Redis answers, but does not say what a key holds: an account's rights, for example. Other keys may be asked for."""


class Whole:
    """Redis' word that it has lost nothing since all of a table was there; then a key that is gone has expired.

    An emptied Redis, or another one in its place, does not have the word; from one with an older state a worker that sees it removes it. It is one only as
    long as both of its parts are of the same run: the first is given before anything is looked at, the second when all was there.
    """

    def __init__(self, ask: Callable[[Sequence[Command]], list[Any]], name: str, table: Table) -> None:
        """``name`` is the pipeline's source."""
        self._key = whole_key(name, table.table)
        self._ask = ask
        # Of another declaration's keys it says nothing.
        self._declaration = hashlib.sha256(msgspec.json.encode([table.fields, table.write, table.transform])).hexdigest().encode()
        self._run = b"%s %s" % (self._declaration, uuid.uuid4().hex.encode())

    def given(self) -> bool:
        """Whether all that was there once has been there since, or has expired. Raises Unavailable."""
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


#: Errors that are about one table, or a value in it: others can be asked.
ABOUT_TABLE = (AccessDenied, StatementRefused)


class Verifier:
    """One declared table."""

    intact = False
    """Whether Redis has lost nothing of the table, so that what has a time to live and is gone has expired."""

    def __init__(self, servers: Servers, table: Table, synced: SyncedTable, transform: Optional[Transform] = None, examples: int = EXAMPLES) -> None:
        self.servers = servers
        self.synced = synced
        self.transform = transform
        self.expectation = Expectation(table, [column.declared for column in synced.key])
        self.report = Report(table.table, unverifiable=self.expectation.unverifiable, untraced=self.expectation.untraced)
        self._examples = examples

    # Rows

    def _seen(self, row: Row) -> Seen:
        """Raises Malformed for a row whose identity cannot be told."""
        try:
            identity = {column.declared: row[column.declared] for column in self.synced.key}
        except KeyError as error:
            raise Malformed(f"column {error} of the key is not in the row: run site.yml") from None
        name = identity_bytes(self.synced.key, identity)
        try:
            return Seen(name, identity, row if self.transform is None else transformed(self.transform, row, self.synced.table), "")
        except Malformed as error:
            return Seen(name, identity, None, str(error))

    def _read(self, position: Position, words: Optional[bytes]) -> Optional[Seen]:
        """A row that was read; None when it is gone. Raises Malformed."""
        if words is not None:
            row: Optional[Row] = self.synced.row(words)
        else:
            row = walk.large_row(self.servers.mysql, self.synced, position)
        return None if row is None else self._seen(row)

    def _fetch(self, identities: Sequence[Row], sql: str = "") -> Iterator[Seen]:
        """The rows with these identities as they are now."""
        positions = [identity(self.synced, row) for row in identities]
        for group in walk.fetch(self.servers.mysql, self.synced, positions, sql):
            for position, words in group:
                try:
                    seen = self._read(position, words)
                except Malformed as error:
                    self.report.unsettle(str(error))
                    continue
                if seen is not None:
                    yield seen

    def name(self, row: Row) -> Name:
        return identity_bytes(self.synced.key, row)

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        """What Redis answers; WRONGTYPE stands as the exception. Raises Unavailable for every other refusal: it says nothing about the key."""
        answers = self.servers.ask(commands)
        for command, answer in zip(commands, answers):
            if isinstance(answer, Exception) and not is_wrong_type(answer):
                raise Refused(f"{text(command[0])}: {words_of(answer)}")
        return answers

    # From MySQL to Redis

    def forward(self, sample: float) -> Iterator[list[Difference]]:
        """Pieces of what MySQL has and Redis has not as it should; ``sample`` is the share of rows to look at. Raises NoKey."""
        found: list[Difference] = []
        size = 0
        for piece in walk.walk(self.servers.mysql, self.synced, CHUNK, sample):
            for part in self._look(piece.entries):
                found += part
            size += piece.size
            full = len(found) >= TOGETHER or size >= walk.BUDGET or any(entry.row is None for entry in piece.entries)
            yield found if full or piece.done else []
            if full:
                found, size = [], 0

    def ends(self) -> Iterator[list[Difference]]:
        """The same for the rows with the least and with the greatest keys alone, which costs as much for a large table as for a small one."""
        for piece in walk.ends(self.servers.mysql, self.synced, CHUNK):
            yield from self._look(piece.entries)

    def _look(self, entries: Sequence[walk.Entry]) -> Iterator[list[Difference]]:
        self.report.rows += len(entries)
        # A row that is too large for words is larger than a piece: each by itself.
        for group in ([entry for entry in entries if entry.row is not None], *([entry] for entry in entries if entry.row is None)):
            rows = []
            for entry in group:
                try:
                    seen = self._read(entry.position, entry.row)
                except Malformed as error:
                    self.report.unsettle(str(error))
                    continue
                if seen is not None:
                    rows.append(seen)
            yield self._compare(rows)

    def _probes(self, seen: Seen) -> list[Probe]:
        """Raises Malformed."""
        if seen.mistake:
            raise Malformed(seen.mistake)
        return [] if seen.row is None else self.expectation.probes(seen.row)

    def _compare(self, rows: Sequence[Seen]) -> list[Difference]:
        probes: list[tuple[Seen, Probe]] = []
        for seen in rows:
            try:
                probes += [(seen, probe) for probe in self._probes(seen)]
            except Malformed as error:
                self.report.unsettle(str(error))
        self.report.keys += len(probes)
        kinds = self._kinds([probe for _seen, probe in probes])
        if self.intact:
            self.report.absent += kinds.count(ABSENT)
            kinds = [None if kind == ABSENT else kind for kind in kinds]
        return [
            Difference(self.synced.table, kind, probe.write, probe.key, probe.member, seen.identity)
            for (seen, probe), kind in zip(probes, kinds) if kind
        ]

    def _kinds(self, probes: Sequence[Probe]) -> list[Optional[str]]:
        """What is different about each, asked in one round trip."""
        # Of a set all members are probed: its time to live is asked for once.
        expiring = list(dict.fromkeys(probe.key for probe in probes if self.expectation.expires(probe)))
        commands: list[Command] = [probe.command for probe in probes]
        answers = self._ask([*commands, *(("TTL", key) for key in expiring)])
        seconds = dict(zip(expiring, answers[len(probes) :]))
        # Almost all are equal.
        return [
            None if answer == probe.expected and probe.key not in seconds
            else difference(probe, answer, self.expectation.expires(probe), seconds.get(probe.key))
            for probe, answer in zip(probes, answers)
        ]

    # Again

    def confirm(self, candidates: list[Difference], orphans: bool) -> list[Difference]:
        """Those of ``candidates`` that are still different when nothing is on its way.

        That is: beside a row that was the same before and after each of several looks. ``orphans``: also what MySQL does not ask for, if it is there.
        """
        confirmed: list[Difference] = []
        for _round in range(ROUNDS):
            if not candidates:
                return confirmed
            candidates, found = self._round(candidates, orphans)
            confirmed += found
        if candidates:
            self.report.unsettle("changed at every look", len({self.name(found.row) for found in candidates}))
        return confirmed

    def _round(self, candidates: list[Difference], orphans: bool) -> tuple[list[Difference], list[Difference]]:
        """Those whose rows have changed meanwhile, and those that are different."""
        moving: list[Difference] = []
        before = self._now(candidates)
        for _look in range(LOOKS):
            self.servers.settle(self.synced.table)
            kinds = self._again(candidates, before, orphans)
            after = self._now(candidates)
            different = []
            for found, kind in zip(candidates, kinds):
                name = self.name(found.row)
                # Equal to the row of a moment ago is equal, as it is at the first look, whatever the row has become meanwhile.
                if kind and before.get(name) != after.get(name):
                    moving.append(found)
                elif kind and not (kind == ABSENT and self.intact):
                    different.append(found._replace(kind=kind))
            candidates = different
            if not candidates:
                break
        return moving, candidates

    def _now(self, candidates: Sequence[Difference]) -> dict[Name, Seen]:
        identities = {self.name(found.row): found.row for found in candidates}
        return {seen.name: seen for seen in self._fetch(list(identities.values()))}

    def _again(self, candidates: Sequence[Difference], rows: dict[Name, Seen], orphans: bool) -> list[Optional[str]]:
        """How each differs now, with ``rows`` as MySQL has them."""
        wanted: dict[tuple[Name, int, bytes, Optional[bytes]], Probe] = {}
        unclear: set[Name] = set()
        for seen in {self.name(found.row): rows.get(self.name(found.row)) for found in candidates}.values():
            if seen is None:
                continue
            try:
                wanted.update({(seen.name, probe.write, probe.key, probe.member): probe for probe in self._probes(seen)})
            except Malformed as error:
                unclear.add(seen.name)
                self.report.unsettle(str(error))
        places = [(self.name(found.row), found.write, found.key, found.member) for found in candidates]
        probes = [wanted[place] for place in places if place in wanted]
        kinds = dict(zip([place for place in places if place in wanted], self._kinds(probes)))
        # MySQL does not ask for these keys or members: are they there?
        others = [place for place in places if place not in wanted and place[0] not in unclear] if orphans else []
        for place, answer in zip(others, self._ask([self._presence(*place[1:]) for place in others])):
            kinds[place] = ORPHANED if self._is_there(place[1], answer) else None
        return [kinds.get(place) for place in places]

    def _presence(self, write: int, key: bytes, member: Optional[bytes]) -> Command:
        members = self.expectation.members(write)
        return ("TYPE", key) if members is None or member is None else members.asked(key, member)

    def _is_there(self, write: int, answer: Any) -> bool:
        members = self.expectation.members(write)
        # A key of another type was not made by this write.
        return bool(answer == self.expectation.redis_type(write)) if members is None else members.has(answer)

    def note(self, differences: Sequence[Difference], mend: bool) -> list[Difference]:
        """Count what was confirmed. What has a time to live and is gone is a difference when it is to be written again; else nobody can tell."""
        if mend:
            differences = [found._replace(kind=MISSING) if found.kind == ABSENT else found for found in differences]
        unclear = sum(found.kind == ABSENT for found in differences)
        if unclear:
            self.report.unsettle(_LOST_OR_EXPIRED, unclear)
        differences = [found for found in differences if found.kind != ABSENT]
        for found in differences:
            self.report.different[found.kind] += 1
            if len(self.report.examples) < self._examples:
                self.report.examples.append(found)
        return differences

    def repair(self, differences: Sequence[Difference], orphans: bool) -> list[Difference]:
        """Have the worker write these rows anew, and remove what no row asks for; those of ``differences`` that are not mended then."""
        if not differences:
            return []
        reloads.enqueue_reload(self.servers.mysql, self.synced, [found.row for found in differences])
        self.servers.settle(self.synced.table)
        left = self.confirm(list(differences), orphans)
        return [found._replace(kind=MISSING) if found.kind == ABSENT else found for found in left]

    # From Redis to MySQL

    def candidates(self, write: int, key: bytes, member: Optional[bytes]) -> Iterator[Row]:
        """Rows that may have made this key, and this member of it: those whose identity is one. Raises Untraceable."""
        for row in self.expectation.rows(write, key, member):
            try:
                identity(self.synced, row)
            except ValueError:
                continue
            yield row

    def asked_for(self, claims: Sequence[_Claim]) -> tuple[dict[int, Row], set[int]]:
        """The candidates, by number, that a row of MySQL's asks for or may ask for, with the row; and those of which nobody can say it."""
        by_name: dict[Name, list[_Claim]] = {}
        for claim in claims:
            by_name.setdefault(self.name(claim.row), []).append(claim)
        found: dict[int, Row] = {}
        unknown: set[int] = set()
        sql = "" if self.transform or self.expectation.needs_values else self.synced.old_sql
        groups = [list(by_name.values())] if by_name else []
        while groups:
            group = groups.pop()
            try:
                for seen in self._fetch([same[0].row for same in group], sql):
                    found.update((claim.candidate, seen.identity) for claim in by_name.get(seen.name, ()) if self._holds(seen, claim))
            except ABOUT_TABLE as error:
                is_of_value = isinstance(error, StatementRefused) and not isinstance(error, StatementInvalid)
                if is_of_value and len(group) > 1:
                    # Most often it is one value that the column cannot have.
                    groups += [group[: len(group) // 2], group[len(group) // 2 :]]
                    continue
                if not is_of_value:
                    self.report.error = self.report.error or str(error)
                unknown.update(claim.candidate for same in group for claim in same)
        return found, unknown

    def _holds(self, seen: Seen, claim: _Claim) -> bool:
        try:
            if seen.mistake:
                raise Malformed(seen.mistake)
            return seen.row is not None and self.expectation.holds(claim.write, seen.row, claim.key, claim.member)
        except Malformed:
            # Counted where its row was compared.
            return True


class _Claim(NamedTuple):
    """A row that may have made a key, or a member of one, that was found in Redis."""

    candidate: int
    write: int
    key: bytes
    member: Optional[bytes]
    row: Row


class Declared(NamedTuple):
    """All declared tables, as claimants of Redis' keys."""

    chosen: Sequence[Verifier]
    """Those whose orphans are looked for."""
    others: Sequence[Verifier]
    unknown: Sequence[Expectation]
    """Tables whose rows cannot be asked for: those of direct delivery, and those without triggers."""

    @property
    def verifiers(self) -> list[Verifier]:
        return [*self.chosen, *self.others]

    def may_hold(self, key: bytes, redis_type: bytes) -> bool:
        """Whether a write may have made ``key`` of which nobody knows what it has written."""
        return any(found.may_hold(key, redis_type) for found in (*(verifier.expectation for verifier in self.verifiers), *self.unknown))


_Claims = list[tuple[Verifier, int]]
_Candidate = tuple[bytes, Optional[bytes], _Claims]


def backward(declared: Declared, servers: Servers, sample: float) -> Iterator[tuple[Verifier, list[Difference]]]:
    """What Redis has and no row of MySQL asks for, by chosen table; ``sample`` is the share of keys to look at.

    Redis is walked once for all tables. A key that several writes may have made, also those of tables that are not chosen, is orphaned when none of them
    asks for it. What Redis refuses to say is the error of the tables whose keys it is about.
    """
    for page in servers.scan():
        keys = [key for key in page if sample >= 1.0 or random.random() < sample]  # noqa: S311  # a sample, no secret
        claimed = [(key, claims) for key, claims in ((key, _claims(declared, key)) for key in keys) if claims]
        # Only where several types come into question is the type asked for. What is orphaned is asked for its type anyway.
        unclear = [number for number, (_key, claims) in enumerate(claimed) if len({verifier.expectation.redis_type(write) for verifier, write in claims}) > 1]
        for number, kind in zip(unclear, servers.ask([("TYPE", claimed[number][0]) for number in unclear])):
            key, claims = claimed[number]
            if isinstance(kind, Exception):
                _fail(claims, f"TYPE: {words_of(kind)}")
            claimed[number] = (key, [(verifier, write) for verifier, write in claims if verifier.expectation.redis_type(write) == kind])
        plain: list[_Candidate] = []
        for key, claims in claimed:
            with_members = [(verifier, write) for verifier, write in claims if verifier.expectation.members(write)]
            if with_members:
                kind = with_members[0][0].expectation.redis_type(with_members[0][1])
                try:
                    for members in servers.scan_members(key, kind == b"zset"):
                        yield from _walked([(key, member, with_members) for member in members], declared)
                except Unavailable as error:
                    # Of this key alone, or of all: then the next page is refused, too.
                    _fail(with_members, str(error))
            elif claims:
                plain.append((key, None, claims))
        yield from _walked(plain, declared)


def _fail(claims: _Claims, words: str) -> None:
    for verifier, _write in claims:
        verifier.report.error = verifier.report.error or words


def _claims(declared: Declared, key: bytes) -> _Claims:
    """The writes that may have made a key; none when no chosen table's may."""
    chosen = [(verifier, write) for verifier in declared.chosen for write in verifier.expectation.claims(key)]
    return chosen and chosen + [(verifier, write) for verifier in declared.others for write in verifier.expectation.claims(key)]


class _Claimants:
    """Which rows may have made some keys and members."""

    def __init__(self, candidates: Sequence[_Candidate], declared: Declared) -> None:
        self.owners: dict[int, tuple[Verifier, _Claim]] = {}
        """Of each candidate the first chosen table whose row it may have been."""
        self.unknown: set[int] = set()
        self._claims: dict[int, tuple[Verifier, list[_Claim]]] = {}
        chosen = {id(verifier) for verifier in declared.chosen}
        for number, (key, member, claims) in enumerate(candidates):
            rows: list[tuple[Verifier, _Claim]] = []
            for verifier, write in claims:
                try:
                    rows += [(verifier, _Claim(number, write, key, member, row)) for row in verifier.candidates(write, key, member)]
                except Untraceable:
                    # Perhaps a row asks for it: it is not looked for, and never removed.
                    self.unknown.add(number)
                    rows.append((verifier, _Claim(number, write, key, member, {})))
            for verifier, claim in rows:
                if number not in self.unknown:
                    self._claims.setdefault(id(verifier), (verifier, []))[1].append(claim)
                if id(verifier) in chosen:
                    self.owners.setdefault(number, (verifier, claim))

    def asked_for(self) -> Iterator[tuple[Verifier, dict[int, Row]]]:
        """The candidates that rows ask for now, by number, with these rows."""
        for verifier, claims in self._claims.values():
            found, unknown = verifier.asked_for(claims)
            verifier.report.keys += len(claims)
            self.unknown |= unknown
            yield verifier, found


def _walked(candidates: Sequence[_Candidate], declared: Declared) -> Iterator[tuple[Verifier, list[Difference]]]:
    for _key, _member, claims in candidates:
        # The first claim is a chosen table's, unless the key's type left none of them.
        claims[0][0].report.walked += 1
    yield from _unclaimed(candidates, declared)


def _unclaimed(candidates: Sequence[_Candidate], declared: Declared) -> Iterator[tuple[Verifier, list[Difference]]]:
    """Those keys and members that no row asks for, by the first chosen table whose row they may have been."""
    claimants = _Claimants(candidates, declared)
    asked = {number for _verifier, found in claimants.asked_for() for number in found}
    orphans: dict[int, tuple[Verifier, list[Difference]]] = {}
    for number, (verifier, claim) in claimants.owners.items():
        if number in asked:
            continue
        if number in claimants.unknown:
            verifier.report.untraceable += 1
        elif declared.may_hold(claim.key, verifier.expectation.redis_type(claim.write)):
            verifier.report.shared += 1
        else:
            difference = Difference(verifier.synced.table, ORPHANED, claim.write, claim.key, claim.member, claim.row)
            orphans.setdefault(id(verifier), (verifier, []))[1].append(difference)
    yield from orphans.values()


def _again(orphans: Sequence[Difference], verifier: Verifier, declared: Declared) -> list[_Candidate]:
    """Orphans as they were found, with all writes that may have made them."""
    found: list[_Candidate] = []
    for orphan in orphans:
        kind = verifier.expectation.redis_type(orphan.write)
        claims = [(each, write) for each, write in _claims(declared, orphan.key) if each.expectation.redis_type(write) == kind]
        found.append((orphan.key, orphan.member, claims))
    return found


def prune(orphans: Sequence[Difference], verifier: Verifier, declared: Declared) -> list[Difference]:
    """Have the worker remove these orphans of one table; those that are not removed then. Each is looked for once more, before and after.

    The worker itself reads the row of each before it removes anything, in the order of that row's changes. Of another row that makes the same key, one that was
    written in between is written again.
    """
    candidates = _again(orphans, verifier, declared)
    still = [found for owner, differences in _unclaimed(candidates, declared) if owner is verifier for found in differences]
    left = verifier.repair(verifier.confirm(still, orphans=True), orphans=True)
    for claimant, found in _Claimants(candidates, declared).asked_for():
        if found:
            reloads.enqueue_reload(claimant.servers.mysql, claimant.synced, list(found.values()))
    return left
