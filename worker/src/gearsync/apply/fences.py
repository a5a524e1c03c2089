# SPDX-License-Identifier: GPL-3.0-or-later
"""What this process knows of the fences of its shards: it claims them before the first batch, and follows
their numbers from then on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from gearsync.apply.agreed_term import AgreedTerm
from gearsync.apply.fence import (
    BATCH,
    CLAIM,
    FenceMoved,
    FenceRefused,
    Known,
    Mark,
    Rows,
    batch,
    claim,
    known,
)
from gearsync.outbox.spans import Spans, runs
from gearsync.servers.redis_errors import Unavailable, message_of, text
from gearsync.servers.target import Target

#: Names a fence: its slot, which is 0 on one server, and its shard.
Place = tuple[int, int]


class _Inherited(NamedTuple):
    """Fields that a fence had when it was claimed. They are needed until the rows of these ids are
    deleted.
    """

    fields: list[str]
    ids: Spans


class Fence:
    """What this process knows of one fence."""

    def __init__(self, key: str, remember: float) -> None:
        """What is applied is recorded for ``remember`` seconds after its rows are deleted."""
        self.key = key
        self._remember = remember
        #: Fields that Redis may delete later, and when.
        self._later: deque[tuple[float, list[str]]] = deque()
        #: The epoch that it was claimed with; 0 before.
        self.epoch = 0
        #: The last number that Redis has, or may have.
        self.number = 0
        #: Whether Redis has the number as it is here.
        self.claimed = False
        self.created = b""
        #: The numbers of the batches that the fence recorded at the claim, and that of the last batch before
        #: it, if any.
        self.batches: set[int] = set()
        self.last: Optional[int] = None
        #: Whether another process may have owned it until the last claim, and the epoch of that claim.
        self.was_others = False
        self._learned = 0
        #: Fields that Redis may delete, and the greatest number of a batch whose rows are, or are about to
        #: be, deleted.
        self.forget: list[str] = []
        self.let_go = 0
        #: The state at the claim: applied ids whose rows are not deleted, reasons of dead changes, appends of
        #: partial batches.
        self.inherited: list[_Inherited] = []
        self.applied = Spans()
        self.applied_created = b""
        #: Of the ids that it recorded: those that are other changes' in the outbox, and those that are not
        #: there.
        self.others, self.absent = Spans(), Spans()
        self.dead: dict[int, str] = {}
        self.appended: set[tuple[int, int]] = set()

    @property
    def has_lost_for_good(self) -> bool:
        """Whether Redis had lost, at the claim, changes that are deleted from the outbox."""
        return bool(self.let_go) and (self.last is None or self.last < self.let_go)

    def mark(self, ids: Sequence[int], created: bytes, digests: bytes = b"") -> Mark:
        """This fence's part of the next batch: sorted ``ids``, when the newest of their changes was made, and
        their packed digests.
        """
        self.created = max(self.created, created)
        self.release_due()
        mark = Mark(
            self.key, self.epoch, self.number, self.number + 1, ids, digests, self.created, self.forget
        )
        self.number += 1
        return mark

    def confirm(self) -> None:
        """Redis has executed the last batch."""
        self.forget = []

    def learn(self, number: int, what: Known, rows: Rows) -> None:
        """Use the answer to a claim; ``rows`` are those of its ids that are in the outbox."""
        self.number, self.claimed = number, True
        # By the last answer: an unanswered claim may have raised the epoch in Redis at any time since.
        self.was_others, self._learned = what.last is not None and self._learned != self.epoch, self.epoch
        self.last, self.batches = what.last[1] if what.last else None, set(what.batches)
        self.created = self.applied_created = what.created
        self.dead, self.forget = {}, list(what.left_over)
        self.applied, self.inherited = Spans(), []
        self.others, self.absent = Spans(), Spans()
        self._later.clear()
        self.appended = {
            (change, which)
            for (change, which), its in what.appended.items()
            if change in rows.digests and its in (None, rows.digests[change])
        }
        changes = Spans.of(sorted({change for change, _which in self.appended}))
        self.inherited += [_Inherited([field, f"c{field[1:]}"], Spans(changes)) for field in what.partial]
        for its, ids in what.batches.items():
            there = what.same(its, rows)
            dead = [change for change in what.dead if change in ids]
            self.dead.update({change: what.dead[change] for change in dead if change in there})
            fields = [f"b{its}", f"c{its}", *(f"x{change}" for change in dead)]
            self.inherited.append(_Inherited(fields, there))
            for first, last in ids:
                self.absent.add_span(first, last)
                self.others.add(rows.within(first, last))
            for first, last in there:
                self.applied.add_span(first, last)
        for spans, known_ids in ((self.absent, Spans.of(rows.ids)), (self.others, self.applied)):
            for first, last in known_ids:
                spans.remove_span(first, last)
        self._forget_inherited()

    def forget_batch(self, number: int, dead: Iterable[int]) -> None:
        """The rows of a batch are deleted, and the ``dead`` among them have become dead letters."""
        self._forget_later([f"b{number}", f"c{number}", *(f"x{change}" for change in dead)])

    def _forget_later(self, fields: list[str]) -> None:
        self._later.append((time.monotonic() + self._remember, fields))

    def release_due(self) -> None:
        """Have fields deleted that were needed for long enough."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self.forget += self._later.popleft()[1]

    def deleted(self, ids: Sequence[int]) -> None:
        """The rows of sorted ``ids`` are deleted from the outbox."""
        if self.inherited:
            for first, last in runs(ids):
                self.applied.remove_span(first, last)
                for record in self.inherited:
                    record.ids.remove_span(first, last)
            self._forget_inherited()

    def _forget_inherited(self) -> None:
        for record in self.inherited:
            if not record.ids:
                self._forget_later(record.fields)
        self.inherited = [record for record in self.inherited if record.ids]


