# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence in Redis: the last batch of a shard, and the ids that are applied. The scripts, their arguments
and answers. Pure.

A fence is a hash, one for each shard (in a cluster one for each shard and slot), which changes in the same
atomic step as the data:

``epoch``, ``number``
    The lease's epoch and the number of the last batch. A batch names the number that it follows, and is
    refused when the fence has another one. This one comparison refuses a batch that was given up and arrives
    late, a batch of a process that has lost its lease, and a batch for a Redis that has lost its last writes.
``b<number>``
    The ids that a batch has applied, until a while after their rows are deleted from the outbox: a replica
    that becomes the primary may lack the deletion.
``c<number>``
    The digests of these changes, four bytes each, in the order of the ids; beside ``p<number>`` those of its
    appends. A row of the outbox with another digest is another change: ids are reused after a database was
    restored or created again, or a replica without the last changes was promoted.
``x<id>``
    Why a change cannot be applied, until it is a dead letter.
``p<number>``, ``ids``
    What a partial batch has appended: ``<id>.<n>``, the n-th append of a change. Release 1.0 wrote it as
    ``ids``.
``term``
    Where a source has several members: the term under which it was claimed, see agreed_term.py. Other
    releases leave it as it is.
``created``
    When the newest of these changes was made, by the database's clock. A row that was made later is another
    one, also where a batch of an earlier release has no digests.

A process that begins to write to a shard, or got no answer, claims the fence first: the claim raises the
number, and returns what is applied. No process uses a number again.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from gearsync.outbox.spans import Spans, from_text, runs, text_of
from gearsync.servers.redis_errors import message_of
from gearsync.servers.target import Script
from gearsync.shapes.shape import APPEND, Step

_HERE = Path(__file__).parent
_DIGEST = struct.Struct(">I")

#: Later than every row of the outbox: release 1.0 does not record when the changes were made whose appends it
#: keeps.
_LATEST = b"9999"

#: Errors of a command that a retry cannot avoid: about the key's type or the value. After any other error the
#: changes wait.
PERMANENT = (
    "WRONGTYPE",
    "value is not a valid float",
    "is not a float",
    "hash value is not",
    "value is not an integer",
    "not a number (NaN)",
    "string exceeds maximum allowed size",
    "invalid expire time",
    "has exhausted the last possible ID",
)

#: The script files describe their arguments and answers.
CLAIM = Script((_HERE / "claim.lua").read_text())
BATCH = Script(
    (_HERE / "batch.lua")
    .read_text()
    .replace("PERMANENT", ", ".join(f"'{message}'" for message in PERMANENT)),
    waits=True,
)


class FenceRefused(Exception):
    """The fence has a greater epoch: another process has written since the lease was taken, or the
    database was restored.
    """

    def __init__(self, shard: int, epoch: int) -> None:
        super().__init__(f"the fence of shard {shard} has epoch {epoch}")
        self.shard = shard
        self.epoch = epoch


class FenceMoved(Exception):
    """The fence has another number than expected: nothing was written, and it must be claimed again."""


class BatchStuck(Exception):
    """A batch has stopped at a change with a temporary error; its fence records what it has appended."""

    def __init__(self, change: int, message: str) -> None:
        super().__init__(message)
        self.change = change


class Mark(NamedTuple):
    """One shard's part of a batch: what its fence must have, and what it gets."""

    key: str
    epoch: int
    follows: int
    number: int
    ids: Sequence[int]
    #: The digests of these changes, packed.
    digests: bytes
    #: When the newest change under this fence was made, as the database writes it.
    created: bytes
    #: Fields of the fence to delete: their rows were deleted from the outbox a while ago.
    forget: Sequence[str]


class Known(NamedTuple):
    """The content of a fence when it was claimed."""

    #: Epoch and number of the last batch; None for a new fence.
    last: Optional[tuple[int, int]]
    #: When the newest change under the fence was made.
    created: bytes
    #: The applied ids by the numbers of their batches.
    batches: dict[int, Spans]
    #: Why changes cannot be applied, by id.
    dead: dict[int, str]
    #: The appends of partial batches: the id of a change and which of its appends, with the change's digest.
    appended: dict[tuple[int, int], Optional[int]]
    #: The digests of the changes of batches by their numbers, packed, as far as they are recorded.
    digests: dict[int, bytes]
    #: The fields that record the appends.
    partial: list[str]
    #: Digests of batches that an earlier release has forgotten.
    left_over: list[str]

    def same(self, number: int, rows: Rows) -> Spans:
        """The ids of the batch with this number whose rows in the outbox are still its changes, as far as
        that is recorded.
        """
        digests, place, ids = self.digests.get(number, b""), 0, list[int]()
        for first, last in self.batches[number]:
            for each in rows.within(first, last):
                at = 4 * (place + each - first)
                if not digests or _DIGEST.unpack_from(digests, at)[0] == rows.digests[each]:
                    ids.append(each)
            place += last - first + 1
        return Spans.of(ids)


