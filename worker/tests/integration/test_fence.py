# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence in Redis: one atomic step, in the order of its numbers, and nothing applied twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from gearsync.apply.fence import BATCH, FenceRefused, batch, packed, without_done
from gearsync.apply.fences import Fences
from gearsync.declare.configuration import RedisSettings
from gearsync.outbox.spans import Spans
from gearsync.project.commands import coalesce
from gearsync.project.payload import Change
from gearsync.servers.redis import ServerTarget
from gearsync.servers.target import Target
from gearsync.shapes.shape import APPEND, Command, Step
from harness.histories import histories, steps_of
from harness.redis_server import RedisServer
from hypothesis import HealthCheck, given, settings

READ: dict[bytes, Any] = {
    b"string": lambda r, key: r.get(key),
    b"hash": lambda r, key: r.hgetall(key),
    b"set": lambda r, key: r.smembers(key),
    b"zset": lambda r, key: r.zrange(key, 0, -1, withscores=True),
    b"list": lambda r, key: r.lrange(key, 0, -1),
    b"stream": lambda r, key: [fields for _, fields in r.xrange(key)],
}
NOW = b"2026-11-28 00:00:00.000000"
PLACE = (0, 7)


@pytest.fixture
def target(redis_server: RedisServer) -> Iterator[Target]:
    redis_server.client.config_set("appendfsync", "no")
    target = ServerTarget(RedisSettings(port=redis_server.port), 120.0)
    yield target
    target.close()


class Process:
    """A process that holds the shard, from the view of Redis."""

    def __init__(self, target: Target, epoch: int) -> None:
        self.target = target
        self.fences = Fences(target, "s")
        self.fences.follow({PLACE[1]: epoch})
        self.fence = self.fences.at(PLACE)

    def claim(self, present: Spans | None = None) -> None:
        """Claim the fence, with all ids that it names in the outbox or only those that are ``present``."""
        self.fences.claim(
            [PLACE],
            lambda asked: dict.fromkeys((asked if present is None else asked.common(present)).numbers, 0),
        )

    def arguments(self, steps: list[Step], ids: list[int], created: bytes = NOW) -> list[Any]:
        for number, step in enumerate(steps):
            step.change = min(number, len(ids) - 1)
        return batch([self.fence.mark(ids, created)], steps, ids)

    def write(self, steps: list[Step], ids: list[int], created: bytes = NOW) -> list[Any]:
        (answer,) = self.target.run(BATCH, [(0, self.arguments(steps, ids, created))])
        if answer[0] == b"ok":
            self.fence.confirm()
        return answer


def item(number: int, name: str = "x") -> list[Step]:
    return steps_of([("s.other", Change("s.other", "insert", {"id": number, "a": name, "b": "y"}, None))])


def state(redis_server: RedisServer) -> dict[bytes, Any]:
    """All data, and whether it expires."""
    r = redis_server.client
    return {
        key: (READ[r.type(key)](r, key), r.ttl(key) > 0)
        for key in r.keys("*")
        if not key.startswith(b"gearsync:")
    }


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
def test_a_coalesced_batch_has_the_result_of_all_its_steps(
    target: Target, redis_server: RedisServer, history: list[tuple[str, Change]]
) -> None:
    steps = steps_of(history)
    redis_server.client.flushall()
    target.apply([command for step in steps for command in step.commands])
    wanted = state(redis_server)
    redis_server.client.flushall()
    process = Process(target, 1)
    process.claim()
    kept = coalesce(steps)
    assert process.write(kept, list(range(1, len(kept) + 2))) == [b"ok"]
    assert state(redis_server) == wanted


def test_a_batch_that_arrives_after_its_sender_gave_up_writes_nothing(
    target: Target, redis_server: RedisServer
) -> None:
    process = Process(target, 1)
    process.claim()
    late = process.arguments(item(1, "older"), [1])
    process.claim()
    assert process.write(item(1, "newer"), [2])[0] == b"ok"
    assert target.run(BATCH, [(0, late)]) == [[b"moved", 1]]
    assert redis_server.client.hget("h:1", "a") == b"newer"
    # Also when nothing has arrived in between.
    late = process.arguments(item(2), [3])
    process.claim()
    assert target.run(BATCH, [(0, late)]) == [[b"moved", 1]]
    process.claim()
    assert 3 not in process.fence.applied


