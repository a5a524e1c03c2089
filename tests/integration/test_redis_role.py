# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role redis asks a running server before it restarts it."""

import shlex
import subprocess

import jinja2
import pytest
from harness.places import ROOT
from harness.redis_server import RedisServer

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

    def keep(self, *, save=False, appendonly="", logins=(f'AUTH "{PASSWORD}"',)):
        environment = jinja2.Environment(autoescape=False, trim_blocks=True, undefined=jinja2.StrictUndefined)
        environment.filters["quote"] = shlex.quote
        script = environment.from_string((ROOT / "roles/redis/templates/keep.sh.j2").read_text()).render(
            __redis_os={"cli": "redis-cli"},
            __redis_former={"address": "127.0.0.1", "port": self.port},
            __redis_logins=list(logins),
            save=save,
            appendonly=appendonly,
        )
        return subprocess.run(
            ["/bin/sh", "-s"], input=script, capture_output=True, text=True, timeout=180, check=False
        )


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