class Rows:
    """Rows of the outbox by their ids."""

    def __init__(self, digests: Mapping[int, int]) -> None:
        """``digests`` are those of the rows' changes."""
        self.digests = digests
        self.ids = sorted(digests)

    def within(self, first: int, last: int) -> Sequence[int]:
        """The ids of rows from ``first`` to ``last``, in order."""
        return self.ids[bisect_left(self.ids, first) : bisect_right(self.ids, last)]


def claim(claims: Sequence[tuple[str, int, int]], terms: Sequence[str] = ()) -> tuple[Any, ...]:
    """The arguments of CLAIM; ``claims`` are the fences' keys, the epochs of the held leases, and the
    greatest known numbers; ``terms`` those of a source with several members.
    """
    return (
        len(claims),
        *(key for key, _epoch, _number in claims),
        *(value for _key, *values in claims for value in values),
        *terms,
    )


def batch(marks: Sequence[Mark], steps: Sequence[Step], ids: Sequence[int]) -> list[Any]:
    """The arguments of BATCH; ``ids`` are the ids of the changes, by ``Step.change``."""
    keys = [step.key for step in steps]
    arguments: list[Any] = [len(marks) + len(keys), *(mark.key for mark in marks), *keys, len(marks)]
    for mark in marks:
        arguments += (
            mark.epoch,
            mark.follows,
            mark.number,
            text_of(runs(mark.ids)),
            mark.digests,
            mark.created,
            len(mark.forget),
            *mark.forget,
        )
    for step in steps:
        commands, number = step.commands, ids[step.change]
        if step.kind == APPEND:
            number = -number
        if len(commands) < 2:
            command = commands[0] if commands else ()
            arguments += (len(command), number)
            arguments += command
            continue
        arguments += (-len(commands), number)
        for command in commands:
            arguments.append(len(command))
            arguments += command
    return arguments


def known(fields: Mapping[bytes, bytes]) -> Known:
    """The content of one fence, from the answer of CLAIM."""
    epoch = fields.get(b"epoch")
    # `created` is compared only for a fence that records changes.
    records = any(
        name == b"ids" or (name[:1] in (b"b", b"x", b"p") and name[1:].isdigit()) for name in fields
    )
    created = fields.get(b"created", _LATEST) if records else b""
    last = (int(epoch), int(fields.get(b"number", 0))) if epoch else None
    content = Known(last, created, {}, {}, {}, {}, [], [])
    for name, value in fields.items():
        kind, rest = name[:1], name[1:].decode()
        digests = fields.get(b"c" + name[1:], b"")
        if name == b"ids" or (kind == b"p" and rest.isdigit()):
            content.partial.append(name.decode())
            its: Iterable[Optional[int]] = (each for (each,) in _DIGEST.iter_unpack(digests))
            content.appended.update(zip(_appends(value.decode()), its if digests else itertools.repeat(None)))
        elif kind == b"b" and rest.isdigit():
            content.batches[int(rest)] = Spans(from_text(value.decode()))
            content.digests[int(rest)] = digests
        elif kind == b"x" and rest.isdigit():
            content.dead[int(rest)] = message_of(value)
        elif kind == b"c" and rest.isdigit() and not {b"b" + name[1:], b"p" + name[1:]} & fields.keys():
            content.left_over.append(name.decode())
    return content


def digest(stamp: bytes) -> int:
    """What distinguishes a change from another one with its id, of its stamp; the outbox computes the same
    of its rows.
    """
    return zlib.crc32(stamp)


def packed(digests: Sequence[int]) -> bytes:
    """Digests as a fence has them."""
    return struct.pack(f">{len(digests)}I", *digests)


def _appends(text: str) -> Iterable[tuple[int, int]]:
    for token in text.split(",") if text else ():
        number, _dot, which = token.partition(".")
        yield int(number), int(which)


def without_done(
    steps: Sequence[Step], ids: Sequence[int], appended: Collection[tuple[int, int]]
) -> list[Step]:
    """``steps``, of which those that were ``appended`` have no commands: they still count among their
    change's appends.
    """
    if not appended:
        return list(steps)
    left, counted = [], dict[int, int]()
    for step in steps:
        if step.kind == APPEND:
            number = ids[step.change]
            which = counted[number] = counted.get(number, -1) + 1
            if (number, which) in appended:
                left.append(Step(step.kind, step.shape, step.key, step.place, [], step.change))
                continue
        left.append(step)
    return left