def test_a_batch_whose_answer_was_lost_is_known_to_be_applied(target: Target) -> None:
    process = Process(target, 1)
    process.claim()
    target.run(BATCH, [(0, process.arguments(item(1), [4, 5, 9]))])
    process.claim()
    assert list(process.fence.applied) == [(4, 5), (9, 9)]
    other = Process(target, 2)
    other.claim(Spans.of([5, 9, 10]))
    # The next batch deletes the fields of deleted rows.
    assert list(other.fence.applied) == [(5, 5), (9, 9)]
    other.fences.deleted({7: [5, 9]})
    other.fences.write_forgotten()
    assert set(target.ask([("HKEYS", other.fence.key)])[0]) == {b"epoch", b"number", b"created"}


def test_a_row_with_another_digest_is_another_change(target: Target) -> None:
    process = Process(target, 1)
    process.claim()
    steps = item(1)
    target.run(
        BATCH, [(0, batch([process.fence.mark([4, 5, 9], NOW, packed([40, 50, 90]))], steps, [4, 5, 9]))]
    )
    other = Process(target, 2)
    other.fences.claim([PLACE], lambda _asked: {4: 40, 5: 51})
    assert list(other.fence.applied) == [(4, 4)]
    # What is recorded of it is deleted with the last row that it is needed for.
    other.fences.deleted({7: [4]})
    other.fences.write_forgotten()
    assert set(target.ask([("HKEYS", other.fence.key)])[0]) == {b"epoch", b"number", b"created"}


def test_an_older_epoch_is_refused(target: Target, redis_server: RedisServer) -> None:
    first, second = Process(target, 5), Process(target, 7)
    first.claim()
    second.claim()
    assert first.write(item(1), [1]) == [b"moved", 1]
    with pytest.raises(FenceRefused) as refused:
        first.claim()
    assert (refused.value.shard, refused.value.epoch) == (7, 7)
    assert state(redis_server) == {}
    # Another source has fences of its own.
    another = Fences(target, "t")
    another.follow({7: 1})
    another.claim([PLACE], lambda _asked: {})


def test_the_changes_that_redis_lost_when_it_stepped_back_are_named(
    target: Target, redis_server: RedisServer
) -> None:
    r = redis_server.client
    process = Process(target, 1)
    process.claim()
    process.write(item(1), [1, 2])
    before = r.dump(process.fence.key)
    process.write(item(2), [3])
    process.write(item(3), [4, 6])
    r.restore(process.fence.key, 0, before, replace=True)
    assert process.write(item(4), [7]) == [b"moved", 1]
    process.claim()
    assert process.fence.batches == {2}
    assert list(process.fence.applied) == [(1, 2)]
    assert not process.fence.has_lost_for_good
    # Changes that are deleted from the outbox cannot be applied again.
    process.fences.let_go(PLACE, 2)
    r.flushall()
    process.claim()
    assert process.fence.batches == set()
    assert process.fence.has_lost_for_good


def test_a_permanent_error_is_kept_until_there_is_a_dead_letter_and_the_rest_is_applied(
    target: Target, redis_server: RedisServer
) -> None:
    redis_server.client.set("ttl:set:x", "mine")
    process = Process(target, 1)
    process.claim()
    steps = steps_of([("s.ttl", Change("s.ttl", "insert", {"id": 1, "a": "x", "b": None}, None))])
    number = 10**15 + 3
    answer = process.write(steps, [number])
    assert answer[0] == b"ok"
    assert answer[1] == number
    assert b"WRONGTYPE" in answer[2]
    # A key of another application gets no time to live.
    assert redis_server.client.ttl("ttl:set:x") == -1
    assert redis_server.client.exists("ttl:h:1", "ttl:j:1", "ttl:v:1") == 2
    other = Process(target, 2)
    other.claim()
    assert "WRONGTYPE" in other.fence.dead[number]


def test_a_wide_row_fits(target: Target, redis_server: RedisServer) -> None:
    key = b"wide"
    commands = [
        ("HSET", key, *[part for number in range(start, start + 2000) for part in (f"c{number}", "x")])
        for start in (0, 2000)
    ]
    (step,) = item(1)
    step.commands = commands
    process = Process(target, 1)
    process.claim()
    assert process.write([step], [1]) == [b"ok"]
    assert redis_server.client.hlen("wide") == 4000


