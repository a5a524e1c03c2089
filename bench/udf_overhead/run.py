#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trigger with our functions adds to an INSERT, beside one in the manner of the libraries that ours
replaces.

Starts a private MariaDB with the durability of a primary (--relaxed: without) and a gearmand. Measures every
shape in turn in many short rounds, and takes the median of the rounds, so that other work on the machine hits
all shapes alike. Needs the environment of tests/setup bench and libgearman-dev. Takes about four minutes with
its defaults, two with --silent 60, and one with --restarts 20.

    bench/udf_overhead/run.py [--rounds 12] [--seconds 0.4] [--json FILE] bench/udf_overhead/run.py --silent
    60    writes while the job server accepts connections and never answers bench/udf_overhead/run.py
    --restarts 20  writes of 64 connections while the job server is killed and started again
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from servers import ROOT, Database, Gearmand, arguments, cleaned_up, machine

UDF = ROOT / "udf"

PAYLOAD = "JSON_OBJECT('id', NEW.id, 'name', NEW.name, 'password', NEW.password)"
TRIGGERS = {
    "no trigger": "",
    "a trigger that does nothing": "DO 1",
    "a libgearman client per call": "DO shape_do_background({port}, 'bench', " + PAYLOAD + ")",
    "gman_do_background": "DO gman_do_background('bench', " + PAYLOAD + ")",
    "outbox row": "INSERT INTO outbox (payload) VALUES (" + PAYLOAD + ")",
    "outbox row + what does nothing": "BEGIN INSERT INTO outbox (payload) VALUES ("
    + PAYLOAD
    + "); DO 1; END",
    "outbox row + gman_wake": "BEGIN INSERT INTO outbox (payload) VALUES ("
    + PAYLOAD
    + "); DO gman_wake('bench_wake', 'shard-1'); END",
    "gman_wake": "DO gman_wake('bench_wake', 'shard-1')",
}
ROWS = 500
#: Connections of --restarts.
WRITERS = 64
AUTOCOMMIT, MANY_ROWS = "autocommit, 1 conn.", f"{ROWS} rows, 1 conn."
SINGLE = "INSERT INTO users (name, password) VALUES ('hello', 'world')"
MANY = SINGLE + ", ('hello', 'world')" * (ROWS - 1)
#: Statement, rows and connections.
CASES = {
    AUTOCOMMIT: (SINGLE, 1, 1),
    "autocommit, 16 conn.": (SINGLE, 1, 16),
    MANY_ROWS: (MANY, ROWS, 1),
    f"{ROWS} rows, 16 conn.": (MANY, ROWS, 16),
}
#: By trigger and case.
Figures = dict[str, dict[str, list[float]]]

# Writes for some seconds, each timed by the server itself.
HAMMER = """
CREATE PROCEDURE hammer(seconds int)
BEGIN
  DECLARE began, t datetime(6);
  DECLARE writes, worst int DEFAULT 0;
  SET began = SYSDATE(6);
  REPEAT
    SET t = SYSDATE(6);
    INSERT INTO users (name, password) VALUES ('hello', 'world');
    SET worst = GREATEST(worst, TIMESTAMPDIFF(MICROSECOND, t, SYSDATE(6))), writes = writes + 1;
  UNTIL SYSDATE(6) > began + INTERVAL seconds SECOND END REPEAT;
  SELECT writes, worst, TIMESTAMPDIFF(MICROSECOND, began, SYSDATE(6));
END
"""


