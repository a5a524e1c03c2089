# SPDX-License-Identifier: GPL-3.0-or-later
"""Each part is away for a minute, or dies at once, while eight writers write; afterwards both sides are
equal with no one's help.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from harness.hosts import ENTER, SECRET, Host
from harness.waiting import until

SECONDS = float(os.environ.get("GEARSYNC_FAULT_SECONDS", "60"))
GEARSYNC = "/opt/gearsync/venv/bin/gearsync"
# Runs inside the host until its stdin ends; prints the statements done and the longest one, in seconds, per
# writer.
WRITERS = """
import json, random, sys, threading, time
import pymysql
stop, done, worst, refused = threading.Event(), [0] * 8, [0.0] * 8, []
def write(own):
    chance, connection = random.Random(own), None
    while not stop.is_set():
        row = chance.randrange(1, 500)
        statements = [
            f"UPDATE shop.customer SET city = 'c{chance.randrange(9)}', balance = balance + 1"
            f" WHERE id = {row}",
            f"REPLACE INTO shop.customer (id, name, city) VALUES ({row}, 'r{own}', 'x')",
            f"DELETE FROM shop.customer WHERE id = {row}",
            f"UPDATE IGNORE shop.customer SET id = id + 1 WHERE id = {row}",
        ]
        try:
            if connection is None:
                connection = pymysql.connect(unix_socket=sys.argv[1], user="root", autocommit=False)
            began = time.monotonic()
            with connection.cursor() as cursor:
                for statement in chance.sample(statements, 2):
                    cursor.execute(statement)
            connection.rollback() if chance.random() < 0.3 else connection.commit()
            worst[own] = max(worst[own], time.monotonic() - began)
            done[own] += 1
        except (pymysql.err.OperationalError, pymysql.err.InterfaceError) as error:
            # The server is gone, or two writers have met in a deadlock.
            if error.args[0] not in (0, 1053, 1205, 1213, 2003, 2006, 2013, 2014):
                refused.append(str(error))
            connection = None
            time.sleep(0.1)
        except pymysql.MySQLError as error:
            refused.append(str(error))
        time.sleep(0.01)
threads = [threading.Thread(target=write, args=(own,)) for own in range(8)]
[thread.start() for thread in threads]
sys.stdin.read()
stop.set()
[thread.join() for thread in threads]
print(json.dumps({"done": sum(done), "least": min(done), "worst": max(worst), "refused": refused[:5]}))
"""


@contextlib.contextmanager
def writing(host: Host) -> Iterator[dict[str, object]]:
    """Eight writers on the host; what they have done is there afterwards."""
    answer: dict[str, object] = {}
    socket = host.run("ls /run/mysqld/mysqld.sock")
    process = subprocess.Popen(
        [str(ENTER), host.name, "/opt/gearsync/venv/bin/python", "-c", WRITERS, socket],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield answer
    finally:
        output, errors = process.communicate("", timeout=120)
    assert process.returncode == 0, errors
    answer.update(json.loads(output))


def equal(host: Host) -> None:
    """Both sides hold the same, once everything that was committed is drained."""
    assert "is in Redis" in host.run(f"{GEARSYNC} barrier --timeout 90")
    assert "equal" in host.run(f"{GEARSYNC} verify --table shop.customer")


def redis_unit(host: Host) -> str:
    return host.run(
        "for u in redis-server redis valkey-server valkey; do systemctl is-active --quiet $u && echo $u && "
        "break; done"
    )


@pytest.mark.parametrize("part", ["gearmand", "redis", "worker"])
def test_a_part_may_be_away(host: Host, part: str) -> None:
    unit = redis_unit(host) if part == "redis" else part
    with writing(host) as written:
        time.sleep(2)
        host.run(f"systemctl stop {unit}")
        time.sleep(SECONDS)
        host.run(f"systemctl start {unit}")
        time.sleep(2)
    assert written["refused"] == []
    equal(host)


def test_the_database_server_may_be_killed(host: Host) -> None:
    unit = host.mysql_unit
    with writing(host) as written:
        for _number in range(3):
            time.sleep(3)
            host.run(f"systemctl kill --signal=KILL {unit}")
            time.sleep(1)
            host.run(f"systemctl start {unit}")
            until(lambda: host.sql("SELECT 1;", ok=False), "1")
    assert written["refused"] == []
    equal(host)


def test_the_worker_may_be_killed_and_paused(host: Host) -> None:
    with writing(host):
        for number in range(6):
            time.sleep(1)
            host.run(f"systemctl kill --signal={'KILL' if number % 2 else 'STOP'} {host.worker}")
            time.sleep(2 if number % 2 else 12)
            host.run(f"systemctl kill --signal=CONT {host.worker} || true; systemctl start {host.worker}")
    equal(host)


def test_no_secret_has_come_to_the_journal(host: Host) -> None:
    assert SECRET not in host.run(f"journalctl --no-pager --unit {host.worker}")
