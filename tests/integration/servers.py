"""Private servers for the tests: a database and a job server of their own, on sockets and data of their own."""

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pymysql

# Summer time matters for TIMESTAMP columns, and the servers need no time zone tables for their own zone.
ZONE = "Europe/Berlin"
HEADER = struct.Struct(">4sII")


class StartError(RuntimeError):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready, what, seconds=60, log=None):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise StartError(f"{what} is not ready after {seconds} s:\n{log.read_text(errors='replace')[-3000:] if log else ''}")
        time.sleep(0.05)


class DatabaseServer:
    """MariaDB or MySQL, whichever this machine has; MariaDB when it has both."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="gearsync-db-"))
        self.binary = shutil.which("mariadbd") or shutil.which("mysqld") or "/usr/sbin/mysqld"
        self.engine = "mariadb" if "mariadb" in self.binary else "mysql"
        self.socket = str(self.directory / "socket")
        self.port = free_port()
        self.plugin_dir = self.directory / "plugin"
        self.log = self.directory / "log"
        self.process = None
        self.plugin_dir.mkdir()
        self._initialize()
        self.start()

    def _initialize(self):
        data = self.directory / "data"
        # A MariaDB that starts removes the temporary tables that it finds in /tmp, those of another one too.
        common = [f"--datadir={data}", f"--tmpdir={self.directory}", "--user=root"]
        if self.engine == "mariadb":
            command = ["mariadb-install-db", "--no-defaults", *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        else:
            command = [self.binary, "--no-defaults", "--initialize-insecure", *common]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise StartError(done.stdout)

    def start(self):
        command = [
            self.binary, "--no-defaults", "--user=root", f"--datadir={self.directory / 'data'}", f"--tmpdir={self.directory}",
            f"--socket={self.socket}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--plugin-dir={self.plugin_dir}", f"--pid-file={self.directory / 'pid'}",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--character-set-server=utf8mb4", "--log-bin=binlog", "--server-id=1",
            "--sync-binlog=0", "--max-allowed-packet=64M", "--performance-schema=ON",
        ]
        if self.engine == "mysql":
            command += ["--mysqlx=OFF", "--secure-file-priv=NULL"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TZ": ZONE})
        wait_until(self._answers, "the database server", log=self.log)

    def _answers(self):
        if self.process.poll() is not None:
            raise StartError(self.log.read_text(errors="replace")[-3000:])
        try:
            self.connect().close()
        except pymysql.MySQLError:
            return False
        return True

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.stop()
        self.start()

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory)

    def connect(self, **options):
        return pymysql.connect(unix_socket=self.socket, user="root", charset="utf8mb4", autocommit=True, **options)

    def execute(self, *statements):
        """Run statements; the rows of the last one."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall()
        finally:
            connection.close()

    @property
    def login(self):
        return {"login_unix_socket": self.socket, "login_user": "root", "config_file": "/nonexistent"}


class JobServer:
    """A gearmand on a port of its own."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="gearsync-jobs-"))
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = self.directory / "log"
        self.process = None
        self.start()

    def start(self):
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                ["gearmand", "--listen=127.0.0.1", f"--port={self.port}", "--job-retries=0", f"--log-file={self.log}"], stdout=output, stderr=output)
        wait_until(self._answers, "the job server")

    def _answers(self):
        if self.process.poll() is not None:
            raise StartError(f"gearmand ended: {(self.directory / 'output').read_text()}")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory)

    def jobs(self, function="syncToRedis"):
        """The payloads of all jobs that wait for a function, in the order in which a worker gets them; they are done afterwards."""
        with Worker(self.port, function) as worker:
            return [payload for _handle, payload in iter(worker.take, None)]


class Worker:
    """As much of a Gearman worker as the tests need."""

    CAN_DO, GRAB_JOB, NO_JOB, JOB_ASSIGN, WORK_COMPLETE, WORK_DATA, WORK_FAIL, WORK_EXCEPTION, WORK_WARNING, NOOP = 1, 9, 10, 11, 13, 28, 14, 25, 29, 6

    def __init__(self, port, function):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.send(self.CAN_DO, function.encode())

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.socket.close()

    def send(self, command, *arguments):
        body = b"\0".join(arguments)
        self.socket.sendall(HEADER.pack(b"\0REQ", command, len(body)) + body)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise ConnectionError("the job server closed the connection")
            data += chunk
        return data

    def receive(self):
        _magic, command, size = HEADER.unpack(self._exactly(HEADER.size))
        return command, self._exactly(size)

    def grab(self):
        """A job, not done yet, as (handle, payload); None when there is none."""
        self.send(self.GRAB_JOB)
        command, body = self.receive()
        while command == self.NOOP:
            command, body = self.receive()
        if command == self.NO_JOB:
            return None
        assert command == self.JOB_ASSIGN
        handle, _function, payload = body.split(b"\0", 2)
        return handle, payload

    def wait(self, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.grab()
            if job:
                return job
            time.sleep(0.01)
        raise AssertionError("no job came")

    def take(self):
        job = self.grab()
        if job:
            self.send(self.WORK_COMPLETE, job[0], b"")
        return job
