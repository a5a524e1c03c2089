#!/usr/bin/env python3
"""What a trigger with our functions adds to an INSERT, beside one in the manner of the libraries that ours replaces.

Starts a private MariaDB server and a private gearmand, measures every shape in turn in several rounds, and takes the median of the
rounds, so that other work on the machine hits all shapes alike. Needs the packages of udf/tests/apt-packages.txt and libgearman-dev,
and a MariaDB that no other service of the machine keeps busy. Takes about four minutes with its defaults, and two with --silent 60.

    bench/udf_overhead/run.py [--rounds 5] [--seconds 1] [--json FILE]
    bench/udf_overhead/run.py --silent 60    writes while the job server accepts connections and never answers
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pwd
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
UDF = HERE.parent.parent / "udf"
SBIN = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"

PAYLOAD = "JSON_OBJECT('id', NEW.id, 'name', NEW.name, 'password', NEW.password)"
TRIGGERS = {
    "no trigger": "",
    "a trigger that does nothing": "DO 1",
    "a libgearman client per call": "DO shape_do_background({port}, 'bench', " + PAYLOAD + ")",
    "gman_do_background": "DO gman_do_background('bench', " + PAYLOAD + ")",
    "outbox row": "INSERT INTO outbox (payload) VALUES (" + PAYLOAD + ")",
    "outbox row + what does nothing": "BEGIN INSERT INTO outbox (payload) VALUES (" + PAYLOAD + "); DO 1; END",
    "outbox row + gman_wake": "BEGIN INSERT INTO outbox (payload) VALUES (" + PAYLOAD + "); DO gman_wake('bench_wake', 'shard-1'); END",
    "gman_wake": "DO gman_wake('bench_wake', 'shard-1')",
}
ROWS = 500
SINGLE = "INSERT INTO users (name, password) VALUES ('hello', 'world')"

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
    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "socket"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        subprocess.run(["make", "-s", "-C", UDF, "all", f"BUILD_DIR={home}/build"], check=True, stdout=subprocess.DEVNULL)
        (home / "plugin").mkdir()
        for library in (home / "build").glob("*.so"):
            shutil.copy(library, home / "plugin")
        include = subprocess.run(["mariadb_config", "--include"], check=True, capture_output=True, text=True).stdout.split()
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
                home / "plugin/upstream_shape.so",
                HERE / "upstream_shape.c",
                "-lgearman",
            ],
            check=True,
        )
        user = pwd.getpwuid(os.getuid()).pw_name
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={home}/data", f"--tmpdir={home}", "--auth-root-authentication-method=normal", f"--user={user}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with (home / "log").open("wb") as log:
            self.server = subprocess.Popen(
                [shutil.which("mariadbd", path=SBIN) or "mariadbd", "--no-defaults", f"--user={user}", f"--datadir={home}/data", f"--tmpdir={home}",
                 f"--socket={self.socket}", f"--plugin-dir={home}/plugin", "--skip-networking", "--innodb-buffer-pool-size=256M"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.gearmand = subprocess.Popen(
            [shutil.which("gearmand", path=SBIN) or "gearmand", "-L", "127.0.0.1", "-p", str(self.port), "-l", "stderr"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 60
        while True:
            try:
                self.sql("SELECT 1")
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except (subprocess.CalledProcessError, OSError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        for process in (self.server, self.gearmand):
            process.terminate()
            process.wait()

    def sql(self, text: str) -> str:
        return subprocess.run(
            ["mariadb", "--no-defaults", "-S", self.socket, "-NB", "--delimiter=//"], input=text, check=True, capture_output=True, text=True
        ).stdout

    def prepare(self) -> None:
        self.sql("USE mysql // " + (UDF / "install.sql").read_text().replace(";", " //"))
        self.sql("CREATE FUNCTION shape_do_background RETURNS STRING SONAME 'upstream_shape.so'")
        self.sql(f"SELECT gman_servers_set('127.0.0.1:{self.port}')")
        self.sql("CREATE DATABASE bench // USE bench // CREATE TABLE outbox (id bigint AUTO_INCREMENT PRIMARY KEY, payload text)")

    def arrange(self, trigger: str) -> None:
        self.sql("USE bench // DROP TABLE IF EXISTS users // CREATE TABLE users (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(20), password varchar(20))")
        self.sql("USE bench // TRUNCATE outbox")
        if trigger:
            self.sql(f"USE bench // CREATE TRIGGER users_ai AFTER INSERT ON users FOR EACH ROW {trigger.format(port=self.port)}")

    def slap(self, statement: str, connections: int, count: int) -> float:
        """Seconds for `count` statements over all connections."""
        answer = subprocess.run(
            ["mariadb-slap", "--no-defaults", "-S", self.socket, "--create-schema=bench", "--no-drop", f"--concurrency={connections}",
             f"--number-of-queries={count}", "--delimiter=//", f"--query={statement}"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
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
        """Nobody works on the jobs of the benchmark: forget them, so that a later round does not find a larger queue."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            for function in ("bench", "bench_wake"):
                connection.sendall(f"drop function {function}\n".encode())
                connection.recv(100)


