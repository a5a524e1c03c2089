# SPDX-License-Identifier: GPL-3.0-or-later
"""How the role changes and locks settings and job servers, in a running server and for its next start."""

import json

import pytest
from harness.gearmand import Gearmand
from harness.modules import GEARMAN_LIBRARY
from harness.playbook import LOCAL, run_plays


def stats(database):
    return json.loads(database.execute("SELECT gman_stats()")[0][0])


@pytest.fixture
def configure(database, gearman, modules, tmp_path):
    """Run the role's part that configures the functions: (number of tasks that changed something, output)."""

    def run(*options, ok=True, **variables):
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "module_defaults": {
                "group/gearsync.mysql_redis.mysql": database.login,
                "community.mysql.mysql_query": database.login,
            },
            "tasks": [
                {"include_role": {"name": "gearsync.mysql_redis.mysql_udf", "tasks_from": "configure"}}
            ],
            "vars": {
                **LOCAL,
                "mysql_udf_job_servers": [gearman.address],
                "mysql_udf_settings": {"io_timeout_ms": 50000},
                "__mysql_udf_socket": database.socket,
                "__mysql_udf_about": {"init_file": "", "datadir": str(tmp_path)},
                "__mysql_udf_facts": {"init_file": str(tmp_path / "init.sql"), "drop_in_dir": str(tmp_path)},
                "__mysql_udf_user_init_file": "",
                "ansible_managed": "managed",
                **variables,
            },
        }
        done = run_plays(tmp_path, {"all": {"hosts": {"localhost": {}}}}, [play], *options)
        assert (done.status == 0) == ok, done.output
        return done.recap("changed")["localhost"], done.output

    yield run
    modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, state="absent", force=True)


def test_settings_and_job_servers_of_locked_functions_are_changed_by_a_run(
    database, gearman, configure, tmp_path
):
    assert configure()[0] > 0
    before = stats(database)
    assert (before["settings"]["locked"], before["settings"]["io_timeout_ms"]) == ("on", 50000)
    lines = (tmp_path / "init.sql").read_text().splitlines()
    assert lines[-2:] == [
        f"DO gman_servers_set('{gearman.address}');",
        "DO gman_configure('locked', 'on');",
    ]
    assert configure()[0] == 0
    assert configure("--check", mysql_udf_settings={"io_timeout_ms": 50001})[0] > 0
    assert stats(database)["settings"] == before["settings"]
    with Gearmand() as second:
        servers = [gearman.address, second.address]
        settings = {"io_timeout_ms": 50001}
        configure(mysql_udf_settings=settings, mysql_udf_job_servers=servers)
        after = stats(database)
        assert after["settings"] == {**before["settings"], "io_timeout_ms": 50001}
        assert after["server_lists"] == {"": ",".join(servers)}
        assert configure(mysql_udf_settings=settings, mysql_udf_job_servers=servers)[0] == 0


@pytest.mark.long
def test_a_setting_that_is_no_longer_wanted_gets_its_default_at_once_and_at_the_next_start(
    database, configure, tmp_path
):
    configure(mysql_udf_settings={"io_timeout_ms": 50000, "background_errors": "error"})
    removed = {"mysql_udf_settings": {"io_timeout_ms": 50000}}
    assert configure("--check", **removed)[0] > 0
    assert stats(database)["changed_settings"] == ["io_timeout_ms", "background_errors", "locked"]
    configure(**removed)
    assert stats(database)["changed_settings"] == ["io_timeout_ms", "locked"]
    assert stats(database)["settings"]["background_errors"] == "null"
    assert "background_errors" not in (tmp_path / "init.sql").read_text()
    assert configure(**removed)[0] == 0


@pytest.mark.long
def test_settings_stay_open_where_that_is_wanted(database, configure, tmp_path):
    configure()
    configure(mysql_udf_locked=False)
    assert stats(database)["settings"]["locked"] == "off"
    assert "locked" not in (tmp_path / "init.sql").read_text()
    assert configure(mysql_udf_locked=False)[0] == 0
    configure()
    assert stats(database)["settings"]["locked"] == "on"


def test_settings_are_locked_when_the_run_that_changes_them_fails(database, gearman, configure):
    configure()
    configure(mysql_udf_job_servers=["127.0.0.1:1"], ok=False)
    after = stats(database)
    assert (after["settings"]["locked"], after["server_lists"]) == ("on", {"": gearman.address})
