# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches that Redis has and the outbox still holds: kept for a while, confirmed, then given to the
deleter.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from gearsync.apply.deleter import Deleter, Deletion
from gearsync.apply.fences import Fences, Place
from gearsync.apply.upstream import Kept, Made
from gearsync.apply.work import Work
from gearsync.outbox.spans import Spans
from gearsync.values import Malformed

#: When so many changes are applied and not deleted, batches are not kept; at twice as many the drain waits
#: for deletions.
_MOST_APPLIED = 200_000


class _Applied(NamedTuple):
    """A batch that Redis has and that is not given to the deleter."""

    at: float
    ids: dict[int, list[int]]
    """By shard, sorted."""
    dead: dict[int, str]
    numbers: dict[Place, int]
    """Its number in each fence that records it."""
    shared: frozenset[Place]
    """Fences that record under this number also changes that are not applied in full: the record is kept
    until these are.
    """
    made: list[Made]
    """Its changes by shard and table."""


class AppliedBatches:
    """Batches in the order in which they were applied."""

    def __init__(self, fences: Fences, deleter: Deleter, keep: float) -> None:
        """Batches are kept for ``keep`` seconds: a Redis that returns to an earlier state gets them again."""
        self._fences = fences
        self._deleter = deleter
        self._keep = keep
        #: Those that are not given to the deleter.
        self._batches: deque[_Applied] = deque()
        #: Those that are, with the changes of each, by identity, as long as they are not deleted. The
        #: deletion itself is here so that its identity is no other one's.
        self._given: dict[int, tuple[Deletion, list[Made]]] = {}
        #: The ids of all that is applied and not deleted, and those of them that are to become dead letters.
        self.ids, self.dying = Spans(), Spans()

    def __bool__(self) -> bool:
        """Whether there are batches that are not given to the deleter."""
        return bool(self._batches)

    @property
    def is_full(self) -> bool:
        """Whether the drain must wait for deletions."""
        return len(self.ids) >= 2 * _MOST_APPLIED

    @property
    def in_redis(self) -> Spans:
        """The ids that are in Redis and not deleted. A change that cannot be applied is not among them: a
        barrier counts its dead letter.
        """
        if not self.dying:
            return self.ids
        ids = Spans(self.ids)
        for first, last in self.dying:
            ids.remove_span(first, last)
        return ids

    def add(
        self,
        work: Work,
        dead: Mapping[int, Malformed],
        numbers: dict[Place, int],
        shared: frozenset[Place],
        made: list[Made],
    ) -> None:
        """A batch is applied.

        ``numbers`` are its numbers in the fences that record it. The fences ``shared`` record under them also
        changes that are not applied in full. ``made``: its changes by shard and table.
        """
        ids: dict[int, list[int]] = {}
        for entry in work.entries:
            ids.setdefault(entry.shard, []).append(entry.id)
        letters = {entry.id: dead[entry.id].detail for entry in work.entries if entry.id in dead}
        self._batches.append(_Applied(time.monotonic(), ids, letters, numbers, shared, made))
        self.ids.add(work.ids)
        self.dying.add(sorted(letters))
        if not self._keep:
            self._hand_over([self._batches.pop()])

    @property
    def kept(self) -> list[Kept]:
        """What is applied, and not known to be deleted."""
        return [
            *(Kept(made, False) for applied in self._batches for made in applied.made),
            *(Kept(each, True) for _deletion, made in self._given.values() for each in made),
        ]

    def clear(self, lock: str) -> None:
        """Forget all batches: it is unknown what is applied. ``lock`` is held on the server from which the
        next ones are deleted.
        """
        self._deleter.forget(lock)
        self._batches.clear()
        self._given.clear()
        self.ids, self.dying = Spans(), Spans()

    def drop(self, shards: Collection[int]) -> None:
        """Forget what belongs to these shards: other processes hold them, and learn from the fences what
        is applied.
        """
        for applied in self._batches:
            for shard in applied.ids.keys() & shards:
                self.ids.remove(applied.ids.pop(shard))
        kept = (applied.made for applied in self._batches)
        for made in (*kept, *(made for _deletion, made in self._given.values())):
            made[:] = [each for each in made if each.shard not in shards]

    @property
    def places(self) -> set[Place]:
        """The fences of the held shards that record batches which are not given to the deleter."""
        return self._held(self._batches)

    def lose(self, places: Collection[Place]) -> list[int]:
        """After these fences were claimed: returns the sorted ids that they no longer record. Redis has
        lost these changes, and the outbox holds them.
        """
        lost: list[int] = []
        for applied in self._batches:
            missing = [
                place
                for place in places
                if place in applied.numbers and applied.numbers[place] not in self._fences.at(place).batches
            ]
            for shard in {shard for _slot, shard in missing} & applied.ids.keys():
                lost += applied.ids.pop(shard)
            if missing:
                # Other fences of the batch must be claimed to learn what they record of it.
                self._fences.doubt(set(applied.numbers).difference(places))
            for place in missing:
                del applied.numbers[place]
        lost.sort()
        self.ids.remove(lost)
        return lost

    def confirm(self, now: float, claim: Callable[[Sequence[Place]], Mapping[int, Exception]]) -> None:
        """Give the deleter what was applied ``keep`` seconds ago, if Redis still has it. Raises Unavailable,
        and what ``claim`` raises.

        ``claim`` claims fences and returns the errors of unreachable slots.
        """
        due = 0
        keep = self._keep if len(self.ids) <= _MOST_APPLIED else 0.0
        while due < len(self._batches) and self._batches[due].at + keep <= now:
            due += 1
        if self._batches:
            # A Redis that has returned to an earlier state has an earlier number, in the last batch's fences
            # at the least.
            places = sorted(self._held([*itertools.islice(self._batches, due), self._batches[-1]]))
            unreachable = self._fences.compare(places)
            if unclaimed := [place for place in self._fences.unclaimed(places) if place not in unreachable]:
                slots = claim(unclaimed)
                unreachable |= {place for place in unclaimed if place[0] in slots}
            old = [self._batches.popleft() for _batch in range(due)]
            # An unreachable node may have lost its part of a batch.
            self._batches.extendleft(
                reversed([applied for applied in old if not unreachable.isdisjoint(applied.numbers)])
            )
            self._hand_over([applied for applied in old if unreachable.isdisjoint(applied.numbers)])
        self._fences.write_forgotten()

    def remove_deleted(self) -> None:
        """Forget what the deleter has deleted, also in the fences."""
        for deletion in self._deleter.deleted():
            self._given.pop(id(deletion), None)
            ids = deletion.sorted_ids
            self.ids.remove(ids)
            self.dying.remove(ids)
            self._fences.deleted(deletion.ids)
            for place, number in deletion.numbers.items():
                self._fences.forget(place, number, deletion.dead)

    def _held(self, batches: Collection[_Applied]) -> set[Place]:
        return {place for applied in batches for place in applied.numbers if place[1] in self._fences.epochs}

    def _hand_over(self, batches: Sequence[_Applied]) -> None:
        for place, number in itertools.chain(*(applied.numbers.items() for applied in batches)):
            self._fences.let_go(place, number)
        deletions = [
            Deletion(
                applied.ids,
                applied.dead,
                {place: number for place, number in applied.numbers.items() if place not in applied.shared},
            )
            for applied in batches
        ]
        self._given.update(
            (id(deletion), (deletion, applied.made)) for deletion, applied in zip(deletions, batches)
        )
        self._deleter.put(deletions)
