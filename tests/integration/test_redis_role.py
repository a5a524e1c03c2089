# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role redis asks a running server before it restarts it."""

import shlex
import subprocess
import sys

import jinja2
import pytest
from harness.places import ROOT
from harness.redis_server import RedisServer
from harness.tls import Certificates

PASSWORD = "pass'word $x"


@pytest.fixture
def redis():
    """A Redis with a password, without persistence."""
    with Redis() as server:
        yield server


class Redis(RedisServer):
    def __init__(self):
        super().__init__("--appendonly", "no", "--save", "", "--requirepass", PASSWORD)
        # The role counts the clients.
        self.client.connection_pool.disconnect()

    def cli(self, *words):
        command = ["redis-cli", "-p", str(self.port), "--no-auth-warning", "-a", PASSWORD, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def keep(self, **how):
        return keep({"options": ["-h", "127.0.0.1", "-p", str(self.port)]}, **how)


def keep(former, *, save=False, appendonly="", logins=(f'AUTH "{PASSWORD}"',)):
    """What the role asks a server that is reached as `former` has it."""
    environment = jinja2.Environment(autoescape=False, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["quote"] = shlex.quote
    script = environment.from_string((ROOT / "roles/redis/templates/keep.sh.j2").read_text()).render(
        __redis_os={"cli": "redis-cli"},
        __redis_former=former,
        __redis_logins=list(logins),
        save=save,
        appendonly=appendonly,
    )
    return subprocess.run(
        ["/bin/sh", "-s"], input=script, capture_output=True, text=True, timeout=180, check=False
    )


def test_a_server_with_tls_alone_is_asked_by_tls(certificates):
    with RedisServer("--requirepass", PASSWORD, certificates=certificates) as server:
        files = {"cacert": "ca.pem", "cert": "server.pem", "key": "server.key"}
        options = [word for name, file in files.items() for word in (f"--{name}", certificates.path(file))]
        former = {"options": ["-h", "127.0.0.1", "-p", str(server.port), "--tls", *options]}
        server.client.connection_pool.disconnect()
        told = keep(former)
        assert (told.returncode, told.stdout.split()) == (0, ["keys=0", "clients=0"])


def test_it_tells_what_a_server_holds(redis):
    assert redis.keep().stdout.split() == ["keys=0", "clients=0"]
    redis.cli("SET", "a", "1")
    redis.cli("-n", "3", "SET", "b", "1")
    told = redis.keep(logins=('AUTH "wrong"', f'AUTH "{PASSWORD}"'))
    assert (told.returncode, told.stdout.split()) == (0, ["keys=2", "clients=0"])


def test_a_server_that_may_not_be_asked_is_an_error(redis):
    told = redis.keep(logins=('AUTH "wrong"',), save=True)
    assert told.returncode == 1
    assert "NOAUTH" in told.stderr


def test_what_it_holds_is_on_disk_before_the_restart(redis):
    redis.cli("SET", "a", "1")
    assert redis.keep(save=True).returncode == 0
    assert (redis.directory / "dump.rdb").exists()


def test_a_server_that_cannot_save_is_an_error(redis):
    redis.cli("SET", "a", "1")
    # A directory in the place of the file.
    (redis.directory / "dump.rdb").mkdir()
    told = redis.keep(save=True)
    assert told.returncode == 1
    assert "SAVE" in told.stderr


def test_appendonly_is_switched_on_in_the_running_server_first(redis):
    redis.cli("SET", "a", "1")
    assert redis.keep(save=True, appendonly="yes").returncode == 0
    assert redis.cli("CONFIG", "GET", "appendonly").split() == ["appendonly", "yes"]
    assert list(redis.directory.glob("appendonly*"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def check_tls(certificates, *, cert="server.pem", key="server.key", ca="ca.pem", user="root", shows="shows"):
    """What the role's look at the files of TLS answers."""
    files = [file and certificates.path(file) for file in (cert, key, ca)]
    script = (ROOT / "roles/redis/files/check_tls.py").read_text()
    command = [sys.executable, "-", user, *files, shows]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr.strip() or done.stdout.strip()


def test_files_that_fit_are_accepted(certificates):
    assert check_tls(certificates) == ""
    assert check_tls(certificates, shows="") == ""
    assert check_tls(certificates, user="not-there-yet") == "no user not-there-yet"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"key": "absent.key"}, "absent.key cannot be read by the user root: No such file"),
        ({"key": "client.key"}, "client.key is not the key of "),
        ({"cert": "ca.key"}, "is damaged"),
        ({"ca": "server.key"}, "server.key has no certificates of authorities"),
        ({"ca": "other-ca.pem"}, "as a certificate of servers: "),
        (
            {"cert": "expired.pem", "key": "expired.key"},
            "as a certificate of servers: certificate has expired",
        ),
        ({"cert": "for-servers.pem", "key": "for-servers.key"}, "as a certificate of clients: "),
    ],
)
def test_files_of_no_use_are_named_with_the_reason(certificates, files, message):
    certificates.issue("for-servers", "IP:127.0.0.1\nextendedKeyUsage=serverAuth")
    assert message in check_tls(certificates, **files)


def test_a_key_that_the_user_cannot_read_is_named(certificates):
    certificates.directory.joinpath("server.key").chmod(0o400)
    message = check_tls(certificates, user="nobody")
    assert "cannot be read by the user nobody: Permission denied" in message
