# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare differences again until each is certain: a row may have changed while it was compared, or its
change may be on its way to Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from gearsync.operate.verify.comparison import Comparison, Place
from gearsync.operate.verify.report import Difference, Report
from gearsync.operate.verify.servers import Servers
from gearsync.operate.verify.table_rows import Identity, TableRow, TableRows
from gearsync.project.expectation import ABSENT

#: How often a row that changes while it is compared is compared again.
_ROUNDS = 8
#: How often a difference must be seen, each time with the row the same before and after. Seen once, the row
#: may have changed and changed back in between.
_LOOKS = 3


class Confirmation:
    """Confirms the differences of one table."""

    def __init__(self, servers: Servers, rows: TableRows, comparison: Comparison, report: Report) -> None:
        self._servers = servers
        self._rows = rows
        self._comparison = comparison
        self._report = report

    def confirm(self, candidates: list[Difference], orphans: bool) -> list[Difference]:
        """Those of ``candidates`` that differ in several looks, with the row the same before and after each.

        ``orphans``: also keys and members in Redis that MySQL does not ask for.
        """
        confirmed: list[Difference] = []
        for _round in range(_ROUNDS):
            if not candidates:
                return confirmed
            candidates, different = self._round(candidates, orphans)
            confirmed += different
        if candidates:
            self._report.unsettle(
                "changed during every comparison",
                len({self._rows.identity(candidate.row) for candidate in candidates}),
            )
        return confirmed

    def _round(
        self, candidates: list[Difference], orphans: bool
    ) -> tuple[list[Difference], list[Difference]]:
        """Those whose rows have changed meanwhile, and those that differ."""
        changed: list[Difference] = []
        before = self._current(candidates)
        for _look in range(_LOOKS):
            self._servers.settle(self._report.table)
            kinds = self._kinds(candidates, before, orphans)
            after = self._current(candidates)
            different = []
            for candidate, kind in zip(candidates, kinds):
                identity = self._rows.identity(candidate.row)
                # Equal to the row of a moment ago is equal, as in the first look, whatever the row has become
                # meanwhile.
                if kind and before.get(identity) != after.get(identity):
                    changed.append(candidate)
                elif kind and not (kind == ABSENT and self._comparison.intact):
                    different.append(candidate._replace(kind=kind))
            candidates = different
            if not candidates:
                break
        return changed, candidates

    def _current(self, candidates: Sequence[Difference]) -> dict[Identity, TableRow]:
        key_columns = {self._rows.identity(candidate.row): candidate.row for candidate in candidates}
        return {row.identity: row for row in self._rows.fetch(list(key_columns.values()))}

    def _kinds(
        self, candidates: Sequence[Difference], rows: dict[Identity, TableRow], orphans: bool
    ) -> list[Optional[str]]:
        places = [
            Place(self._rows.identity(each.row), each.write, each.key, each.member) for each in candidates
        ]
        identities = dict.fromkeys(place.identity for place in places)
        return self._comparison.kinds_at(
            places, [rows[identity] for identity in identities if identity in rows], orphans
        )
