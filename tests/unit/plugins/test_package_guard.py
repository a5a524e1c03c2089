# SPDX-License-Identifier: GPL-3.0-or-later
"""package_guard: what apt-get and dnf really printed (Debian sid with MySQL 9.7, dnf 4 with MariaDB
10.11), and what is concluded from it.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._packages import (
    SERVERS,
    Plan,
    apt_plan,
    dnf_plan,
    endangered,
    series,
    updated,
)
from ansible_collections.gearsync.mysql_redis.plugins.modules import package_guard
from ansible_collections.gearsync.mysql_redis.plugins.modules.package_guard import Apt, make_plan

COLLECTIONS = str(Path(__file__).resolve().parents[3] / ".collections")

APT_REMOVES_THE_SERVER = """\
Reading package lists...
Building dependency tree...
Reading state information...
Solving dependencies...
The following packages were automatically installed and are no longer required:
  libaio1t64 libedit2 mysql-client mysql-client-core mysql-server-core
Use 'apt autoremove' to remove them.
The following packages will be REMOVED:
  mysql-server
The following NEW packages will be installed:
  gearman-job-server libgearman-dev libmariadb3 mariadb-common
0 upgraded, 17 newly installed, 1 to remove and 0 not upgraded.
Remv mysql-server [9.7.4-2]
Inst mariadb-common (1:11.8.9+ds-4 Debian:unstable [all])
Inst libmariadb3 (1:11.8.9+ds-4 Debian:unstable [amd64])
Inst gearman-job-server (1.1.21+ds-1.1+b1 Debian:unstable [amd64])
Conf libmariadb3 (1:11.8.9+ds-4 Debian:unstable [amd64])
Conf gearman-job-server (1.1.21+ds-1.1+b1 Debian:unstable [amd64])
"""

APT_UPGRADES_THE_SERVER = """\
Inst mariadb-server [1:10.11.6-0+deb12u1] ({version} Debian-Security:12/oldstable-security [amd64]) []
Inst libc6:i386 (2.36-9+deb12u13 Debian:12.12/oldstable [i386])
Conf mariadb-server ({version} Debian-Security:12/oldstable-security [amd64])
"""

DNF_REPLACES_THE_SERVER = """\
Last metadata expiration check: 0:10:07 ago on Mon Nov 23 08:43:16 2026.
Package gperf-3.1-1.el9.x86_64 is already installed.
Dependencies resolved.
========================================================================================================
 Package                                                         Arch    Version     Repository     Size
========================================================================================================
Installing:
 mysql-community-server                                          x86_64  8.4.3-1.el9 @commandline  5.7 k
     replacing  mariadb-server.x86_64 3:10.11.19-1.el9

Transaction Summary
========================================================================================================
Install  1 Package

Total size: 5.7 k
"""

DNF_UPGRADES_THE_SERVER = """\
Dependencies resolved.
================================================================================
 Package             Arch        Version                Repository         Size
================================================================================
Upgrading:
 mariadb-server      x86_64      3:11.4.2-1.el9         @commandline      5.5 k
Installing dependencies:
 a-package-with-a-name-that-is-too-long-for-its-column-and-stands-alone
                     x86_64      1.0-1.el9              appstream         5.5 k

Transaction Summary
================================================================================
Upgrade  1 Package
"""

DNF_REMOVES_THE_SERVER = """\
Dependencies resolved.
================================================================================
 Package             Arch        Version                Repository         Size
================================================================================
Installing:
 conflicting         x86_64      1.0-1.el9              @commandline      5.5 k
Removing dependent packages:
 mariadb-server      x86_64      3:10.11.19-1.el9       @appstream         96 M

Transaction Summary
================================================================================
Install  1 Package
Remove   1 Package
"""

DNF_INSTALLS_A_MODULE = """\
Dependencies resolved.
================================================================================
 Package           Architecture   Version               Repository         Size
================================================================================
Installing group/module packages:
 redis             x86_64         7.0.15-1.el8          appstream         2.5 M
Installing dependencies:
 logrotate         x86_64         3.21.0-1.el8          baseos             55 k
Installing module profiles:
 redis/common
Enabling module streams:
 redis                            6