class Fences:
    """All fences of a process."""

    def __init__(
        self, target: Target, source: str, remember: float = 0.0, term: Optional[AgreedTerm] = None
    ) -> None:
        """``remember``: see Fence; ``term``: where the source has several members."""
        self._term = term
        self._target = target
        self._remember = remember
        self._source = source
        self._fences: dict[Place, Fence] = {}
        #: The epochs of the held leases, by shard.
        self.epochs: Mapping[int, int] = {}

    def at(self, place: Place) -> Fence:
        fence = self._fences.get(place)
        if fence is None:
            fence = self._fences[place] = Fence(self._target.fence_key(self._source, *place), self._remember)
        return fence

    def follow(self, epochs: Mapping[int, int]) -> set[int]:
        """Use the ``epochs`` of the held leases from now on. Returns the shards that are no longer held."""
        gone = self.epochs.keys() - epochs.keys()
        if gone:
            self._fences = {place: fence for place, fence in self._fences.items() if place[1] not in gone}
        self.epochs = dict(epochs)
        return gone

    def deleted(self, ids: Mapping[int, Sequence[int]]) -> None:
        """The rows of these sorted ids, by shard, are deleted from the outbox."""
        for (_slot, shard), fence in self._fences.items():
            if shard in ids:
                fence.deleted(ids[shard])

    def let_go(self, place: Place, number: int) -> None:
        """The batch with this ``number`` in the fence is about to be deleted."""
        if place in self._fences:
            self._fences[place].let_go = max(self._fences[place].let_go, number)

    def forget(self, place: Place, number: int, dead: Iterable[int]) -> None:
        """The rows of the batch with this ``number`` in the fence are deleted, and the ``dead`` among
        them have become dead letters.
        """
        if place in self._fences:
            self._fences[place].forget_batch(number, dead)

    def doubt(self, places: Iterable[Place]) -> None:
        """It is unknown whether Redis has what was sent to these fences: they must be claimed again."""
        for place in places:
            self.at(place).claimed = False

    def compare(self, places: Iterable[Place]) -> set[Place]:
        """Check that these fences have their numbers. Returns those on unreachable nodes; raises
        Unavailable when all are.
        """
        asked = [(place, fence) for place in places if (fence := self._fences.get(place)) and fence.claimed]
        answers = self._target.ask([("HMGET", fence.key, "epoch", "number") for _place, fence in asked])
        failed = {
            place: answer for (place, _fence), answer in zip(asked, answers) if isinstance(answer, Exception)
        }
        if failed and not self._target.is_parted:
            raise Unavailable(message_of(next(iter(failed.values()))))
        for (_place, fence), answer in zip(asked, answers):
            if not isinstance(answer, Exception):
                fence.claimed = answer == [b"%d" % fence.epoch, b"%d" % fence.number]
        return set(failed)

    def write_forgotten(self) -> None:
        """Delete fields of fences that are not needed any more, where no batch does it. Raises
        Unavailable and Denied.
        """
        by_slot: dict[int, list[Place]] = {}
        for place, fence in self._fences.items():
            fence.release_due()
            if fence.forget and fence.claimed:
                by_slot.setdefault(place[0], []).append(place)
        if not by_slot:
            return
        try:
            answers = self._target.run(
                BATCH,
                [
                    (slot, batch([self.at(place).mark([], b"") for place in its], [], []))
                    for slot, its in by_slot.items()
                ],
            )
        except BaseException:
            for its in by_slot.values():
                self.doubt(its)
            raise
        for its, answer in zip(by_slot.values(), answers):
            if not isinstance(answer, Exception) and answer[0] == b"ok":
                for place in its:
                    self.at(place).confirm()
            else:
                self.doubt(its)

    def unclaimed(self, places: Iterable[Place]) -> list[Place]:
        """Those that must be claimed before a write."""
        return [
            place
            for place in places
            if not (fence := self.at(place)).claimed or fence.epoch != self.epochs[place[1]]
        ]

    def claim(
        self, places: Sequence[Place], present: Callable[[Spans], Mapping[int, int]]
    ) -> dict[int, Exception]:
        """Raise the numbers of these fences, and learn what is applied. ``present`` returns the digests of
        those of some ids that are in the outbox.

        Returns Unavailable or Denied for each slot that failed; raises them when all have. Raises
        FenceRefused, what ``present`` raises, and where fences have other terms FormerPrimary or FenceMoved.
        """
        by_slot: dict[int, list[Place]] = {}
        for place in places:
            by_slot.setdefault(place[0], []).append(place)
            self.at(place).claimed, self.at(place).epoch = False, self.epochs[place[1]]
        terms = self._term.arguments if self._term else ()
        calls = [
            (
                slot,
                claim([((fence := self.at(place)).key, fence.epoch, fence.number) for place in its], terms),
            )
            for slot, its in by_slot.items()
        ]
        claimed: list[tuple[Place, int, Known]] = []
        failed: dict[int, Exception] = {}
        for (slot, its), answer in zip(by_slot.items(), self._target.run(CLAIM, calls)):
            if isinstance(answer, Exception):
                failed[slot] = answer
                continue
            if answer[0] == b"elsewhere" and self._term:
                self._term.follow(map(text, answer[1:]))
                raise FenceMoved
            if answer[0] == b"refused":
                raise FenceRefused(its[int(answer[1]) - 1][1], int(answer[2]))
            if answer[0] == b"later":
                raise Unavailable(message_of(answer[1]))
            for place, number, fields in zip(its, answer[1::2], answer[2::2]):
                claimed.append((place, int(number), known(dict(zip(fields[::2], fields[1::2])))))
        ids = Spans(span for _place, _number, what in claimed for of in what.batches.values() for span in of)
        for change in {change for _place, _number, what in claimed for change, _which in what.appended}:
            ids.add_span(change, change)
        rows = Rows(present(ids))
        for place, number, what in claimed:
            self.at(place).learn(number, what, rows)
        return failed
