# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook is killed at random moments while applications write: the next run ends with a working
pipeline, and no write has failed.
"""

from __future__ import annotations

import json
import os
import random
import time

import pytest
from harness.hosts import Host, Playbooks, recap
from harness.writing import DEADLOCK, equal, writing

KILLS = int(os.environ.get("GEARSYNC_TEST_KILLED_RUNS", "10"))
#: What a run changes of a deployed host: the worker, its shards, the functions' settings and the triggers.
CHANGED = json.dumps(
    {
        "worker_batch": 500,
        "gearsync_shards": 6,
        "mysql_udf_settings": {"connect_timeout_ms": 9000, "io_timeout_ms": 30000},
        "gearsync_tables": [
            {
                "table": "shop.customer",
                "columns": ["id", "name", "city"],
                "write": [
                    {"type": "hash", "key": "customer:{id}"},
                    {"type": "set", "key": "customer:by-city:{city}", "member": "{id}"},
                ],
            }
        ],
    }
)


def changed_by(playbooks: Playbooks, host: Host, playbook: str = "site.yml", *options: str) -> int:
    """How much a run that must pass has changed on the host."""
    status, output = playbooks.run(playbook, "--limit", host.name, *options)
    assert status == 0, output
    return recap(output)[host.name]["changed"]


def tear_down(playbooks: Playbooks, host: Host) -> None:
    """A host without the pipeline. What is deleted without it stays in Redis, so that is emptied."""
    changed_by(playbooks, host, "playbooks/teardown.yml", "--extra-vars", "gearsync_confirm=yes")
    host.redis("flushall")


# A run takes minutes, and each kill needs three of them.
@pytest.mark.timeout(7200)
def test_a_run_that_is_killed_is_finished_by_the_next_one(host: Host, playbooks: Playbooks) -> None:
    chance = random.Random(host.name)
    tear_down(playbooks, host)
    with writing(host, python="python3", tolerated=[DEADLOCK]) as written:
        began = time.monotonic()
        changed_by(playbooks, host)
        seconds = time.monotonic() - began
        for number in range(KILLS):
            # One after the other: a host without the pipeline, and one whose pipeline is changed.
            if number % 2 == 0:
                tear_down(playbooks, host)
            options = ("--extra-vars", CHANGED) if number % 2 else ()
            moment = chance.uniform(0.1, 1) * seconds / (1 + number % 2)
            killed = playbooks.run_and_kill("site.yml", "--limit", host.name, *options, seconds=moment)
            print(f"{host.name}: killed after {moment:.0f} s" if killed else f"{host.name}: had ended")
            changed_by(playbooks, host)
            equal(host)
    assert written["refused"] == []
    assert changed_by(playbooks, host) == 0
    changed_by(playbooks, host, "playbooks/smoke.yml")