def machine() -> str:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{os.cpu_count()} cores ({model.group(1) if model else platform.machine()}), Linux {platform.release()}"


def versions(bench: Bench) -> str:
    gearmand = subprocess.run([shutil.which("gearmand", path=SBIN) or "gearmand", "--version"], check=True, capture_output=True, text=True).stdout.split()
    compiler = subprocess.run(["gcc", "-dumpfullversion"], check=True, capture_output=True, text=True).stdout.strip()
    return f"MariaDB {bench.sql('SELECT VERSION()').strip()}, {' '.join(gearmand[:2])}, gcc {compiler}; {machine()}; load {os.getloadavg()[0]:.1f}"


def accept_and_keep_silent(listener: socket.socket, kept: list[socket.socket]) -> None:
    while True:
        try:
            kept.append(listener.accept()[0])
        except OSError:
            return


def silent(bench: Bench, seconds: int) -> None:
    """Autocommit writes with no job server set, with one that accepts and never answers, and with none again."""
    bench.sql("USE bench // " + HAMMER)
    print(f"\n{versions(bench)}; autocommit INSERTs of one connection, {seconds} s with each\n")
    print("| trigger | no job server: mean, worst | silent one: mean | ratio (bar 1.10) | worst (bar 370 ms) |\n|---|---|---|---|---|")
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
        print(f"| {name} | {normal:.1f} us, {normal_worst / 1000:.0f} ms | {mean:.1f} us | x{mean / normal:.3f} | {worst / 1000:.0f} ms |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--json", type=Path, help="write the figures into this file as well")
    parser.add_argument("--silent", type=int, metavar="SECONDS", help="only this: writes while the job server accepts and never answers")
    options = parser.parse_args()
    cases = {
        ("autocommit", 1): (SINGLE, 1, 1),
        ("autocommit", 16): (SINGLE, 1, 16),
        (f"{ROWS} rows", 1): (SINGLE + ", ('hello', 'world')" * (ROWS - 1), ROWS, 1),
        (f"{ROWS} rows", 16): (SINGLE + ", ('hello', 'world')" * (ROWS - 1), ROWS, 16),
    }
    figures: dict[str, dict[str, list[float]]] = {name: {f"{kind}, {n} conn.": [] for kind, n in cases} for name in TRIGGERS}
    with tempfile.TemporaryDirectory(prefix="udf") as home:
        bench = Bench(Path(home))
        try:
            bench.prepare()
            version = versions(bench)
            if options.silent:
                silent(bench, options.silent)
                return
            for round_ in range(options.rounds):
                for name, trigger in TRIGGERS.items():
                    for (kind, n), (statement, rows, connections) in cases.items():
                        bench.arrange(trigger)
                        figures[name][f"{kind}, {n} conn."].append(bench.measure(statement, rows, connections, options.seconds))
                        bench.drop_jobs()
                print(f"round {round_ + 1} of {options.rounds}", flush=True)
        finally:
            bench.stop()
    medians = {name: {case: statistics.median(values) for case, values in row.items()} for name, row in figures.items()}
    columns = [f"{kind}, {n} conn." for kind, n in cases]
    print(f"\n{version}; us a row as one connection sees it, median of {options.rounds} rounds of {options.seconds:g} s; in brackets, times no trigger\n")
    print("| trigger | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, row in medians.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.1f} (x{row[c] / medians['no trigger'][c]:.2f})" for c in columns) + " |")
    many = columns[2]
    shape = medians["a libgearman client per call"][many]
    print(f"\n{ROWS}-row INSERT: gman_do_background / a client per call = {medians['gman_do_background'][many] / shape:.2f} (bar 0.45)")
    wake, both = medians["gman_wake"][many], medians["outbox row + gman_wake"][many]
    print(
        f"{ROWS}-row INSERT: gman_wake adds {wake - medians['no trigger'][many]:.2f} us a row to no trigger (bar 1.5), "
        f"{wake - medians['a trigger that does nothing'][many]:.2f} to one that does nothing, {both - medians['outbox row'][many]:.2f} to the outbox row's, "
        f"{both - medians['outbox row + what does nothing'][many]:.2f} to an outbox row with a statement that does nothing"
    )
    print(f"autocommit: outbox row + wake / no trigger = {medians['outbox row + gman_wake'][columns[0]] / medians['no trigger'][columns[0]]:.2f} (bar 1.25)")
    if options.json:
        options.json.write_text(json.dumps({"version": version, "median_us": medians, "rounds_us": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
