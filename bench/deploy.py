#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seconds that site.yml takes for one host with everything, and for 1, 4 and 8 database hosts, each with a
source of its own, beside one host with Redis, the job server and the workers: on bare hosts, and once more.

The tests' bare systemd hosts (Debian 12), in containers of this machine: a command reaches them without SSH,
and they share its cores.

usage: bench/deploy.py [--hosts 0 1 4 8]     with the environment of `make setup`
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from servers import ROOT, cleaned_up, machine, scratch

MOLECULE = ROOT / "molecule"
UP, DOWN, ENTER = (MOLECULE / "hosts" / name for name in ("up", "down", "enter"))
IMAGE = "debian12"
SERVICES = "deploy-services"
PASSWORD = "of the benchmark"


class Run(NamedTuple):
    """What one run of ansible-playbook took, and how it left the hosts."""

    seconds: float
    calls: Counter[str]
    changed: int


def source_of(number: int) -> dict[str, Any]:
    """The variables of a database host with a source of its own."""
    host = f"deploy-db{number}"
    return {
        "gearsync_source": f"db{number}",
        "gearsync_worker_mysql": {"host": host, "user": "gearsync", "password": PASSWORD},
        "gearsync_redis": {"host": SERVICES, "db": number, "password": PASSWORD},
        # Direct tables of several sources have functions of their own; that is not what is timed here.
        "gearsync_tables": [
            {
                "table": "shop.customer",
                "columns": ["id", "name", "city"],
                "write": [{"type": "hash", "key": "customer:{id}"}],
            }
        ],
    }


def inventory(number: int) -> dict[str, Any]:
    """The inventory of so many database hosts; of 0, one host with everything."""
    services = SERVICES if number else "deploy-all"
    databases = {f"deploy-db{each}": source_of(each) for each in range(1, number + 1)}
    only: dict[str, Any] = {services: None}
    shared = {
        "mysql_settings": {"bind-address": "0.0.0.0"},
        "redis_bind": ["127.0.0.1", "{{ inventory_hostname }}"],
        "gearmand_listen_address": "0.0.0.0",
        "gearsync_job_servers": [f"{SERVICES}:4730"],
    }
    # At the host: the test hosts' inventory has another one at its groups.
    own = {services: {"redis_password": PASSWORD} if number else None}
    scenario: dict[str, Any] = {"hosts": {**databases, **own}, "vars": shared if number else {}}
    return {
        "scenario": scenario,
        "gearsync_mysql": {"hosts": dict.fromkeys(databases) or only},
        "gearsync_gearmand": {"hosts": only},
        "gearsync_redis": {"hosts": only},
        "gearsync_workers": {"hosts": only},
        "local_archive": {"hosts": dict.fromkeys(scenario["hosts"])},
    }


def counting_enter(directory: Path) -> tuple[Path, Path]:
    """A command that enters a host and notes that it did, and where it notes it."""
    program, log = directory / "enter", directory / "calls"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >>{log}\nexec {ENTER} "$@"\n')
    program.chmod(0o755)
    return program, log


def play(playbook: Path | str, hosts: Path, enter: Path, log: Path) -> Run:
    """Run a playbook, which must pass."""
    log.write_text("")
    command: list[Path | str] = [
        "ansible-playbook",
        "--inventory",
        MOLECULE / "inventory",
        "--inventory",
        hosts,
    ]
    places = {
        "ansible_test_host_enter": str(enter),
        "gearmand_source": f"{{{{ lookup('ansible.builtin.pipe', '{MOLECULE}/hosts/gearmand-archive') }}}}",
        # The first run compiles.
        "gearsync_build_cache": str(hosts.parent / "cache"),
    }
    command += ["--extra-vars", json.dumps(places), playbook]
    env = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    env["ANSIBLE_CONNECTION_PLUGINS"] = str(MOLECULE / "connection")
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        sys.exit(f"{playbook}: exit {done.returncode}\n{done.stdout[-4000:]}{done.stderr}")
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    changed = sum(int(word.partition("=")[2]) for word in recap.split() if word.startswith("changed="))
    return Run(seconds, Counter(log.read_text().split()), changed)


def deploy(number: int) -> tuple[Run, Run]:
    """The first and the second run for so many database hosts, on new hosts that are removed afterwards."""
    directory = scratch(f"deploy{number}")
    layout, hosts = inventory(number), directory / "hosts.json"
    hosts.write_text(json.dumps(layout))
    names = list(layout["scenario"]["hosts"])
    try:
        for name in names:
            subprocess.run([UP, name, IMAGE], check=True, capture_output=True)
        enter, log = counting_enter(directory)
        first = play(MOLECULE / "playbooks/converge.yml", hosts, enter, log)
        return first, play(ROOT / "site.yml", hosts, enter, log)
    finally:
        subprocess.run([DOWN, *names], check=True, capture_output=True)


def row(number: int, first: Run, second: Run) -> str:
    """A row of the table."""
    what = f"{number} database host{'s' if number > 1 else ''}" if number else "one host with everything"
    most = max(second.calls.values())
    return (
        f"| {what} | {first.seconds:.0f} | {second.seconds:.0f} | {second.changed} | "
        f"{sum(second.calls.values())} | {most} |"
    )


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[0, 1, 4, 8], metavar="N")
    options = parser.parse_args(words)
    with cleaned_up():
        print(machine())
        print("| | first run (s) | second run (s) | changed by it | its remote calls | most on one host |")
        print("|---|---|---|---|---|---|", flush=True)
        for number in options.hosts:
            print(row(number, *deploy(number)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
