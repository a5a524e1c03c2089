# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes changes to Redis: a batch is one fenced script call for each slot, so that it is applied once
and in order.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Optional

from gearsync.apply.applied_batches import AppliedBatches
from gearsync.apply.fence import BATCH, BatchStuck, FenceMoved, batch, digest, packed, without_done
from gearsync.apply.fences import Fences, Place
from gearsync.apply.reader import Reader
from gearsync.apply.stalled_slots import StalledSlots
from gearsync.apply.upstream import Made, Upstream
from gearsync.apply.work import Work
from gearsync.outbox.changes import CREATED, Entry, summary
from gearsync.outbox.store import Outbox
from gearsync.project.commands import coalesce
from gearsync.servers.redis_errors import Denied, Unavailable, message_of
from gearsync.servers.target import Target
from gearsync.shapes.shape import Step
from gearsync.telemetry.metrics import BATCHES, CHANGES, COMMANDS, ERRORS, STEPS, Tally
from gearsync.values import Malformed

log = logging.getLogger(__name__)

#: Ids of changes in one log message.
_NAMED = 5


def log_dead_letters(entries: Sequence[Entry], dead: Mapping[int, Malformed]) -> None:
    """Log one message for each table, whatever the number of its changes."""
    by_table: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.id in dead:
            by_table.setdefault(entry.table, []).append(entry)
    for table, its in sorted(by_table.items()):
        ids = [entry.id for entry in its[:_NAMED]]
        log.error(
            "%d changes of %s cannot be applied and become dead letters, the first are %s: %s",
            len(its),
            table,
            ", ".join(map(str, ids)),
            dead[ids[0]],
            extra={"action": "dead_letter", "table": table, "count": len(its), "ids": ids},
        )


def made_of(entries: Sequence[Entry], digests: Mapping[int, int]) -> list[Made]:
    """Changes by shard and table."""
    if len({(entry.shard, entry.table) for entry in entries}) == 1:
        numbers = [entry.id for entry in entries]
        return [
            Made(entries[0].shard, entries[0].table, numbers, packed([digests[each] for each in numbers]))
        ]
    ids: dict[tuple[int, str], list[int]] = {}
    for entry in entries:
        ids.setdefault((entry.shard, entry.table), []).append(entry.id)
    return [
        Made(shard, table, numbers, packed([digests[number] for number in numbers]))
        for (shard, table), numbers in ids.items()
    ]


