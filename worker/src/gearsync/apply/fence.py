"""The fence in Redis: which batch of a shard was the last one, and which of the outbox's ids it has applied. Scripts, and what goes in and out. Pure.

A fence is a hash, one for each shard (in a cluster one for each shard and slot), and changes in the same atomic step as the data:

``epoch``, ``number``
    The lease's epoch and the number of the last batch. A batch names the number that it follows, and is refused when the fence has another one.
    So a batch that was given up and arrives late, one of a process whose lease is another's by now, and one for a Redis that has lost its last second
    are all refused by the same comparison.
``b<number>``
    The ids that a batch has applied, until their rows are deleted from the outbox.
``x<id>``
    Why a change cannot be applied, until it is a dead letter.
``p<number>``, ``ids``
    What a batch that stopped half-way has appended: ``<id>.<n>``, the n-th append of a change. ``ids`` is the same, left by release 1.0.
``created``
    When the newest of these changes was made, by the database's clock. A row that was made later is another one, whatever its id: ids are used again
    after a database was restored, or made anew, or a replica without the last changes was promoted.

Whoever begins to write to a shard, or got no answer, claims the fence first: it raises the number, and learns what was applied. A number is never used
again, by whichever process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from gearsync.outbox.spans import Spans, from_text, runs, text_of
from gearsync.servers.redis_errors import words_of
from gearsync.servers.target import Script
from gearsync.shapes.shape import APPEND, Step

_HERE = Path(__file__).parent

#: Later than every row of the outbox: release 1.0 does not say when the changes were made whose appends it keeps.
_EVER = b"9999"

#: Errors of a command that come again whatever is done about the server: of the key's type and of the value. All others wait.
PERMANENT = (
    "WRONGTYPE", "value is not a valid float", "is not a float", "hash value is not", "value is not an integer", "not a number (NaN)",
    "string exceeds maximum allowed size", "invalid expire time", "has exhausted the last possible ID",
)

#: Claims fences: the file says what goes in and out, as that of a batch does.
CLAIM = Script((_HERE / "claim.lua").read_text())
BATCH = Script((_HERE / "batch.lua").read_text().replace("PERMANENT", ", ".join(f"'{words}'" for words in PERMANENT)), waits=True)


class FenceRefused(Exception):
    """Redis knows a greater epoch of the shard: another process has written since the lease was taken, or the database was restored."""

    def __init__(self, shard: int, epoch: int) -> None:
        super().__init__(f"Redis knows epoch {epoch} of shard {shard}")
        self.shard = shard
        self.epoch = epoch


class FenceMoved(Exception):
    """The fence is not as it was left: nothing was done, and it must be claimed again."""


class BatchStuck(Exception):
    """A batch has stopped at a change, with an error that may pass; what it has appended, its fence says."""

    def __init__(self, change: int, words: str) -> None:
        super().__init__(words)
        self.change = change


class Mark(NamedTuple):
    """One shard's part of a batch: its fence, what the fence must hold, and what it is to hold."""

    key: str
    epoch: int
    follows: int
    number: int
    ids: Sequence[int]
    #: When the newest change that this fence was applied to was made, as the database writes it.
    created: bytes
    #: Fields of the fence whose rows are deleted from the outbox.
    forget: Sequence[str]


class Known(NamedTuple):
    """What a fence held when it was claimed."""

    #: Epoch and number of the last batch; None for a fence that was not there.
    last: Optional[tuple[int, int]]
    #: When the newest change that it was applied to was made.
    created: bytes
    #: The applied ids by the numbers of their batches.
    batches: dict[int, Spans]
    #: Why changes cannot be applied, by id.
    dead: dict[int, str]
    #: What was appended by batches that stopped half-way: a change's id, and which of its appends.
    appended: set[tuple[int, int]]
    #: The fields that hold these.
    partial: list[str]


def claim(claims: Sequence[tuple[str, int, int]]) -> tuple[Any, ...]:
    """The arguments of CLAIM; ``claims`` are the fences' keys, the epochs of our leases, and the greatest numbers that we know."""
    return (len(claims), *(key for key, _epoch, _number in claims), *(value for _key, *values in claims for value in values))


def batch(marks: Sequence[Mark], steps: Sequence[Step], ids: Sequence[int]) -> list[Any]:
    """The arguments of BATCH; ``ids`` are those of the changes that ``steps`` are of."""
    keys = [step.key for step in steps]
    found: list[Any] = [len(marks) + len(keys), *(mark.key for mark in marks), *keys, len(marks)]
    for mark in marks:
        found += (mark.epoch, mark.follows, mark.number, text_of(runs(mark.ids)), mark.created, len(mark.forget), *mark.forget)
    for step in steps:
        commands, number = step.commands, ids[step.change]
        if step.kind == APPEND:
            number = -number
        if len(commands) < 2:
            command = commands[0] if commands else ()
            found += (len(command), number)
            found += command
            continue
        found += (-len(commands), number)
        for command in commands:
            found.append(len(command))
            found += command
    return found


def known(fields: Mapping[bytes, bytes]) -> Known:
    """What CLAIM answers for one fence."""
    epoch = fields.get(b"epoch")
    # A fence that has applied nothing has no time that another one would have to be later than.
    knows = any(name == b"ids" or (name[:1] in (b"b", b"x", b"p") and name[1:].isdigit()) for name in fields)
    created = fields.get(b"created", _EVER) if knows else b""
    found = Known((int(epoch), int(fields.get(b"number", 0))) if epoch else None, created, {}, {}, set(), [])
    for name, value in fields.items():
        kind, rest = name[:1], name[1:].decode()
        if name == b"ids" or (kind == b"p" and rest.isdigit()):
            found.partial.append(name.decode())
            found.appended.update(_tokens(value.decode()))
        elif kind == b"b" and rest.isdigit():
            found.batches[int(rest)] = Spans(from_text(value.decode()))
        elif kind == b"x" and rest.isdigit():
            found.dead[int(rest)] = words_of(value)
    return found


def _tokens(text: str) -> Iterable[tuple[int, int]]:
    for token in text.split(",") if text else ():
        number, _dot, which = token.partition(".")
        yield int(number), int(which)


def without_done(steps: Sequence[Step], ids: Sequence[int], appended: Collection[tuple[int, int]]) -> list[Step]:
    """``steps``, those that are among what was ``appended`` without their commands: they keep their place in the count of their change's appends."""
    if not appended:
        return list(steps)
    found, counted = [], dict[int, int]()
    for step in steps:
        if step.kind == APPEND:
            number = ids[step.change]
            which = counted[number] = counted.get(number, -1) + 1
            if (number, which) in appended:
                found.append(Step(step.kind, step.shape, step.key, step.place, [], step.change))
                continue
        found.append(step)
    return found