Transaction Summary
================================================================================
Install  2 Packages
"""

DNF_CONFLICT_OUT = """\
Last metadata expiration check: 0:10:08 ago on Mon Nov 23 08:43:16 2026.
(try to add '--allowerasing' to command line to replace conflicting packages or \
'--skip-broken' to skip uninstallable packages)
"""
DNF_CONFLICT_ERR = """\
Error:
 Problem: problem with installed package mariadb-server-3:10.11.19-1.el9.x86_64
  - package conflicting-1.0-1.el9.x86_64 conflicts with mariadb-server provided by \
mariadb-server-3:10.11.19-1.el9.x86_64
  - conflicting requests
"""

ABORTED = "Operation aborted.\n"


def lost(plan):
    return endangered(plan, SERVERS)


def test_apt_that_removes_the_server_is_refused_with_its_name():
    plan = apt_plan(0, APT_REMOVES_THE_SERVER, "")
    assert plan.installs == ["gearman-job-server", "libmariadb3", "mariadb-common"]
    assert plan.removes == ["mysql-server"]
    assert lost(plan) == ["mysql-server (removed)"]


def test_apt_may_mend_the_server_but_not_move_it_to_another_series():
    same = apt_plan(0, APT_UPGRADES_THE_SERVER.format(version="1:10.11.14-0+deb12u2"), "")
    assert same.installs == ["libc6", "mariadb-server"]
    assert lost(same) == []
    assert updated(same, SERVERS) == [
        "mariadb-server (1:10.11.6-0+deb12u1 would become 1:10.11.14-0+deb12u2)"
    ]
    other = apt_plan(0, APT_UPGRADES_THE_SERVER.format(version="1:11.8.3-0+deb13u1"), "")
    assert lost(other) == ["mariadb-server (1:10.11.6-0+deb12u1 would become 1:11.8.3-0+deb13u1)"]
    assert updated(other, SERVERS) == []
    assert (
        updated(
            apt_plan(
                0, APT_UPGRADES_THE_SERVER.replace("mariadb-server", "libmariadb3").format(version="2"), ""
            ),
            SERVERS,
        )
        == []
    )


@pytest.mark.parametrize(
    "words",
    [
        "E: Unable to locate package nosuch",
        "E: Package 'nosuch' has no installation candidate",
        "E: Package nosuch has no installation candidate",
    ],
)
def test_apt_does_not_know_a_package(words):
    plan = apt_plan(100, "Reading package lists...\n", words + "\n")
    assert plan.unknown == ["nosuch"]
    assert plan.problem == ""


def test_apt_finds_no_way():
    plan = apt_plan(
        100,
        "Reading package lists...\nThe following packages have unmet dependencies:\n a : Depends: b but it "
        "is not installable\n",
        "E: Unable to correct problems, you have held broken packages.\n",
    )
    assert plan.problem.startswith(
        "The following packages have unmet dependencies: a : Depends: b but it is not installable"
    )
    assert "held broken packages" in plan.problem


def test_dnf_that_replaces_the_server_is_refused_with_its_name():
    plan = dnf_plan(1, DNF_REPLACES_THE_SERVER, ABORTED)
    assert plan.installs == ["mysql-community-server"]
    assert lost(plan) == ["mariadb-server (removed)"]
    assert plan.problem == ""


def test_dnf_that_removes_the_server_is_refused_with_its_name():
    plan = dnf_plan(1, DNF_REMOVES_THE_SERVER, ABORTED)
    assert plan.installs == ["conflicting"]
    assert lost(plan) == ["mariadb-server (removed)"]


def test_dnf_upgrade_and_a_name_on_a_line_of_its_own():
    plan = dnf_plan(1, DNF_UPGRADES_THE_SERVER, ABORTED)
    assert plan.installs == [
        "a-package-with-a-name-that-is-too-long-for-its-column-and-stands-alone",
        "mariadb-server",
    ]
    assert plan.changed == {"mariadb-server": ("", "3:11.4.2-1.el9")}
    assert lost(plan._replace(changed={"mariadb-server": ("3:10.11.19", "3:11.4.2-1.el9")})) == [
        "mariadb-server (3:10.11.19 would become 3:11.4.2-1.el9)"
    ]


def test_dnf_profile_of_a_module_is_no_package():
    plan = dnf_plan(1, DNF_INSTALLS_A_MODULE, ABORTED)
    assert plan == (["logrotate", "redis"], [], {}, [], "")


def test_dnf_conflict_is_a_problem_without_the_advice_to_erase():
    plan = dnf_plan(1, DNF_CONFLICT_OUT, DNF_CONFLICT_ERR)
    assert "conflicts with mariadb-server" in plan.problem
    assert "allowerasing" not in plan.problem


def test_dnf_unknown_package_and_repository():
    assert dnf_plan(
        1, "No match for argument: nosuch\n", "Error: Unable to find a match: nosuch\n"
    ).unknown == ["nosuch"]
    assert dnf_plan(1, "", "Error: Unknown repo: 'nosuch'\n").problem == "Error: Unknown repo: 'nosuch'"


def test_dnf_has_nothing_to_do():
    assert dnf_plan(0, "Dependencies resolved.\nNothing to do.\nComplete!\n", "") == Plan([], [], {}, [], "")


@pytest.mark.parametrize(
    "name",
    [
        "mysql-server",
        "mysql-server-core",
        "mysql-server-core-8.0",
        "default-mysql-server",
        "mysql8.4-server",
        "mysql-community-server",
        "mysql-community-server-core",
        "mysql-community-server-minimal",
        "mysql-commercial-server",
        "mysql-cluster-community-server",
        "mariadb-server",
        "mariadb-server-core-10.5",
        "mariadb-server-10.5",
        "mariadb-server-galera",
        "mariadb11.8-server",
        "MariaDB-server",
        "percona-server-server",
        "percona-server-server-5.7",
        "percona-xtradb-cluster-server",
        "Percona-Server-server-57",
    ],
)
def test_servers_are_protected(name):
    assert lost(Plan([], [name], {}, [], "")) == [f"{name} (removed)"]


@pytest.mark.parametrize(
    "name",
    ["mariadb-client", "mysql-common", "libmariadb3", "mysql-router", "redis-server", "not-mysql-server"],
)
def test_other_packages_are_not(name):
    assert lost(Plan([], [name], {}, [], "")) == []


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1:10.11.14-0+deb12u2", "10.11"),
        ("3:10.11.19", "10.11"),
        ("9.7.4-2", "9.7"),
        ("1:11.8.9+ds-4", "11.8"),
        ("8.0.43-0ubuntu0.24.04.2", "8.0"),
    ],
)
def test_series(version, expected):
    assert series(version) == expected


class RealRunner:
    """What the module needs of AnsibleModule, with real processes."""

    def __init__(self):
        self.params = {"install_recommends": False}

    @staticmethod
    def run_command(command, environ_update):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environ_update}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


def stub(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.mark.parametrize("allowed", [False, True])
def test_an_update_of_the_server_is_refused_unless_a_restart_is_allowed(tmp_path, allowed):
    stub(tmp_path / "dpkg-query", "exit 1\n")
    stub(
        tmp_path / "apt-get",
        f"cat <<EOT\n{APT_UPGRADES_THE_SERVER.format(version='1:10.11.14-0+deb12u2')}EOT\n",
    )
    arguments = tmp_path / "arguments.json"
    arguments.write_text(
        json.dumps(
            {
                "ANSIBLE_MODULE_ARGS": {
                    "name": ["libmariadb-dev"],
                    "use": "apt",
                    "allow_server_update": allowed,
                }
            }
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", package_guard.__name__, str(arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": COLLECTIONS},
    )
    result = json.loads(done.stdout)
    assert result.get("failed", False) != allowed
    if not allowed:
        assert "mariadb-server (1:10.11.6-0+deb12u1 would become 1:10.11.14-0+deb12u2)" in result["msg"]
        assert "mysql_restart_allowed" in result["msg"]


@pytest.mark.skipif(not shutil.which("apt-get"), reason="this machine has no apt")
def test_the_real_apt():
    installed, unknown = "bash", "no-such-package-on-any-debian"
    assert make_plan(Apt(RealRunner()), [installed]) == Plan([], [], {}, [], "")
    plan = make_plan(Apt(RealRunner()), [installed, unknown])
    assert plan.unknown == [unknown]
    assert not plan.installs
    assert not plan.removes
    # bash cannot go away, so apt's own simulation of its removal shows the line that apt_plan must see.
    simulated = RealRunner.run_command(
        ["apt-get", "--simulate", "remove", "--allow-remove-essential", installed], {"LC_ALL": "C"}
    )
    assert re.search(r"^Remv bash ", simulated[1], re.MULTILINE)
    assert installed in apt_plan(*simulated).removes
