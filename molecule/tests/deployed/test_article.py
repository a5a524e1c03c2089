# SPDX-License-Identifier: GPL-3.0-or-later
"""The article's way, typed as it stands there, against the deployed hosts."""

from __future__ import annotations

import json

import pytest
from harness.hosts import Host
from harness.waiting import until


def test_the_articles_update_appears_in_redis(host: Host) -> None:
    host.sql("update user_list set name='troy', password='jane';")
    until(lambda: host.redis("get", "name"), "troy")
    host.sql("update user_list set name='hello', password='world';")
    until(lambda: (host.redis("get", "name"), host.redis("get", "password")), ("hello", "world"))


def test_the_articles_own_trigger_works_beside_ours(host: Host) -> None:
    host.sql(
        """
        CREATE TABLE IF NOT EXISTS by_hand (name VARCHAR(64), password VARCHAR(64));
        INSERT INTO by_hand VALUES ('troy', 'jane');
        DELIMITER $$
        CREATE TRIGGER user_list_data_to_redis AFTER UPDATE ON by_hand
          FOR EACH ROW BEGIN
            SET @ret=gman_do_background('syncToRedis',
                udf_json_object(NEW.name as 'name', NEW.password as 'password'));
          END$$
        DELIMITER ;
        """
    )
    try:
        host.sql("update by_hand set name='typed', password='by hand';")
        until(lambda: (host.redis("get", "name"), host.redis("get", "password")), ("typed", "by hand"))
    finally:
        host.sql("DROP TABLE by_hand;")


@pytest.mark.parametrize("function", ["gman_do", "gman_do_high", "gman_do_low"])
def test_a_foreground_job_returns_the_workers_result(host: Host, function: str) -> None:
    assert host.sql(f"SELECT {function}('reverse', 'hello world!');") == "!dlrow olleh"


@pytest.mark.parametrize(
    "function", ["gman_do_background", "gman_do_high_background", "gman_do_low_background"]
)
def test_a_background_job_returns_its_handle(host: Host, function: str) -> None:
    assert host.sql(f"SELECT {function}('reverse', 'x');").startswith("H:")


def test_gman_sum_adds_the_results_of_a_groups_jobs(host: Host) -> None:
    # reverse('12') = 21, reverse('30') = 3
    assert (
        host.sql("SELECT gman_sum('reverse', n) FROM (SELECT '12' AS n UNION ALL SELECT '30') AS numbers;")
        == "24"
    )


def test_no_account_changes_the_job_servers(host: Host) -> None:
    assert "locked" in host.sql("SELECT gman_servers_set('127.0.0.1:1');", ok=False)
    assert "ERROR" in host.sql("SELECT gman_servers_set('127.0.0.1:port');", ok=False)
    assert host.sql("SELECT gman_do('reverse', 'abc');") == "cba"


def test_json_functions_build_valid_json(host: Host) -> None:
    rows = "(SELECT 'troy' AS name, 'p\"w\td' AS password) AS user"
    assert json.loads(host.sql(f"SELECT udf_json_object(name, password) FROM {rows};")) == {
        "name": "troy",
        "password": 'p"w\td',
    }
    assert json.loads(host.sql(f"SELECT udf_json_array(name, password, 1, NULL) FROM {rows};")) == [
        "troy",
        'p"w\td',
        1,
        None,
    ]
    assert json.loads("{" + host.sql("SELECT json_members('a', 1, 'b', 'two');") + "}") == {
        "a": 1,
        "b": "two",
    }
    assert json.loads("[" + host.sql("SELECT json_values(1, 'two', NULL);") + "]") == [1, "two", None]
    # The native function of the same name keeps working; registering ours must not have hidden it.
    assert json.loads(host.sql("SELECT json_object('name', 'troy');")) == {"name": "troy"}
    assert json.loads(host.sql("SELECT json_array(1, 'two');")) == [1, "two"]


def test_the_job_servers_are_still_set_after_a_restart_of_the_database(host: Host) -> None:
    host.run(f"systemctl restart {host.mysql_unit}")
    until(lambda: host.sql("SELECT gman_do('reverse', 'again');", ok=False), "niaga")
    host.sql("update user_list set name='after', password='restart';")
    until(lambda: (host.redis("get", "name"), host.redis("get", "password")), ("after", "restart"))


def test_libgearman_is_found_by_the_loader(host: Host) -> None:
    assert "/usr/local/lib/libgearman.so" in host.run("ldconfig -p")
    assert host.run("/usr/local/bin/gearadmin --server-version") == "1.1.21"
