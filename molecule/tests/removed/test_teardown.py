# SPDX-License-Identifier: GPL-3.0-or-later
"""After teardown.yml: the data is there, and nothing else of the pipeline."""

from __future__ import annotations

from harness.hosts import Host, Playbooks, names, recap


def test_the_tables_and_redis_keys_are_still_there(host: Host) -> None:
    assert host.sql("SELECT COUNT(*) FROM user_list;") == "1"
    assert host.redis("exists", "name") == "1"


def test_writes_still_work(host: Host) -> None:
    host.sql("UPDATE user_list SET name = 'after', password = 'teardown';")
    assert host.sql("SELECT name, password FROM user_list;") == "after\tteardown"


def test_no_trigger_function_or_account_is_left(host: Host) -> None:
    assert (
        host.sql("SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_name LIKE 'gearsync%';")
        == "0"
    )
    assert (
        host.sql(
            "SELECT COUNT(*) FROM mysql.func WHERE dl IN ('libgearman_mysql_udf.so', 'lib_mysqludf_json.so');"
        )
        == "0"
    )
    assert host.sql("SELECT COUNT(*) FROM mysql.user WHERE user LIKE 'gearsync%';") == "0"


def test_no_unit_file_or_user_is_left(host: Host) -> None:
    assert not host.is_active("gearmand")
    assert host.run("systemctl cat gearmand.service 2>&1 || true").startswith("No files found")
    assert host.run("systemctl list-units --all --plain --no-legend 'gearsync-*'") == ""
    left = host.run(
        "find /etc /opt /usr/local /usr/lib64 /usr/lib/mysql /var/lib ( -iname '*gearsync*' -o -iname "
        "'*gearman*' -o -iname '*mysqludf*' )"
        " -not -path '/usr/lib/rehearsal/*' -not -name '*.pid' 2>/dev/null | sort || true".replace(
            "(", "\\("
        ).replace(")", "\\)")
    )
    assert left == ""
    for user in ("gearsync", "gearmand"):
        assert host.run(f"getent passwd {user} || true") == ""


def test_the_database_starts_without_what_was_removed(host: Host) -> None:
    unit = host.mysql_unit
    host.run(f"systemctl restart {unit}")
    assert host.is_active(unit)


def test_a_second_teardown_changes_nothing(playbooks: Playbooks) -> None:
    status, output = playbooks.run("playbooks/teardown.yml", "--extra-vars", "gearsync_confirm=yes")
    assert status == 0, output
    for name in names():
        assert recap(output)[name]["changed"] == 0, output
