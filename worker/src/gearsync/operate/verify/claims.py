# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows of MySQL may have made a key of Redis, and which of them ask for it now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from gearsync.operate.verify.servers import ABOUT_TABLE
from gearsync.operate.verify.table_rows import Identity, TableRow
from gearsync.operate.verify.table_verifier import TableVerifier
from gearsync.outbox.synced_table import identity
from gearsync.project.expectation import Expectation
from gearsync.servers.mysql_errors import StatementInvalid, StatementRefused
from gearsync.shapes.rendering import Untraceable
from gearsync.values import Malformed, Row

#: Writes that may have made a key: their tables, and their numbers in the declarations.
Writes = list[tuple[TableVerifier, int]]


class DeclaredTables(NamedTuple):
    """All declared tables: each may have made a key of Redis."""

    chosen: Sequence[TableVerifier]
    """Those whose orphans are looked for."""
    others: Sequence[TableVerifier]
    unknown: Sequence[Expectation]
    """Tables whose rows cannot be looked up: those with direct delivery, and those without triggers."""

    def writes(self, key: bytes) -> Writes:
        """The writes that may have made a key; none when no chosen table's may."""
        chosen = [(verifier, write) for verifier in self.chosen for write in verifier.expectation.claims(key)]
        return chosen and chosen + [
            (verifier, write) for verifier in self.others for write in verifier.expectation.claims(key)
        ]

    def may_hold(self, key: bytes, redis_type: bytes) -> bool:
        """Whether a write may have made ``key`` whose rows cannot be looked up."""
        verified = (verifier.expectation for verifier in (*self.chosen, *self.others))
        return any(expectation.may_hold(key, redis_type) for expectation in (*verified, *self.unknown))


class Candidate(NamedTuple):
    """A key, or a member of a key, that may be an orphan."""

    key: bytes
    member: Optional[bytes]
    writes: Writes


class Claim(NamedTuple):
    """A row that may have made a candidate."""

    candidate: int
    write: int
    key: bytes
    member: Optional[bytes]
    row: Row


class Claims:
    """The rows that may have made some candidates. Candidates are known by their number."""

    def __init__(self, candidates: Sequence[Candidate], declared: DeclaredTables) -> None:
        self.owners: dict[int, tuple[TableVerifier, Claim]] = {}
        """For each candidate the first chosen table whose row it may have been."""
        self.unknown: set[int] = set()
        """Candidates for which it is unknown whether a row asks for them."""
        self._claims: dict[int, tuple[TableVerifier, list[Claim]]] = {}
        chosen = {id(verifier) for verifier in declared.chosen}
        for number, (key, member, writes) in enumerate(candidates):
            claims: list[tuple[TableVerifier, Claim]] = []
            for verifier, write in writes:
                try:
                    claims += [
                        (verifier, Claim(number, write, key, member, row))
                        for row in _possible_rows(verifier, write, key, member)
                    ]
                except Untraceable:
                    # A row may ask for it: it is never removed.
                    self.unknown.add(number)
                    claims.append((verifier, Claim(number, write, key, member, {})))
            for verifier, claim in claims:
                if number not in self.unknown:
                    self._claims.setdefault(id(verifier), (verifier, []))[1].append(claim)
                if id(verifier) in chosen:
                    self.owners.setdefault(number, (verifier, claim))

    def asked_for(self) -> Iterator[tuple[TableVerifier, dict[int, Row]]]:
        """The candidates that rows ask for now, with the key columns of these rows, by table."""
        for verifier, claims in self._claims.values():
            asked_for, unknown = _asked_for(verifier, claims)
            verifier.report.keys += len(claims)
            self.unknown |= unknown
            yield verifier, asked_for


def _possible_rows(verifier: TableVerifier, write: int, key: bytes, member: Optional[bytes]) -> Iterator[Row]:
    """Rows that may have made this key, and this member of it. Raises Untraceable."""
    for row in verifier.expectation.rows(write, key, member):
        try:
            identity(verifier.synced, row)
        except ValueError:  # a value that the key's column cannot have
            continue
        yield row


def _asked_for(verifier: TableVerifier, claims: Sequence[Claim]) -> tuple[dict[int, Row], set[int]]:
    """The candidates that a row asks for or may ask for, with its key columns; and those for which it is
    unknown.
    """
    by_identity: dict[Identity, list[Claim]] = {}
    for claim in claims:
        by_identity.setdefault(verifier.rows.identity(claim.row), []).append(claim)
    asked_for: dict[int, Row] = {}
    unknown: set[int] = set()
    sql = "" if verifier.transform or verifier.expectation.needs_values else verifier.synced.old_sql
    groups = [list(by_identity.values())] if by_identity else []
    while groups:
        group = groups.pop()
        try:
            for row in verifier.rows.fetch([same[0].row for same in group], sql):
                asked_for.update(
                    (claim.candidate, row.key_columns)
                    for claim in by_identity.get(row.identity, ())
                    if _holds(verifier, row, claim)
                )
        except ABOUT_TABLE as error:
            is_of_value = isinstance(error, StatementRefused) and not isinstance(error, StatementInvalid)
            if is_of_value and len(group) > 1:
                # Most often it is one value that the column cannot have.
                groups += [group[: len(group) // 2], group[len(group) // 2 :]]
                continue
            if not is_of_value:
                verifier.report.error = verifier.report.error or str(error)
            unknown.update(claim.candidate for same in group for claim in same)
    return asked_for, unknown


def _holds(verifier: TableVerifier, row: TableRow, claim: Claim) -> bool:
    """Whether a row makes this key, and this member of it, or may make it."""
    try:
        if row.problem:
            raise Malformed(row.problem)
        return row.row is not None and verifier.expectation.holds(
            claim.write, row.row, claim.key, claim.member
        )
    except Malformed:
        # Counted where its row was compared.
        return True
