"""What the tests of the libraries share: the sanitized driver, a real gearmand with a worker, servers that misbehave."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest
from pymysql.constants import CLIENT
from tls_front import Certificates

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("UDF_BUILD_DIR", HERE.parent / "build"))
SANITIZED = BUILD / "sanitized"
THREADS = BUILD / "threads"
HOST = os.environ.get("UDF_TEST_HOST", "127.0.0.1")


class Refused(Exception):
    """_init refused the call, with this message."""


class RowError(Exception):
    """The row function set *error."""


class Value:
    """An argument as the server describes it."""

    def __init__(self, value: object, kind: str = "", name: str | bytes = "", width: int | None = None, constant: bool = False) -> None:
        if isinstance(value, bytes):
            data: bytes | None = value
        elif value is None:
            data = None
        else:
            data = (repr(value) if isinstance(value, float) else str(int(value) if isinstance(value, bool) else value)).encode()
        if not kind:
            kind = "I" if isinstance(value, int) else "R" if isinstance(value, float) else "S"
        if width is None:
            width = {"I": 20, "R": 22, "B": 8}.get(kind, len(data or b""))
        attribute = name if isinstance(name, bytes) else name.encode()
        self.text = f"{kind}:{int(constant)}:{width}:{attribute.hex()}:{'-' if data is None else data.hex()}"


def word(value: object) -> str:
    return (value if isinstance(value, Value) else Value(value)).text


class Driver:
    """The sanitized driver. A finding of a sanitizer ends it, and so every test that asks it something."""

    def __init__(self, library: str, build: Path = SANITIZED) -> None:
        self.library, self.build = build / library, build
        environment = dict(os.environ)
        # What the sanitized build takes for /etc/hosts and /etc/resolv.conf. Nobody answers there, unless a test starts a FakeDns.
        self.files = tempfile.TemporaryDirectory(prefix="udf")
        self.hosts, self.resolv_conf, self.dns_port = Path(self.files.name) / "hosts", Path(self.files.name) / "resolv.conf", free_udp_port()
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.resolv_conf.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        environment |= {"GMAN_TEST_HOSTS": str(self.hosts), "GMAN_TEST_RESOLV_CONF": str(self.resolv_conf), "GMAN_TEST_DNS_PORT": str(self.dns_port)}
        environment["ASAN_OPTIONS"] = "detect_leaks=1:abort_on_error=0:exitcode=86:detect_stack_use_after_return=1:strict_string_checks=1"
        environment["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1:exitcode=87"
        environment["TSAN_OPTIONS"] = "exitcode=88:second_deadlock_stack=1"
        # The sanitizer of threads knows fewer places for the program's memory than newer kernels use.
        program = ["setarch", "--addr-no-randomize", build / "driver"] if build == THREADS else [build / "driver"]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self.load()

    def ask(self, *words: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(" ".join(words) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.process.wait(timeout=10)
            pytest.fail(f"the driver died ({self.process.returncode}):\n{self.process.stderr.read() if self.process.stderr else ''}")
        return answer.rstrip("\n")

    def load(self) -> None:
        assert self.ask("load", str(self.library)) == "ok"

    def unload(self) -> None:
        assert self.ask("unload") == "ok"

    @staticmethod
    def result(answer: str) -> bytes | None:
        kind, _, data = answer.partition(" ")
        if kind == "init":
            raise Refused(bytes.fromhex(data).decode())
        if kind == "error":
            raise RowError
        if kind == "null":
            return None
        assert kind == "ok", answer
        return bytes.fromhex(data)

    def call(self, function: str, *values: object) -> bytes | None:
        return self.result(self.ask("call", function, *map(word, values)))

    def rows(self, count: int, function: str, *values: object) -> tuple[int, bytes | None]:
        """The last row's result and the number of NULLs among all rows of one statement."""
        answer = self.ask("rows", function, str(count), *map(word, values))
        nulls, _, rest = answer.partition(" ")
        return int(nulls), self.result(rest)

    def integer(self, function: str, *values: object) -> int | None:
        answer = self.ask("integer", function, *map(word, values))
        return int(answer[3:]) if answer.startswith("ok ") else self.result(answer)  # type: ignore[return-value]  # None or raises

    def sum(self, function: str, workloads: list[object]) -> int | None:
        rows = [item for load in workloads for item in (word(function), word(load), "/")] or [word(function), word("")]
        answer = self.ask("sum", "gman_sum", *rows)
        return int(answer[3:]) if answer.startswith("ok ") else self.result(answer)  # type: ignore[return-value]  # None or raises

    def storm(self, threads: int, seconds: float, function: str, *values: object) -> tuple[int, int, int, int]:
        """Calls, NULLs, worst and mean time in microseconds."""
        calls, nulls, worst, mean = map(int, self.ask("storm", str(threads), str(seconds), function, *map(word, values)).split())
        return calls, nulls, worst, mean

    def mix(self, threads: int, seconds: float, *calls: tuple[object, ...]) -> tuple[int, int, int, int]:
        """The same, for threads that take the calls in turn."""
        words = [item for call in calls for item in ("/", str(call[0]), *map(word, call[1:]))][1:]
        total, nulls, worst, mean = map(int, self.ask("mix", str(threads), str(seconds), *words).split())
        return total, nulls, worst, mean

    def start(self, function: str, *values: object) -> None:
        """A call in a thread of its own; join waits for it and says whether it was NULL."""
        assert self.ask("start", function, *map(word, values)) == "ok"

    def join(self) -> bool:
        return self.ask("join") == "1"

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stderr
        self.process.stdin.close()
        complaints = self.process.stderr.read()
        code = self.process.wait(timeout=60)
        self.files.cleanup()
        assert (code, complaints) == (0, ""), f"exit {code}:\n{complaints}"


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], object], seconds: float = 10, what: str = "") -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def accepts(port: int, host: str = HOST) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


