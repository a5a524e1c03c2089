# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare rows with what Redis holds for them, in one round trip for many rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from gearsync.operate.verify.report import Difference, Report
from gearsync.operate.verify.servers import Servers
from gearsync.operate.verify.table_rows import Identity, TableRow
from gearsync.project.expectation import ABSENT, ORPHANED, Expectation, difference
from gearsync.shapes.shape import Command, Probe
from gearsync.values import Malformed


class Place(NamedTuple):
    """A key, or a member of a key, that a write makes for a row."""

    identity: Identity
    write: int
    key: bytes
    member: Optional[bytes]


class Comparison:
    """Compares the rows of one table with Redis."""

    intact = False
    """Whether Redis has lost nothing of the table, so that a key with a time to live that is absent has
    expired.
    """

    def __init__(self, servers: Servers, expectation: Expectation, report: Report) -> None:
        self._servers = servers
        self._expectation = expectation
        self._report = report

    def differences(self, rows: Sequence[TableRow]) -> list[Difference]:
        """What Redis does not hold as these rows ask for it."""
        probes: list[tuple[TableRow, Probe]] = []
        for row in rows:
            try:
                probes += [(row, probe) for probe in self._probes(row)]
            except Malformed as error:
                self._report.unsettle(str(error))
        self._report.keys += len(probes)
        kinds = self._kinds([probe for _row, probe in probes])
        if self.intact:
            self._report.absent += kinds.count(ABSENT)
            kinds = [None if kind == ABSENT else kind for kind in kinds]
        return [
            Difference(self._report.table, kind, probe.write, probe.key, probe.member, row.key_columns)
            for (row, probe), kind in zip(probes, kinds)
            if kind
        ]

    def kinds_at(
        self, places: Sequence[Place], rows: Iterable[TableRow], orphans: bool
    ) -> list[Optional[str]]:
        """How each place differs from what ``rows`` ask for; None where it does not.

        A place that no row asks for is an orphan when it is in Redis, if ``orphans`` are looked for.
        """
        wanted: dict[Place, Probe] = {}
        unclear: set[Identity] = set()
        for row in rows:
            try:
                wanted.update(
                    {
                        Place(row.identity, probe.write, probe.key, probe.member): probe
                        for probe in self._probes(row)
                    }
                )
            except Malformed as error:
                unclear.add(row.identity)
                self._report.unsettle(str(error))
        asked_for = [place for place in places if place in wanted]
        kinds = dict(zip(asked_for, self._kinds([wanted[place] for place in asked_for])))
        others = (
            [place for place in places if place not in wanted and place.identity not in unclear]
            if orphans
            else []
        )
        for place, answer in zip(
            others, self._servers.ask_about_keys([self._presence(place) for place in others])
        ):
            kinds[place] = ORPHANED if self._is_present(place.write, answer) else None
        return [kinds.get(place) for place in places]

    def _probes(self, row: TableRow) -> list[Probe]:
        """Raises Malformed."""
        if row.problem:
            raise Malformed(row.problem)
        return [] if row.row is None else self._expectation.probes(row.row)

    def _kinds(self, probes: Sequence[Probe]) -> list[Optional[str]]:
        """How each differs, asked in one round trip."""
        # All members of a set are probed: its time to live is asked for once.
        expiring = list(dict.fromkeys(probe.key for probe in probes if self._expectation.expires(probe)))
        commands: list[Command] = [probe.command for probe in probes]
        answers = self._servers.ask_about_keys([*commands, *(("TTL", key) for key in expiring)])
        seconds = dict(zip(expiring, answers[len(probes) :]))
        # Almost all are equal.
        return [
            None
            if answer == probe.expected and probe.key not in seconds
            else difference(probe, answer, self._expectation.expires(probe), seconds.get(probe.key))
            for probe, answer in zip(probes, answers)
        ]

    def _presence(self, place: Place) -> Command:
        """The command that shows whether a key or a member is in Redis."""
        members = self._expectation.members(place.write)
        return (
            ("TYPE", place.key)
            if members is None or place.member is None
            else members.asked(place.key, place.member)
        )

    def _is_present(self, write: int, answer: object) -> bool:
        members = self._expectation.members(write)
        # A key of another type was not made by this write.
        return bool(answer == self._expectation.redis_type(write)) if members is None else members.has(answer)