class Applier:
    """``apply`` writes what a reader has read; ``claim`` claims fences."""

    def __init__(
        self,
        target: Target,
        outbox: Outbox,
        reader: Reader,
        tally: Tally,
        *,
        fences: Fences,
        applied: AppliedBatches,
        stalled: StalledSlots,
        upstream: Upstream,
    ) -> None:
        self._target = target
        self._outbox = outbox
        self._reader = reader
        self._fences = fences
        self._applied = applied
        self._stalled = stalled
        self._upstream = upstream
        self._tally = tally
        #: By how many seconds MySQL's clock is ahead of this host's.
        self._clock_ahead = 0.0
        #: Whether Redis has returned to an older state; the reader of this flag clears it.
        self.has_stepped_back = False

    def compare_clocks(self) -> None:
        """Learn by how much MySQL's clock is ahead. Raises DatabaseUnavailable, also for a server that is
        read-only by now.
        """
        before = time.time()
        self._clock_ahead = self._outbox.database.now() - (before + time.time()) / 2

    def apply(self, work: Work, meanwhile: Optional[Callable[[], None]] = None) -> bool:
        """Write a batch; when the account may not write a table's keys, that table is held and the others are
        written. Returns whether no table is held.

        ``meanwhile`` may be called, once, while Redis executes the batch. Raises DatabaseUnavailable,
        Unavailable, Denied, FenceRefused and FenceMoved: then only the fences know what is applied.
        """
        try:
            self._write(work, meanwhile)
        except BatchStuck as stuck:
            (table,) = (entry.table for entry in work.entries if entry.id == stuck.change)
            self._reader.hold(table, [], str(stuck))
            raise FenceMoved from None
        except Denied as denied:
            tables = sorted({entry.table for entry in work.entries})
            if len(tables) == 1:
                self._reader.hold(tables[0], work.ids, str(denied))
            else:
                for table in tables:
                    self.apply(work.only(table))
            return False
        return True

    def _write(self, work: Work, meanwhile: Optional[Callable[[], None]]) -> None:
        """Raises DatabaseUnavailable, Unavailable, Denied, FenceRefused, FenceMoved and BatchStuck."""
        steps, ids = self._by_slot(work)
        places = [(slot, shard) for slot, of_shards in ids.items() for shard in of_shards]
        failed = {slot: self._stalled.slots[slot] for slot in steps if slot in self._stalled.slots}
        self._claim_new(places, failed)
        created = max(entry.stamp for entry in work.entries)[:CREATED]
        digests = {entry.id: digest(entry.stamp) for entry in work.entries}
        dead, calls, sent, before = dict(work.dead), [], [], set[int]()
        for slot, of_slot in steps.items():
            if slot in failed:
                continue
            its = self._remaining(slot, of_slot, work.entries, dead, before)
            marks = [
                self._fences.at((slot, shard)).mark(
                    numbers, created, packed([digests[number] for number in numbers])
                )
                for shard, numbers in ids[slot].items()
            ]
            sent.append(its)
            calls.append((slot, batch(marks, its, work.ids)))
        try:
            answers = self._target.run(BATCH, calls, meanwhile)
        except BaseException:
            self._fences.doubt(places)
            raise
        refused = self._refused(calls, answers, places, failed)
        if failed and not self._target.is_parted:
            raise next(iter(failed.values()))
        places = [place for place in places if place[0] not in failed]
        for place in places:
            self._fences.at(place).confirm()
        dead.update(refused)
        shared = frozenset(self._stall(work, steps, ids, failed)) if failed else frozenset[Place]()
        # A change that one slot had already applied is complete only with the other slots' steps.
        before.difference_update([work.entries[step.change].id for its in sent for step in its])
        done = work.without(self._stalled.ids) if failed else work
        made = made_of(done.entries, digests)
        numbers = {place: self._fences.at(place).number for place in places}
        self._applied.add(done, dead, numbers, shared, made)
        self._upstream.applied(made)
        if dead:
            log_dead_letters(done.entries, dead)
        self._reader.applied(done.entries)
        self._count(done, dead, before, sum(map(len, sent)))

    def _claim_new(self, places: Sequence[Place], failed: dict[int, Exception]) -> None:
        """Claim the fences that are not claimed. Adds the slots that do not answer to ``failed``. Raises
        FenceMoved when another process had one of them.
        """
        unclaimed = [place for place in self._fences.unclaimed(places) if place[0] not in failed]
        if not unclaimed:
            return
        failed.update(self.claim(unclaimed))
        if any(self._fences.at(place).was_others for place in unclaimed if place[0] not in failed):
            # Read before the claim: the former owner may have applied these and later changes since, and
            # deleted them all.
            raise FenceMoved

    def _refused(
        self,
        calls: Sequence[tuple[int, Sequence[Any]]],
        answers: Sequence[Any],
        places: Sequence[Place],
        failed: dict[int, Exception],
    ) -> dict[int, Malformed]:
        """The changes that Redis refused, by id. Adds the slots that did not execute the batch to
        ``failed``. Raises BatchStuck and FenceMoved.
        """
        refused: dict[int, Malformed] = {}
        for (slot, _arguments), answer in zip(calls, answers):
            if isinstance(answer, Exception):
                failed[slot] = answer
                continue
            status, *rest = answer
            if status == b"ok":
                refused.update(
                    {
                        int(number): Malformed(message_of(error))
                        for number, error in zip(rest[::2], rest[1::2])
                    }
                )
                continue
            self._fences.doubt(places)
            if status == b"later":
                failed[slot] = Unavailable(message_of(rest[0]))
                continue
            if status == b"stuck":
                raise BatchStuck(int(rest[0]), message_of(rest[1]))
            raise FenceMoved
        return refused

    def _stall(
        self,
        work: Work,
        steps: Mapping[int, Sequence[Step]],
        ids: Mapping[int, Mapping[int, Sequence[int]]],
        failed: Mapping[int, Exception],
    ) -> set[Place]:
        """Have the changes wait that need a slot that failed, so that no later change overtakes them.

        Returns the fences that record some of these changes as applied: they are claimed again, to learn
        which. Raises Denied.
        """
        stalled = {work.entries[step.change].id for slot in failed for step in steps[slot]}
        shared = {
            (slot, shard)
            for slot, of_shards in ids.items()
            for shard, its in of_shards.items()
            if slot not in failed and not stalled.isdisjoint(its)
        }
        self._fences.doubt(shared | {(slot, shard) for slot in failed for shard in ids[slot]})
        for error in failed.values():
            if isinstance(error, Denied):
                self._fences.doubt((slot, shard) for slot, of_shards in ids.items() for shard in of_shards)
                raise error
        self._stalled.add(failed, sorted(stalled))
        return shared

    def _by_slot(self, work: Work) -> tuple[dict[int, list[Step]], dict[int, dict[int, list[int]]]]:
        """The steps of each slot, and the ids that the fence of each slot and shard is to record as
        applied.
        """
        steps = self._target.by_slot(work.steps)
        ids: dict[int, dict[int, list[int]]] = {}
        for slot, of_slot in steps.items():
            of_shards = ids[slot] = dict[int, list[int]]()
            for change in sorted({step.change for step in of_slot}):
                entry = work.entries[change]
                of_shards.setdefault(entry.shard, []).append(entry.id)
        return steps, ids

    def claim(self, places: Sequence[Place]) -> dict[int, Exception]:
        """Claim these fences. Returns the errors of slots that are unreachable while others are not.

        Raises DatabaseUnavailable, Unavailable, Denied, FenceRefused, and FenceMoved when lost changes must
        be applied again first.
        """
        lost, failed = self._claimed(places)
        if not lost:
            return failed
        # A Redis that has lost one change may have lost others, also in fences that are not being written to.
        lost += self._claimed(sorted(self._applied.places.difference(places)))[0]
        log.warning(
            "Redis has lost %d applied changes; they are applied again",
            len(lost),
            extra={"action": "redis_stepped_back"},
        )
        self._tally.count(ERRORS, "redis_stepped_back")
        self.has_stepped_back = True
        raise FenceMoved

    def _claimed(self, places: Sequence[Place]) -> tuple[list[int], dict[int, Exception]]:
        """Claim these fences. Returns the ids that Redis has lost and the outbox still holds, and the
        errors of unreachable slots.
        """
        failed = self._fences.claim(places, self._outbox.present)
        places = [place for place in places if place[0] not in failed]
        for _slot, shard in sorted(place for place in places if self._fences.at(place).has_lost_for_good):
            log.error(
                "Redis has lost data of shard %d that is not in the outbox any more; run gearsync verify "
                "--repair",
                shard,
                extra={"action": "redis_lost_data", "shard": shard},
            )
            self._tally.count(ERRORS, "redis_lost_data")
            self.has_stepped_back = True
        for place in places:
            fence = self._fences.at(place)
            self._upstream.compare_fence(place[1], fence.others, fence.absent)
        lost = self._applied.lose(places)
        # Before the next claim, which may fail.
        self._reader.seen.remove(lost)
        return lost, failed

    def _remaining(
        self,
        slot: int,
        steps: list[Step],
        entries: Sequence[Entry],
        dead: dict[int, Malformed],
        before: set[int],
    ) -> list[Step]:
        """Those of a slot's steps that are not applied yet, coalesced.

        Adds the ids of changes that were applied before to ``before``, and those that cannot be applied to
        ``dead``.
        """
        fences = {
            shard: self._fences.at((slot, shard)) for shard in {entries[step.change].shard for step in steps}
        }
        if any(fence.applied or fence.dead or fence.appended for fence in fences.values()):
            left = []
            for step in steps:
                entry = entries[step.change]
                fence = fences[entry.shard]
                if entry.stamp[:CREATED] > fence.applied_created:
                    left.append(step)
                elif entry.id in fence.dead:
                    dead[entry.id] = Malformed(fence.dead[entry.id])
                elif entry.id in fence.applied:
                    before.add(entry.id)
                else:
                    left.append(step)
            appended = set().union(*(fence.appended for fence in fences.values()))
            steps = without_done(left, [entry.id for entry in entries], appended)
        return coalesce(steps)

    def _count(self, work: Work, dead: Collection[int], before: Collection[int], steps: int) -> None:
        """Count a batch: its changes without those that an earlier process has applied and counted."""
        log.debug(
            "wrote %d steps for %d changes",
            steps,
            len(work.entries),
            extra={"action": "batch", "count": len(work.entries)},
        )
        self._tally.count(BATCHES)
        self._tally.count(STEPS, number=steps)
        self._tally.count(COMMANDS, "durable", sum([len(step.commands) for step in work.steps]))
        entries = work.entries
        if dead:
            self._tally.count(ERRORS, "dead_letter", len(dead))
        if dead or before:
            entries = [entry for entry in entries if entry.id not in dead and entry.id not in before]
        now = datetime.datetime.fromtimestamp(time.time() + self._clock_ahead, datetime.timezone.utc).replace(
            tzinfo=None
        )
        for applied in summary(entries):
            self._tally.count(CHANGES, applied.table, applied.number)
            # The rows of a resync are not changes: the time that they wait is not part of the lag.
            if applied.operation != "refresh":
                self._tally.lag(applied.table, (now - applied.created).total_seconds(), applied.number)
