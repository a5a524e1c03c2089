#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dead job server costs the writers: 1,000 single-row UPDATEs through a direct trigger, gearmand
running and stopped in turn.

usage: bench/outage.py [HOST]     HOST is a deployed test host (default gearsync-demo, as `make demo` leaves
it)

Prints each round, the medians and their ratio. Every statement must succeed in both states, or the run ends
with an error.
"""

from __future__ import annotations

import pathlib
import platform
import statistics
import subprocess
import sys
import time

PODMAN = pathlib.Path(__file__).resolve().parent.parent / "molecule/hosts/podman"
UPDATES = 1000
ROUNDS = 5
BAR = 1.5


def on_host(host: str, *command: str, stdin: str = "") -> str:
    """Output of ``command`` on ``host``; its failure raises CalledProcessError."""
    return subprocess.run(
        [PODMAN, "exec", "--interactive", host, *command],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def seconds_for_updates(host: str, mark: str) -> float:
    """Seconds that the server needs for the updates; measured on the host, without the time to start a
    client.
    """
    updates = "".join(
        f"UPDATE test.user_list SET name = '{mark}{number}', password = '{mark}{number}';\n"
        for number in range(UPDATES)
    )
    clock = "SELECT CONCAT('clock ', UNIX_TIMESTAMP(SYSDATE(6)));\n"
    output = on_host(host, "mysql", "--batch", "--skip-column-names", stdin=clock + updates + clock)
    first, last = (float(line.split()[1]) for line in output.splitlines() if line.startswith("clock "))
    return last - first


def main() -> int:
    host = sys.argv[1] if len(sys.argv) > 1 else "gearsync-demo"
    version = on_host(host, "mysql", "--batch", "--skip-column-names", "--execute", "SELECT VERSION()")
    print(f"{host}: {version}, {platform.machine()}, {UPDATES} UPDATEs a round, {ROUNDS} rounds each")
    times: dict[str, list[float]] = {"running": [], "stopped": []}
    try:
        for number in range(ROUNDS):
            for state, action in (("running", "start"), ("stopped", "stop")):
                on_host(host, "systemctl", action, "gearmand")
                # Past the breaker's retry interval, so that each state is measured as it lasts and not as it
                # begins.
                time.sleep(2)
                times[state].append(seconds_for_updates(host, f"{state}{number}-"))
                print(f"  round {number + 1} {state}: {times[state][-1]:.3f} s")
    finally:
        on_host(host, "systemctl", "start", "gearmand")
    running, stopped = (statistics.median(times[state]) for state in ("running", "stopped"))
    print(
        f"median running {running:.3f} s, stopped {stopped:.3f} s, ratio stopped/running "
        f"{stopped / running:.2f} (bar {BAR})"
    )
    return 0 if stopped <= running * BAR else 1


if __name__ == "__main__":
    sys.exit(main())