class Bench:
    """A server with the functions, with one in the manner of those that they replace and with a bare
    outbox; and a gearmand.
    """

    def __init__(self, durable: bool) -> None:
        self.gearmand = Gearmand()
        self.server = Database(durable=durable)
        self.socket, self.port = self.server.socket, self.gearmand.port
        self.server.add_functions(self.gearmand)
        include = subprocess.run(
            ["mariadb_config", "--include"], check=True, capture_output=True, text=True
        ).stdout.split()
        shape = self.server.plugin_dir / "upstream_shape.so"
        subprocess.run(
            [
                "gcc",
                "-std=c11",
                "-O2",
                "-fPIC",
                "-shared",
                "-fvisibility=hidden",
                *include,
                "-o",
                shape,
                HERE / "upstream_shape.c",
                "-lgearman",
            ],
            check=True,
        )
        self.sql("CREATE FUNCTION shape_do_background RETURNS STRING SONAME 'upstream_shape.so'")
        self.sql("USE bench // CREATE TABLE outbox (id bigint AUTO_INCREMENT PRIMARY KEY, payload text)")

    def sql(self, text: str) -> str:
        return subprocess.run(
            ["mariadb", "--no-defaults", "-S", self.socket, "-NB", "--delimiter=//"],
            input=text,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def arrange(self, trigger: str) -> None:
        self.sql(
            "USE bench // DROP TABLE IF EXISTS users // CREATE TABLE users (id bigint AUTO_INCREMENT "
            "PRIMARY KEY, name varchar(20), password varchar(20))"
        )
        self.sql("USE bench // TRUNCATE outbox")
        if trigger:
            self.sql(
                "USE bench // CREATE TRIGGER users_ai AFTER INSERT ON users FOR EACH ROW "
                f"{trigger.format(port=self.port)}"
            )

    def slap(self, statement: str, connections: int, count: int) -> float:
        """Seconds for `count` statements over all connections."""
        answer = subprocess.run(
            [
                "mariadb-slap",
                "--no-defaults",
                "-S",
                self.socket,
                "--create-schema=bench",
                "--no-drop",
                f"--concurrency={connections}",
                f"--number-of-queries={count}",
                "--delimiter=//",
                f"--query={statement}",
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        found = re.search(r"Average number of seconds to run all queries: ([\d.]+)", answer)
        assert found, answer
        return float(found.group(1))

    def measure(self, statement: str, rows: int, connections: int, seconds: float) -> float:
        """Microseconds a row, as one connection sees it."""
        count = connections * (2 if rows > 1 else 20)
        took = self.slap(statement, connections, count)
        count = max(count, int(count * seconds / max(took, 0.001)))
        return self.slap(statement, connections, count) * connections / count / rows * 1e6

    def hammer(self, seconds: int) -> tuple[float, int]:
        """The mean and the worst write in microseconds."""
        writes, worst, took = map(int, self.sql(f"USE bench // CALL hammer({seconds})").split())
        return took / writes, worst

    def drop_jobs(self) -> None:
        """Nobody works on the jobs of the benchmark: forget them, so that a later round does not find a
        larger queue.
        """
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            for function in ("bench", "bench_wake"):
                connection.sendall(f"drop function {function}\n".encode())
                connection.recv(100)


def versions(bench: Bench) -> str:
    gearmand = subprocess.run(
        [bench.gearmand.command[0], "--version"], check=True, capture_output=True, text=True
    ).stdout.split()
    compiler = subprocess.run(
        ["gcc", "-dumpfullversion"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return f"MariaDB {bench.server.version}, {' '.join(gearmand[:2])}, gcc {compiler}; {machine()}"


def accept_and_keep_silent(listener: socket.socket, kept: list[socket.socket]) -> None:
    while True:
        try:
            kept.append(listener.accept()[0])
        except OSError:
            return


def silent(bench: Bench, seconds: int) -> None:
    """Autocommit writes with no job server set, with one that accepts and never answers, and with none
    again.
    """
    bench.sql("USE bench // " + HAMMER)
    print(f"\n{versions(bench)}; autocommit INSERTs of one connection, {seconds} s with each\n")
    print(
        "| trigger | no job server: mean, worst | silent one: mean | ratio (bar 1.10) | worst (bar 370 ms) "
        "|\n|---|---|---|---|---|"
    )
    for name in ("gman_do_background", "outbox row + gman_wake"):
        bench.arrange(TRIGGERS[name])
        kept: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            threading.Thread(target=accept_and_keep_silent, args=(listener, kept), daemon=True).start()
            bench.sql("SELECT gman_servers_set('')")
            before = bench.hammer(max(1, seconds // 2))
            bench.sql(f"SELECT gman_servers_set('127.0.0.1:{listener.getsockname()[1]}')")
            mean, worst = bench.hammer(seconds)
            bench.sql("SELECT gman_servers_set('')")
            after = bench.hammer(max(1, seconds // 2))
            listener.shutdown(socket.SHUT_RDWR)
        for one in kept:
            one.close()
        normal, normal_worst = (before[0] + after[0]) / 2, max(before[1], after[1])
        print(
            f"| {name} | {normal:.1f} us, {normal_worst / 1000:.0f} ms | {mean:.1f} us | "
            f"x{mean / normal:.3f} | {worst / 1000:.0f} ms |"
        )


def restarts(bench: Bench, number: int) -> None:
    """The worst autocommit write of 64 connections with no job server set, and with one that is killed
    and started again.
    """
    bench.sql("USE bench // " + HAMMER)
    print(f"\n{versions(bench)}; autocommit INSERTs of {WRITERS} connections, {number} restarts\n")
    print(
        "| trigger | no job server: worst | restarts: worst | bar (twice as long + 370 ms) | writes "
        "|\n|---|---|---|---|---|"
    )
    for name in ("gman_do_background", "outbox row + gman_wake"):
        bench.arrange(TRIGGERS[name])
        with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
            bench.sql("SELECT gman_servers_set('')")
            calm = max(worst for _mean, worst in pool.map(bench.hammer, [3] * WRITERS))
            bench.sql(f"SELECT gman_servers_set('127.0.0.1:{bench.port}')")
            before = int(bench.sql("SELECT COUNT(*) FROM bench.users"))
            writers = [pool.submit(bench.hammer, number // 2) for _ in range(WRITERS)]
            for _ in range(number):
                time.sleep(0.4)
                bench.gearmand.kill()
                time.sleep(0.1)
                bench.gearmand.start()
            worst = max(writer.result()[1] for writer in writers)
        writes = int(bench.sql("SELECT COUNT(*) FROM bench.users")) - before
        bench.sql("SELECT gman_servers_set('')")
        print(
            f"| {name} | {calm / 1000:.0f} ms | {worst / 1000:.0f} ms | {2 * calm / 1000 + 370:.0f} ms | "
            f"{writes:,} |"
        )


def overhead(bench: Bench, rounds: int, seconds: float) -> Figures:
    """Microseconds a row of every trigger and case, of each round."""
    figures: Figures = {name: {case: [] for case in CASES} for name in TRIGGERS}
    for round_ in range(rounds):
        # Shapes that are compared follow each other, another one first in each round: the server still
        # writes out the pages of the case before.
        shapes = list(TRIGGERS.items())
        shapes = shapes[round_ % len(shapes) :] + shapes[: round_ % len(shapes)]
        for case, (statement, rows, connections) in CASES.items():
            for name, trigger in shapes:
                bench.arrange(trigger)
                figures[name][case].append(bench.measure(statement, rows, connections, seconds))
                bench.drop_jobs()
        print(f"round {round_ + 1} of {rounds}", flush=True)
    return figures


def show(medians: dict[str, dict[str, float]]) -> None:
    """The table of all medians, and the figures that have a bar."""
    print("| trigger | " + " | ".join(CASES) + " |\n|---|" + "---|" * len(CASES))
    for name, row in medians.items():
        print(
            f"| {name} | "
            + " | ".join(f"{row[c]:.1f} (x{row[c] / medians['no trigger'][c]:.2f})" for c in CASES)
            + " |"
        )
    many = {name: row[MANY_ROWS] for name, row in medians.items()}
    print(
        f"\n{ROWS}-row INSERT: gman_do_background / a client per call = "
        f"{many['gman_do_background'] / many['a libgearman client per call']:.2f} (bar 0.45)"
    )
    print(
        f"{ROWS}-row INSERT: gman_wake adds {many['outbox row + gman_wake'] - many['outbox row']:.2f} us a "
        "row to the outbox row (bar 1.5), "
        f"{many['gman_wake'] - many['a trigger that does nothing']:.2f} to a trigger that does "
        f"nothing; as a table's only trigger {many['gman_wake'] - many['no trigger']:.2f}, where one "
        f"that does nothing adds {many['a trigger that does nothing'] - many['no trigger']:.2f}"
    )
    print(
        f"{AUTOCOMMIT}: outbox row + wake / no trigger = "
        f"{medians['outbox row + gman_wake'][AUTOCOMMIT] / medians['no trigger'][AUTOCOMMIT]:.2f} (bar "
        "1.25)"
    )


def options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.4, help="for each measurement")
    parser.add_argument("--json", type=Path, help="write the figures into this file as well")
    parser.add_argument(
        "--silent",
        type=int,
        metavar="SECONDS",
        help="only this: writes while the job server accepts and never answers",
    )
    parser.add_argument(
        "--restarts",
        type=int,
        metavar="NUMBER",
        help="only this: writes while the job server is killed and started again",
    )
    return parser.parse_args()


def main() -> None:
    given = options()
    with cleaned_up():
        bench = Bench(durable=not given.relaxed)
        version = versions(bench)
        if given.silent:
            silent(bench, given.silent)
            return
        if given.restarts:
            restarts(bench, given.restarts)
            return
        figures = overhead(bench, given.rounds, given.seconds)
    medians = {
        name: {case: statistics.median(values) for case, values in row.items()}
        for name, row in figures.items()
    }
    print(
        f"\n{version}; us a row as one connection sees it, median of {given.rounds} rounds of "
        f"{given.seconds:g} s; in brackets, times no trigger\n"
    )
    show(medians)
    if given.json:
        given.json.write_text(
            json.dumps({"version": version, "median_us": medians, "rounds_us": figures}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