class Gearmand:
    """A real gearmand with workers, on a free port of loopback."""

    def __init__(self, workers: int = 2, host: str = HOST, options: tuple[str, ...] = ()) -> None:
        program = shutil.which("gearmand", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        assert program, "gearmand is missing: tests/apt-packages.txt names what the tests need"
        self.program, self.host, self.workers, self.options = program, host, workers, options
        self.port = free_port()
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.server: subprocess.Popen[bytes] | None = None
        self.hands: list[subprocess.Popen[str]] = []
        self.start()

    def start(self) -> None:
        self.server = subprocess.Popen(
            [self.program, "-L", self.host, "-p", str(self.port), "-l", "stderr", *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: accepts(self.port, self.host), what="gearmand listens")
        for _ in range(self.workers):
            hand = subprocess.Popen(
                [sys.executable, HERE / "gearman_worker.py", str(self.port), self.host], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            assert hand.stdout
            assert hand.stdout.readline() == "ready\n"
            self.hands.append(hand)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.server:
            self.server.send_signal(how)
            self.server.wait(timeout=10)
            self.server = None
        for hand in self.hands:
            hand.kill()
            hand.communicate()
        self.hands.clear()

    def admin(self, command: str) -> str:
        with socket.create_connection((self.host, self.port)) as connection, connection.makefile("r") as stream:
            connection.sendall(f"{command}\n".encode())
            lines = []
            while (line := stream.readline()) not in (".\n", ""):
                lines.append(line)
            return "".join(lines)

    def queued(self, function: str) -> int:
        for line in self.admin("status").splitlines():
            name, total, *_ = line.split("\t")
            if name == function:
                return int(total)
        return 0


SBIN = os.environ["PATH"] + ":/usr/sbin:/usr/libexec"


class Database:
    """A private mariadbd, or the mysqld of a machine that has none, with both libraries in its plugin directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "socket"
        (home / "plugin").mkdir()
        for name in ("libgearman_mysql_udf.so", "lib_mysqludf_json.so"):
            shutil.copy(BUILD / name, home / "plugin")
        user = pwd.getpwuid(os.getuid()).pw_name
        program = shutil.which("mariadbd", path=SBIN) or shutil.which("mysqld", path=SBIN)
        assert program, "mariadbd is missing: tests/apt-packages.txt names what the tests need"
        mysql = program.endswith("mysqld")
        # A server that starts removes the temporary tables that it finds in /tmp, those of another one too.
        places = [f"--datadir={home}/data", f"--tmpdir={home}", f"--user={user}"]
        self.log = (home / "log").open("wb")
        subprocess.run(
            [program, "--no-defaults", "--initialize-insecure", *places]
            if mysql
            else ["mariadb-install-db", "--no-defaults", *places, "--auth-root-authentication-method=normal"],
            check=True,
            stdout=self.log,
            stderr=self.log if mysql else None,
        )
        self.process = subprocess.Popen(
            [
                program,
                "--no-defaults",
                f"--user={user}",
                f"--datadir={home}/data",
                f"--tmpdir={home}",
                f"--socket={self.socket}",
                f"--plugin-dir={home}/plugin",
                "--skip-networking",
                f"--pid-file={home}/pid",
                "--innodb-buffer-pool-size=64M",
                "--innodb-flush-log-at-trx-commit=0",
                "--character-set-server=utf8mb4",
                "--max-connections=200",
                *(["--mysqlx=OFF", "--secure-file-priv=NULL", "--skip-log-bin"] if mysql else []),
            ],
            stdout=self.log,
            stderr=self.log,
        )
        wait_until(self.answers, seconds=60, what="mariadbd answers")

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.home / "log").read_text()
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def connect(self) -> pymysql.connections.Connection:
        return pymysql.connect(unix_socket=str(self.socket), user="root", charset="utf8mb4", autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS)

    def alive(self) -> bool:
        return self.process.poll() is None

    def descriptors(self) -> int:
        """Without the server's own files, of which it opens and closes some when it likes."""
        count = 0
        for one in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += not os.readlink(one).startswith(str(self.home))
        return count

    def maps(self, library: str) -> bool:
        return library in Path(f"/proc/{self.process.pid}/maps").read_text()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0, (self.home / "log").read_text()
        self.log.close()


class OtherDatabase(Database):
    """A server that runs elsewhere and has both libraries in its plugin directory: UDF_TEST_SERVER=user:password@host:port.

    The tests' job servers then listen on UDF_TEST_HOST, an address of this machine that it can reach. Its process cannot be looked into,
    so the number of its connections to a job server stands in for that of its descriptors.
    """

    def __init__(self, where: str) -> None:
        account, _, address = where.rpartition("@")
        self.user, _, self.password = account.partition(":")
        self.host, _, self.port = address.partition(":")
        self.began = time.monotonic()

    def connect(self) -> pymysql.connections.Connection:
        return pymysql.connect(
            host=self.host, port=int(self.port), user=self.user, password=self.password, charset="utf8mb4", autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
        )  # fmt: skip

    def alive(self) -> bool:
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Uptime'")
            return int(cursor.fetchall()[0][1]) >= int(time.monotonic() - self.began)  # else it has restarted

    def descriptors(self) -> int:
        listing = subprocess.run(["ss", "-Htn", "state", "established", "dst", self.host], check=True, capture_output=True, text=True).stdout
        return sum(1 for line in listing.splitlines() if not line.endswith(f":{self.port} "))

    def maps(self, library: str) -> bool:
        return False

    def stop(self) -> None:
        pass


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    if other := os.environ.get("UDF_TEST_SERVER"):
        yield OtherDatabase(other)
        return
    # A socket's path has little room, so pytest's own long directory names do not do.
    with tempfile.TemporaryDirectory(prefix="udf") as home:
        server = Database(Path(home))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def gearmand() -> Iterator[Gearmand]:
    server = Gearmand()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    with tempfile.TemporaryDirectory(prefix="udf") as directory:
        yield Certificates(Path(directory), HOST)


@pytest.fixture
def own_gearmand() -> Iterator[Gearmand]:
    """One that a test may kill; nobody works there."""
    server = Gearmand(workers=0)
    yield server
    server.stop()


@pytest.fixture
def gman() -> Iterator[Driver]:
    """The Gearman library, freshly loaded: no lists, no connections, all settings at their defaults."""
    driver = Driver("libgearman_mysql_udf.so")
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def json_driver() -> Iterator[Driver]:
    driver = Driver("lib_mysqludf_json.so")
    yield driver
    driver.close()