def test_a_partial_batch_appends_nothing_twice(target: Target, redis_server: RedisServer) -> None:
    r = redis_server.client
    r.execute_command("ACL", "SETUSER", "default", "-xadd")
    process = Process(target, 1)
    process.claim()
    steps = [
        step
        for number in (1, 2)
        for step in steps_of([("s.t", Change("s.t", "insert", {"id": number, "a": "x", "b": "y"}, None))])
    ]
    ids = [7, 8]
    for number, step in enumerate(steps):
        step.change = number * 2 // len(steps)
    (answer,) = target.run(BATCH, [(0, batch([process.fence.mark(ids, NOW)], steps, ids))])
    assert answer[:2] == [b"stuck", 7]
    r.execute_command("ACL", "SETUSER", "default", "+xadd")
    # Another process continues.
    other = Process(target, 2)
    other.claim()
    assert other.fence.appended == {(7, 0)}
    assert not other.fence.applied
    assert target.run(
        BATCH, [(0, batch([other.fence.mark(ids, NOW)], without_done(steps, ids, other.fence.appended), ids))]
    ) == [[b"ok"]]
    assert r.lrange("l:x", 0, -1) == [b"1", b"2"]
    assert len(r.xrange("log")) == 2


def appends(*commands: Command) -> list[Step]:
    """Each command as a step of its own."""
    (shape,) = {step.shape for step in item(1)}
    return [Step(APPEND, shape, str(command[1]).encode(), None, [command]) for command in commands]


def calls(redis_server: RedisServer) -> dict[str, int]:
    """How often each command was called."""
    return {
        name.removeprefix("cmdstat_"): statistics["calls"]
        for name, statistics in redis_server.client.info("commandstats").items()
    }


def test_removing_a_thousand_entries_of_a_long_list_scans_it_a_few_times(
    target: Target, redis_server: RedisServer
) -> None:
    r, length = redis_server.client, 300_000
    r.rpush("log", *range(length))
    process = Process(target, 1)
    process.claim()
    replaced = range(length - 1, length - 1001, -1)
    r.config_resetstat()
    # As REPLACE does it.
    steps = appends(
        *[
            command
            for number in replaced
            for command in (
                ("LREM", "log", 1, number),
                ("RPUSH", "log", number),
                ("LTRIM", "log", -length, -1),
            )
        ]
    )
    assert process.write(steps, list(range(1, len(steps) + 1))) == [b"ok"]
    called = calls(redis_server)
    assert called["lrem"] <= 5
    assert called["lrange"] <= length / 1000 + 2
    assert r.llen("log") == length
    assert r.lrange("log", -1000, -1) == [b"%d" % number for number in replaced]
    assert r.lrange("log", 0, 1) + r.lrange("log", -1001, -1001) == [b"0", b"1", b"298999"]


@pytest.mark.parametrize("denied", ["", "-lset", "-lrange", "-llen"])
def test_a_list_has_the_result_of_its_commands_one_by_one(
    target: Target, redis_server: RedisServer, denied: str
) -> None:
    r = redis_server.client
    process = Process(target, 1)
    process.claim()
    for seed in range(40):
        chance = random.Random(seed)
        most, values = chance.choice([3, 8, 30]), chance.choice([2, 6, 20])
        commands: list[Command] = []
        for _ in range(chance.randrange(5, 80)):
            key, value = chance.choice(["a", "b"]), b"%d" % chance.randrange(values)
            if chance.random() < 0.5:
                commands.append(("LREM", key, 1, value))
            else:
                commands += [
                    ("RPUSH", key, value),
                    *[("LTRIM", key, -most, -1)] * (key == "a"),
                    *[("EXPIRE", key, 60)] * (seed % 2),
                ]
        before = [b"%d" % chance.randrange(values) for _ in range(chance.randrange(30))]

        def begin(entries: list[bytes] = before) -> None:
            r.delete("a", "b")
            if entries:
                r.rpush("a", *entries)
                r.rpush("b", *entries)

        begin()
        target.apply(commands)
        wanted = r.lrange("a", 0, -1), r.lrange("b", 0, -1), r.ttl("b")
        begin()
        steps = appends(*commands)
        if denied:
            r.execute_command("ACL", "SETUSER", "default", denied)
        assert process.write(steps, list(range(1, len(steps) + 1))) == [b"ok"]
        if denied:
            r.execute_command("ACL", "SETUSER", "default", "+@all")
        assert (r.lrange("a", 0, -1), r.lrange("b", 0, -1), r.ttl("b")) == wanted, seed
