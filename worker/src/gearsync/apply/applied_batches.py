"""What Redis has taken and the outbox has still: kept for a while, confirmed, and given to the deleter."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from gearsync.apply.deleter import Deleter, Deletion
from gearsync.apply.fences import Fences, Place
from gearsync.apply.work import Work
from gearsync.outbox.spans import Spans
from gearsync.values import Malformed

#: When more changes are applied and not deleted, they are not kept any longer; when twice as many are, the drain waits for the deletions.
_MOST_APPLIED = 200_000


class _Applied(NamedTuple):
    """A batch that Redis has taken and that is not deleted yet."""

    at: float
    ids: dict[int, list[int]]
    """By shard, sorted."""
    dead: dict[int, str]
    numbers: dict[Place, int]
    """Its number in each fence that knows it."""
    shared: frozenset[Place] = frozenset()
    """Fences that know by this number other changes, too, which are not applied in full: what they know is forgotten with those."""


class AppliedBatches:
    """Batches in the order in which Redis took them."""

    def __init__(self, fences: Fences, deleter: Deleter, keep: float) -> None:
        """Batches are kept for ``keep`` seconds: a Redis that goes back to an earlier state gets them again."""
        self._fences = fences
        self._deleter = deleter
        self._keep = keep
        #: Those that are not given to the deleter yet.
        self._batches: deque[_Applied] = deque()
        #: All that is applied and not deleted, and what of it cannot be applied, until it is a dead letter.
        self.ids, self.dying = Spans(), Spans()

    def __bool__(self) -> bool:
        """Whether there are batches that are not given to the deleter."""
        return bool(self._batches)

    @property
    def is_full(self) -> bool:
        """Whether the deletions are too far behind to go on."""
        return len(self.ids) >= 2 * _MOST_APPLIED

    @property
    def in_redis(self) -> Spans:
        """What is in Redis and not deleted yet. What cannot be applied is not: it waits until it is a dead letter, which is counted."""
        if not self.dying:
            return self.ids
        found = Spans(self.ids)
        for first, last in self.dying:
            found.remove_span(first, last)
        return found

    def took(self, work: Work, dead: Mapping[int, Malformed], numbers: dict[Place, int], shared: frozenset[Place]) -> None:
        """Redis has taken a batch.

        ``numbers`` are its numbers in the fences that know it. The fences ``shared`` know by their number other changes, too, which are not applied in full.
        """
        ids: dict[int, list[int]] = {}
        for entry in work.entries:
            ids.setdefault(entry.shard, []).append(entry.id)
        letters = {entry.id: dead[entry.id].detail for entry in work.entries if entry.id in dead}
        self._batches.append(_Applied(time.monotonic(), ids, letters, numbers, shared))
        self.ids.add(work.ids)
        self.dying.add(sorted(letters))
        if not self._keep:
            self._hand_over([self._batches.pop()])

    def clear(self) -> None:
        """Nothing is known to be applied."""
        self._deleter.forget()
        self._batches.clear()
        self.ids, self.dying = Spans(), Spans()

    def drop(self, shards: Collection[int]) -> None:
        """These shards are other processes', who find out by themselves what is applied."""
        for applied in self._batches:
            for shard in applied.ids.keys() & shards:
                self.ids.remove(applied.ids.pop(shard))

    @property
    def places(self) -> set[Place]:
        """The fences of our shards that know batches which are not given to the deleter."""
        return self._ours(self._batches)

    def lose(self, places: Collection[Place]) -> list[int]:
        """These fences were claimed. Returns the sorted ids of what they do not know any more: Redis has lost it, and the outbox has it still."""
        lost: list[int] = []
        for applied in self._batches:
            gone = [place for place in places if place in applied.numbers and applied.numbers[place] not in self._fences.at(place).batches]
            for shard in {shard for _slot, shard in gone} & applied.ids.keys():
                lost += applied.ids.pop(shard)
            if gone:
                # What else they know of these changes is to be asked for.
                self._fences.doubt(set(applied.numbers).difference(places))
            for place in gone:
                del applied.numbers[place]
        lost.sort()
        self.ids.remove(lost)
        return lost

    def confirm(self, now: float, claim: Callable[[Sequence[Place]], Mapping[int, Exception]]) -> None:
        """Have deleted what was applied ``keep`` ago, if Redis has it still. Raises Unavailable, and what ``claim`` raises.

        ``claim`` claims fences and returns the errors of slots that are out of reach.
        """
        due = 0
        keep = self._keep if len(self.ids) <= _MOST_APPLIED else 0.0
        while due < len(self._batches) and self._batches[due].at + keep <= now:
            due += 1
        if self._batches:
            # A Redis that went back to an earlier state has an earlier number, first of all in the fences of the last batch.
            places = sorted(self._ours([*itertools.islice(self._batches, due), self._batches[-1]]))
            away = self._fences.compare(places)
            if doubtful := [place for place in self._fences.unclaimed(places) if place not in away]:
                slots = claim(doubtful)
                away |= {place for place in doubtful if place[0] in slots}
            old = [self._batches.popleft() for _batch in range(due)]
            # What is on a node that is out of reach may be lost there.
            self._batches.extendleft(reversed([applied for applied in old if not away.isdisjoint(applied.numbers)]))
            self._hand_over([applied for applied in old if away.isdisjoint(applied.numbers)])
        self._fences.write_forgotten()

    def note_deleted(self) -> None:
        """Take from the deleter what is deleted."""
        for deletion in self._deleter.deleted():
            self.ids.remove(deletion.sorted_ids)
            self.dying.remove(deletion.sorted_ids)
            self._fences.deleted(deletion.ids)
            for place, number in deletion.numbers.items():
                self._fences.forget(place, number, deletion.dead)

    def _ours(self, batches: Collection[_Applied]) -> set[Place]:
        return {place for applied in batches for place in applied.numbers if place[1] in self._fences.epochs}

    def _hand_over(self, batches: Sequence[_Applied]) -> None:
        for place, number in itertools.chain(*(applied.numbers.items() for applied in batches)):
            self._fences.let_go(place, number)
        self._deleter.put([
            Deletion(applied.ids, applied.dead, {place: number for place, number in applied.numbers.items() if place not in applied.shared})
            for applied in batches])
