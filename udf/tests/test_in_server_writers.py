# SPDX-License-Identifier: GPL-2.0-or-later
"""A job server that is killed or hangs, and what writers notice whose triggers submit jobs to it."""

from __future__ import annotations

import json
import signal
import threading
import time

from fake_server import FakeServer
from gman_calls import BOUND
from harness.gearmand import Gearmand
from harness.waiting import until
from udf_servers import HOST, Database, Session

HAMMER = """
CREATE PROCEDURE hammer(own int, seconds int)
BEGIN
  DECLARE began, t datetime(6);
  DECLARE writes, worst int DEFAULT 0;
  SET began = SYSDATE(6);
  REPEAT
    SET t = SYSDATE(6);
    UPDATE accounts SET balance = balance + 1 WHERE id = own;
    SET worst = GREATEST(worst, TIMESTAMPDIFF(MICROSECOND, t, SYSDATE(6))), writes = writes + 1;
  UNTIL SYSDATE(6) > began + INTERVAL seconds SECOND END REPEAT;
  SELECT writes, worst;
END
"""


def prepare_hammer(sql: Session, rows: int) -> None:
    sql.all("CREATE TABLE accounts (id int PRIMARY KEY, balance int) ENGINE=InnoDB")
    sql.all(f"INSERT INTO accounts SELECT seq, 0 FROM numbers WHERE seq <= {rows}")
    sql.all(
        "CREATE TRIGGER accounts_au AFTER UPDATE ON accounts FOR EACH ROW SET @h = "
        "gman_do_background('balance', udf_json_object(NEW.id, NEW.balance))"
    )
    sql.all(HAMMER)


def hammer(database: Database, connections: int, seconds: int) -> list[tuple[int, int]]:
    """Writes and the worst time (us) of each connection; an SQL error becomes an exception."""
    results: list[tuple[int, int]] = []
    errors: list[BaseException] = []

    def work(own: int) -> None:
        try:
            session = Session(database)
            session.all("USE test")
            results.append(session.row(f"CALL hammer({own}, {seconds})"))
            session.connection.close()
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(own + 1,)) for own in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[:3]
    return results


def test_64_writers_while_gearmand_is_killed_and_restarted_20_times(
    sql: Session, database: Database, own_gearmand: Gearmand
) -> None:
    """No write fails, is lost, or waits for a job server."""
    prepare_hammer(sql, 64)
    sql.all("SELECT gman_servers_set(%s), gman_configure('breaker_retry_ms', 100)", own_gearmand.address)
    before = database.descriptors()

    def unrest() -> None:
        for _ in range(20):
            time.sleep(0.2)
            own_gearmand.stop(signal.SIGKILL)
            time.sleep(0.05)
            own_gearmand.start()

    thread = threading.Thread(target=unrest)
    thread.start()
    results = []
    while thread.is_alive():
        results += hammer(database, 64, 2)
    thread.join()
    assert database.alive()
    assert sql.one("SELECT SUM(balance) FROM accounts") == sum(row[0] for row in results)
    assert max(row[1] for row in results) < BOUND * 1e6
    # By then each connection has seen the server running and stopped.
    until(lambda: sql.one("SELECT gman_do_background('balance', '')"))
    state = json.loads(str(sql.one("SELECT gman_stats()")))
    assert state["servers"][0]["jobs_sent"] > 64
    assert state["servers"][0]["reconnects"] >= 1
    sql.all("SELECT gman_configure('pool_idle_ms', 100)")
    time.sleep(0.2)
    until(lambda: (sql.one("SELECT gman_stats()"), database.descriptors() <= before)[1])


def test_server_that_never_answers_hardly_slows_writes(sql: Session, database: Database) -> None:
    """One timeout, and then only probes for which no write waits. (What that does to the mean is measured
    in bench/.)
    """
    prepare_hammer(sql, 1)
    with FakeServer("silent", host=HOST) as silent:
        sql.all(
            "SELECT gman_servers_set(%s), gman_configure('io_timeout_ms', 250), "
            "gman_configure('breaker_retry_ms', 20)",
            silent.address,
        )
        _, first = hammer(database, 1, 1)[0]
        sql.all("SELECT gman_configure('io_timeout_ms', 60000)")
        _, worst = hammer(database, 1, 1)[0]
        state = json.loads(str(sql.one("SELECT gman_stats()")))["servers"][0]
    assert first >= 250_000
    assert worst < BOUND * 1e6
    assert (state["breaker_openings"], state["jobs_sent"]) == (1, 1)
    assert state["refused"] > 0
