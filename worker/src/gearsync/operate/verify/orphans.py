# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify from Redis to MySQL: keys and members that no row asks for, and their removal."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from gearsync.operate.verify.claims import Candidate, Claims, DeclaredTables, Writes
from gearsync.operate.verify.report import Difference
from gearsync.operate.verify.servers import Servers
from gearsync.operate.verify.table_verifier import TableVerifier
from gearsync.outbox import reloads
from gearsync.project.expectation import ORPHANED
from gearsync.servers.redis_errors import Unavailable, message_of

#: Orphans with their table.
Orphans = tuple[TableVerifier, list[Difference]]


def backward(declared: DeclaredTables, servers: Servers, sample: float) -> Iterator[Orphans]:
    """What is in Redis and no row of MySQL asks for, by chosen table; ``sample`` is the share of keys to look
    at.

    Redis is walked once for all tables. A key that several writes may have made, also those of tables that
    are not chosen, is orphaned when none of their rows asks for it. A key that Redis refuses to show is an
    error of the tables that it may belong to.
    """
    for page in servers.scan():
        keys = [key for key in page if sample >= 1.0 or random.random() < sample]  # noqa: S311  # a sample, no secret
        plain: list[Candidate] = []
        for key, writes in _typed([(key, declared.writes(key)) for key in keys], servers):
            with_members = [
                (verifier, write) for verifier, write in writes if verifier.expectation.members(write)
            ]
            if with_members:
                yield from _members(key, with_members, declared, servers)
            elif writes:
                plain.append(Candidate(key, None, writes))
        yield from _walked(plain, declared)


def _typed(keys: Sequence[tuple[bytes, Writes]], servers: Servers) -> list[tuple[bytes, Writes]]:
    """The keys that a write may have made, with the writes of their type.

    The type is asked for only where writes of several types are possible: an orphan is asked for its type
    anyway.
    """
    claimed = [(key, writes) for key, writes in keys if writes]
    unclear = [
        number
        for number, (_key, writes) in enumerate(claimed)
        if len({verifier.expectation.redis_type(write) for verifier, write in writes}) > 1
    ]
    for number, kind in zip(unclear, servers.ask([("TYPE", claimed[number][0]) for number in unclear])):
        key, writes = claimed[number]
        if isinstance(kind, Exception):
            _fail(writes, f"TYPE: {message_of(kind)}")
        claimed[number] = (
            key,
            [
                (verifier, write)
                for verifier, write in writes
                if verifier.expectation.redis_type(write) == kind
            ],
        )
    return claimed


def _members(key: bytes, writes: Writes, declared: DeclaredTables, servers: Servers) -> Iterator[Orphans]:
    verifier, write = writes[0]
    try:
        for members in servers.scan_members(key, verifier.expectation.redis_type(write) == b"zset"):
            yield from _walked([Candidate(key, member, writes) for member in members], declared)
    except Unavailable as error:
        # For this key alone, or for all: then the next page is refused, too.
        _fail(writes, str(error))


def _fail(writes: Writes, error: str) -> None:
    for verifier, _write in writes:
        verifier.report.error = verifier.report.error or error


def _walked(candidates: Sequence[Candidate], declared: DeclaredTables) -> Iterator[Orphans]:
    for candidate in candidates:
        # The first write is a chosen table's, unless the key's type left none of them.
        candidate.writes[0][0].report.walked += 1
    yield from _unclaimed(candidates, declared)


def _unclaimed(candidates: Sequence[Candidate], declared: DeclaredTables) -> Iterator[Orphans]:
    """Candidates that no row asks for, by the first chosen table whose row they may have been."""
    claims = Claims(candidates, declared)
    asked_for = {
        number for _verifier, candidates_of_rows in claims.asked_for() for number in candidates_of_rows
    }
    orphans: dict[int, Orphans] = {}
    for number, (verifier, claim) in claims.owners.items():
        if number in asked_for:
            continue
        if number in claims.unknown:
            verifier.report.untraceable += 1
        elif declared.may_hold(claim.key, verifier.expectation.redis_type(claim.write)):
            verifier.report.shared += 1
        else:
            orphan = Difference(
                verifier.synced.table, ORPHANED, claim.write, claim.key, claim.member, claim.row
            )
            orphans.setdefault(id(verifier), (verifier, []))[1].append(orphan)
    yield from orphans.values()


def prune(
    orphans: Sequence[Difference], verifier: TableVerifier, declared: DeclaredTables
) -> list[Difference]:
    """Have the worker remove these orphans of one table; those that remain. Each is looked for once more,
    before and after.

    The worker itself reads the row of each before it removes anything, in the order of that row's changes. If
    another row that makes the same key was written meanwhile, that row is written again.
    """
    candidates = [_candidate(orphan, verifier, declared) for orphan in orphans]
    still = [
        orphan
        for owner, differences in _unclaimed(candidates, declared)
        if owner is verifier
        for orphan in differences
    ]
    remaining = verifier.repair(verifier.confirm(still, orphans=True), orphans=True)
    for claimant, rows in Claims(candidates, declared).asked_for():
        if rows:
            reloads.enqueue_reload(claimant.servers.mysql, claimant.synced, list(rows.values()))
    return remaining


def _candidate(orphan: Difference, verifier: TableVerifier, declared: DeclaredTables) -> Candidate:
    """An orphan with all writes that may have made it."""
    kind = verifier.expectation.redis_type(orphan.write)
    return Candidate(
        orphan.key,
        orphan.member,
        [
            (each, write)
            for each, write in declared.writes(orphan.key)
            if each.expectation.redis_type(write) == kind
        ],
    )
