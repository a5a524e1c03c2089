#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""All figures of docs/performance.md: this project beside its peers, and beside its neighbours on the
database.

usage: make bench, or bench/performance.py with the environment of tests/setup bench; alone on the machine

Each system gets new servers and does the works of peers/works.py; then come the figures of neighbours.py. The
results are kept in .work/bench/results.json; docs/performance.md, its plots and the figures in README.md are
written from them, by --write alone from those of the last run. The exit status is 1 when a bar was missed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import neighbours
import plots
import report
from peers.debezium import Debezium
from peers.gearsync import Gearsync
from peers.go_mysql_transfer import GoMysqlTransfer
from peers.maxwell import Maxwell
from peers.peer import Failed, Peer
from peers.python_mysql_replication import PythonMysqlReplication
from peers.works import WORKS, run
from servers import ROOT, cleaned_up, machine

WORK = ROOT / ".work/peers"
RESULTS = ROOT / ".work/bench/results.json"
#: In the order of the table. Those that are built from a clone run when one is named.
PEERS: tuple[type[Peer], ...] = (Gearsync, Debezium, PythonMysqlReplication, Maxwell, GoMysqlTransfer)
FROM_CLONES: tuple[type[Peer], ...] = (Maxwell, GoMysqlTransfer)


def say(line: str) -> None:
    print(f"{datetime.datetime.now().astimezone():%T}  {line}", flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything that is asked for."""
    sources = {kind: getattr(options, kind.name.replace("-", "_")) for kind in FROM_CLONES}
    peers = [
        kind(WORK, sources.get(kind) or "")
        for kind in PEERS
        if kind is Gearsync
        or (kind.name in options.peers.split(",") if options.peers else kind not in sources or sources[kind])
    ]
    results: dict[str, Any] = {
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}",
        "machine": machine(),
        "cores": os.cpu_count(),
        "seconds": options.seconds,
        "command": options.command or shlex.join(["bench/performance.py", *sys.argv[1:]]),
        "peers": {},
    }
    say(results["machine"])
    for peer in peers:
        peer.install()
    for peer in peers:
        with cleaned_up():
            results["peers"][peer.name] = run(peer, options.seconds, options.works.split(","), say)
        save(results)
    if options.rows:
        with cleaned_up():
            results["neighbours"] = neighbours.run(WORK, options.seconds * 2, options.rows, say)
        save(results)
    return results


def save(results: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def write(results: dict[str, Any], directory: Path) -> None:
    """Write docs/performance.md, its plots, and the figures in README.md, below a directory that is laid
    out like the project.
    """
    (directory / "docs/performance.md").write_text(report.page(results))
    plots.write(results, directory / "docs")
    readme = directory / "README.md"
    readme.write_text(report.readme(readme.read_text(), results))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ",".join(kind.name for kind in PEERS[1:])
    parser.add_argument(
        "--peers",
        default="",
        help=f"beside ours, of {names} (default: those that need no clone, or whose clone is named)",
    )
    parser.add_argument("--works", default=",".join(WORKS), help="default: %(default)s")
    parser.add_argument(
        "--seconds",
        type=float,
        default=30,
        help="of 500 commits a second; the other works in proportion (default: %(default)g)",
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=3_000_000,
        help="drained under a snapshot beside neighbours; 0: no neighbours (default: %(default)d)",
    )
    parser.add_argument("--maxwell", metavar="CLONE", help="a clone or git directory of zendesk/maxwell")
    parser.add_argument(
        "--go-mysql-transfer", metavar="CLONE", help="a clone or git directory of wj596/go-mysql-transfer"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="measure nothing: write the pages from the results of the last run",
    )
    parser.add_argument("--no-write", action="store_true", help="leave the pages as they are")
    parser.add_argument("--command", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [work for work in options.works.split(",") if work not in WORKS]:
        parser.error(f"no such work: {', '.join(unknown)}")
    try:
        results = json.loads(RESULTS.read_text()) if options.write else measure(options)
    except Failed as error:
        parser.exit(2, f"{error}\n")
    if not options.no_write:
        write(results, ROOT)
    print("\n".join(report.table(results)), end="\n\n")
    missed = report.missed(results)
    print("\n".join(["missed:", *missed]) if missed else "all bars are passed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
