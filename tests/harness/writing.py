# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers inside a deployed test host, and whether both sides are equal after them."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Collection, Iterator

from harness.hosts import ENTER, Host

GEARSYNC = "/opt/gearsync/venv/bin/gearsync"
#: The server is gone.
AWAY = (0, 1053, 2003, 2006, 2013, 2014)
LOCK_WAIT_TIMEOUT = 1205
#: Two writers have met.
DEADLOCK = 1213
# Runs inside the host until its stdin ends; prints the statements done and the longest one, in seconds, per
# writer.
WRITERS = """
import json, random, sys, threading, time
import pymysql
stop, done, worst, refused, tolerated = threading.Event(), [0] * 8, [0.0] * 8, [], json.loads(sys.argv[2])
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
            if error.args[0] not in tolerated:
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
def writing(
    host: Host,
    python: str = "/opt/gearsync/venv/bin/python",
    tolerated: Collection[int] = (*AWAY, LOCK_WAIT_TIMEOUT, DEADLOCK),
) -> Iterator[dict[str, object]]:
    """Eight writers on the host; what they have done is there afterwards. ``python``: one of the host's with
    PyMySQL. ``tolerated``: the errors after which a write is made again, that are not counted as refused.
    """
    answer: dict[str, object] = {}
    socket = host.run("ls /run/mysqld/mysqld.sock")
    process = subprocess.Popen(
        [str(ENTER), host.name, python, "-c", WRITERS, socket, json.dumps(list(tolerated))],
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
