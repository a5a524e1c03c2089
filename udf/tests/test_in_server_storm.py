# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile SQL of an account without any right, while others write: no write fails, loses its job or waits.

GEARSYNC_TEST_STORM is the number of seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

import pytest
from gman_calls import BOUND
from harness.gearmand import Gearmand
from harness.storm import TABLE, Attackers, writing
from harness.waiting import until
from udf_servers import HOST, Database, Session

SECONDS = float(os.environ.get("GEARSYNC_TEST_STORM", "4"))


@pytest.mark.timeout(SECONDS + 900)
def test_no_write_notices_a_storm_of_hostile_sql(
    sql: Session, database: Database, own_gearmand: Gearmand
) -> None:
    sql.all("DROP USER IF EXISTS guest@localhost; CREATE USER guest@localhost")
    for statement in TABLE:
        sql.all(statement)
    # A write whose job is not accepted fails; one that waits for a timeout takes a minute.
    sql.all("SELECT gman_servers_set(%s)", own_gearmand.address)
    for name, value in (("background_errors", "error"), ("job_timeout_ms", 86_400_000), ("locked", "on")):
        sql.all("SELECT gman_configure(%s, %s)", name, value)
    before = json.loads(str(sql.one("SELECT gman_stats()")))
    with socket.create_server((HOST, 0)) as other:
        with (
            writing(database.connect) as writers,
            Attackers(database.connect, other.getsockname()[1]) as attackers,
        ):
            until(lambda: all(attackers.done))
            time.sleep(SECONDS)
        other.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(f"the server connected to another service: {other.accept()}")
    assert [one.error for one in writers if one.error] == []
    assert all(one.took for one in writers)
    assert max(max(one.took) for one in writers) < BOUND
    after = json.loads(str(sql.one("SELECT gman_stats()")))
    assert (after["settings"], after["server_lists"]) == (before["settings"], before["server_lists"])
    assert after["servers"][0]["breaker_openings"] == 0
    assert database.alive()
    print(f"{sum(attackers.done)} hostile statements, {sum(len(one.took) for one in writers)} writes")
    sql.all("DROP USER guest@localhost")
    # The library is unloaded, and so unlocked, with the last session that has used it.
    until(lambda: sql.one("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND <> 'Daemon'"), 1)
