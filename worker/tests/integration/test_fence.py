"""The script in Redis: one atomic step, refused for an older epoch, and nothing appended twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gearsync.change import Change
from gearsync.commands import Step, coalesce
from gearsync.config import RedisSettings
from gearsync.target import Fence, Refused, Target, append_ids
from harness.histories import histories, steps_of
from harness.redis_server import RedisServer
from hypothesis import HealthCheck, given, settings

READ: dict[bytes, Any] = {
    b"string": lambda r, key: r.get(key), b"hash": lambda r, key: r.hgetall(key), b"set": lambda r, key: r.smembers(key),
    b"zset": lambda r, key: r.zrange(key, 0, -1, withscores=True), b"list": lambda r, key: r.lrange(key, 0, -1),
    b"stream": lambda r, key: [fields for _, fields in r.xrange(key)],
}


@pytest.fixture
def target(redis_server: RedisServer) -> Iterator[Target]:
    redis_server.client.config_set("appendfsync", "no")
    target = Target(RedisSettings(port=redis_server.port), 120.0)
    yield target
    target.close()


def state(redis_server: RedisServer) -> dict[bytes, Any]:
    """All that is there, and whether it will go by itself."""
    r = redis_server.client
    return {key: (READ[r.type(key)](r, key), r.ttl(key) > 0) for key in r.keys("*") if not key.startswith(b"gearsync:")}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
def test_a_coalesced_batch_ends_where_doing_everything_ends(target: Target, redis_server: RedisServer, history: list[tuple[str, Change]]) -> None:
    steps = steps_of(history)
    redis_server.client.flushall()
    target.apply([command for step in steps for command in step.commands])
    wanted = state(redis_server)
    redis_server.client.flushall()
    kept: list[Step] = coalesce(steps)
    for number, step in enumerate(kept):
        step.change = number
    ids = append_ids(kept, range(len(kept)))
    for _ in range(2):
        # Twice, as after a crash before the deletion.
        assert target.apply_fenced(Fence("s", 0, 1), kept, ids).errors == []
    assert state(redis_server) == wanted


def test_an_older_epoch_is_refused_and_writes_nothing(target: Target, redis_server: RedisServer) -> None:
    (step,) = steps_of([("s.other", Change("s.other", "insert", {"id": 1, "a": "x", "b": "y"}, None))])
    assert target.apply_fenced(Fence("s", 0, 5), [], []).known is None
    assert target.apply_fenced(Fence("s", 0, 7), [step], [""]).known == 5
    redis_server.client.delete("h:1")
    with pytest.raises(Refused) as refused:
        target.apply_fenced(Fence("s", 0, 6), [step], [""])
    assert refused.value.epoch == 7
    assert redis_server.client.exists("h:1") == 0
    # Another shard and another source have fences of their own.
    assert target.apply_fenced(Fence("s", 1, 1), [step], [""]).known is None
    assert target.apply_fenced(Fence("t", 0, 1), [step], [""]).known is None


def test_a_step_ends_at_its_first_error_and_the_next_goes_on(target: Target, redis_server: RedisServer) -> None:
    redis_server.client.set("ttl:set:x", "mine")
    steps = steps_of([("s.ttl", Change("s.ttl", "insert", {"id": 1, "a": "x", "b": None}, None))])
    applied = target.apply_fenced(Fence("s", 0, 1), steps, [""] * len(steps))
    assert [steps[number].commands[0][0] for number, _ in applied.errors] == ["SADD"]
    assert "WRONGTYPE" in applied.errors[0][1]
    # A foreign key is not given a time to live.
    assert redis_server.client.ttl("ttl:set:x") == -1
    assert redis_server.client.exists("ttl:h:1", "ttl:j:1", "ttl:v:1") == 2


def test_a_wide_row_fits(target: Target, redis_server: RedisServer) -> None:
    key = b"wide"
    commands = [("HSET", key, *[part for number in range(start, start + 2000) for part in (f"c{number}", "x")]) for start in (0, 2000)]
    (step,) = steps_of([("s.other", Change("s.other", "insert", {"id": 1, "a": "x", "b": "y"}, None))])
    step.commands = commands
    assert target.apply_fenced(Fence("s", 0, 1), [step], [""]).errors == []
    assert redis_server.client.hlen("wide") == 4000
