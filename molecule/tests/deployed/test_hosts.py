# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles leave on a host: services, listening addresses, users, files and their modes."""

from __future__ import annotations

import re

import pytest
from harness.hosts import SECRET, Host
from harness.places import ROOT


def test_neither_compiler_nor_headers_are_left(host: Host) -> None:
    left = host.run(
        "command -v cc gcc g++ make gperf autoconf mariadb_config mysql_config || true; "
        "find /usr/include -name mysql.h -o -name event.h; ls /var/cache/gearsync 2>/dev/null || true"
    )
    assert left == ""


def test_the_worker_has_the_releases_of_the_lock_and_nothing_else(host: Host) -> None:
    installed = set(
        host.run("/opt/gearsync/venv/bin/pip list --format freeze").lower().replace("_", "-").split()
    )
    lock = (ROOT / "roles/worker/files/requirements.lock").read_text(encoding="utf-8")
    pinned = {line.split(" ")[0] for line in lock.splitlines() if "==" in line}
    # What an environment has when it is new; pkg_resources in one of Debian 11.
    new = ("pip==", "setuptools==", "wheel==", "pkg-resources==")
    others = {each for each in installed - pinned if not each.startswith(new)}
    assert {each.split("==")[0] for each in others} == {"gearsync"}


@pytest.mark.parametrize("unit", ["gearmand", "worker"])
def test_the_services_run_unprivileged_and_restart_always(host: Host, unit: str) -> None:
    name = host.worker if unit == "worker" else unit
    shown = dict(
        line.split("=", 1)
        for line in host.run(
            f"systemctl show {name} --property "
            "ActiveState,SubState,UnitFileState,Restart,User,NoNewPrivileges,ProtectSystem,Type,WatchdogUSec,NRestarts"
        ).splitlines()
    )
    assert (shown["ActiveState"], shown["SubState"], shown["UnitFileState"]) == (
        "active",
        "running",
        "enabled",
    )
    assert shown["Restart"] == "always"
    assert shown["User"] not in ("", "root")
    assert shown["NoNewPrivileges"] == "yes"
    assert shown["ProtectSystem"] == "strict"
    assert shown["NRestarts"] == "0"
    if unit == "worker":
        assert shown["Type"] == "notify"
        assert shown["WatchdogUSec"] not in ("0", "infinity")


@pytest.mark.parametrize("unit", ["gearmand", "worker"])
def test_the_services_run_with_an_exposure_of_1_3_at_most(host: Host, unit: str) -> None:
    name = host.worker if unit == "worker" else unit
    assert host.is_active(name)
    # Of the loaded unit, with its drop-ins.
    found = re.search(
        r"Overall exposure level for .*: ([0-9.]+)", host.run(f"systemd-analyze security --no-pager {name}")
    )
    assert found is not None
    assert float(found.group(1)) <= 1.3


@pytest.mark.parametrize("unit", ["gearmand", "worker"])
def test_the_services_have_limits_and_the_operators_drop_in(host: Host, unit: str) -> None:
    name = host.worker if unit == "worker" else unit
    shown = host.run(f"systemctl show {name} --property MemoryMax,LimitNOFILE,Environment").splitlines()
    assert "MemoryMax=infinity" not in shown
    assert "LimitNOFILE=infinity" not in shown
    # molecule/inventory/group_vars/scenario.yml sets it.
    assert f"Environment=GEARSYNC_TEST_DROP_IN={unit}" in shown


def test_gearmand_and_redis_listen_on_loopback_only(host: Host) -> None:
    listening = [line.split()[3] for line in host.run("ss -H -ltn").splitlines()]
    for port in ("4730", "6379"):
        addresses = {address.rsplit(":", 1)[0] for address in listening if address.endswith(f":{port}")}
        assert addresses, f"nothing listens on {port}"
        assert addresses <= {"127.0.0.1", "[::1]"}, listening


def test_the_workers_configuration_is_readable_by_its_group_only(host: Host) -> None:
    assert host.run(f"stat -c '%a %U %G' /etc/gearsync/{host.source}.yml") == "640 root gearsync"


def test_the_secret_can_be_read_by_root_and_not_by_others(host: Host) -> None:
    search = (
        f"grep -rslF -e '{SECRET}' /etc /opt /usr/local /var/lib /var/log /tmp /home /run/systemd "
        "2>/dev/null || true"
    )
    assert f"/etc/gearsync/{host.source}.yml" in host.run(search)
    assert host.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups {search}") == ""


def test_the_secret_stands_neither_in_the_process_list_nor_in_the_journal(host: Host) -> None:
    assert SECRET not in host.run("ps axeww -o args")
    assert SECRET not in host.run("journalctl --no-pager")


def test_the_triggers_definer_is_locked_and_has_only_the_rights_it_needs(host: Host) -> None:
    definers = set(
        host.sql(
            "SELECT DISTINCT definer FROM information_schema.triggers WHERE trigger_name LIKE 'gearsync%';"
        ).splitlines()
    )
    assert len(definers) == 1
    user, address = definers.pop().split("@")
    assert user not in ("root", "")
    grants = host.sql(f"SHOW GRANTS FOR '{user}'@'{address}';").splitlines()
    for grant in grants:
        assert " ALL PRIVILEGES " not in grant
        assert " SUPER" not in grant
        assert "USAGE ON *.*" in grant or " ON *.*" not in grant
    assert "ACCOUNT LOCK" in host.sql(f"SHOW CREATE USER '{user}'@'{address}';")
