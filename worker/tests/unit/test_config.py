# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file: mistakes are named with their field, secrets are not shown."""

from __future__ import annotations

import pathlib
import tempfile

import msgspec
import pytest
from gearsync.cli.check_config import BAD_CONFIG
from gearsync.cli.main import main
from gearsync.declare.configuration import ConfigError, inspect, load, parse_address
from hypothesis import given
from hypothesis import strategies as st

GOOD = """
job_servers: ["127.0.0.1:4730"]
redis: {password: "hush"}
tables:
  - {table: t.t, delivery: direct, columns: [id], write: [{type: hash, key: "k:{id}"}]}
"""


def sentences(tmp_path: pathlib.Path, text: str) -> str:
    (tmp_path / "worker.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "worker.yml"))
    return str(caught.value)


def test_a_good_file_is_taken_and_its_password_not_shown(tmp_path: pathlib.Path) -> None:
    (tmp_path / "worker.yml").write_text(GOOD)
    config = load(str(tmp_path / "worker.yml"))
    assert config.redis.password == "hush"
    assert "hush" not in repr(config)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("type: hash", "type: blob", ["t.t", "write[0].type", "blob", "hash"]),
        ("k:{id}", "k:{city}", ["t.t", "city"]),
        ("k:{id}", "k:{id", ["t.t", "tables[0].write[0].key", "at character 3"]),
        ("direct", "durable", ["mysql", "t.t"]),
        ("direct", "other", ["t.t", "tables[0].delivery", "'other'", "durable or direct"]),
        ("columns: [id]", "columns: [id], computed: [x]", ["tables[0].computed", "transform"]),
        (
            "columns: [id]",
            "columns: [id], transform: 'module function'",
            ["tables[0].transform", "package.module:function"],
        ),
        ("redis:", "source: 'a b'\nredis:", ["source", "'a b'"]),
        ("{password:", "{sentinels: [h], password:", ["sentinel_master"]),
        ("{password:", "{replicas: -1, password:", ["redis.replicas", "0 or more"]),
        (
            "{password:",
            "{replicas: 1, replicas_timeout: 60, password:",
            ["redis.replicas_timeout", "worker.io_timeout, 5"],
        ),
        ("redis:", "job_server_tls: {cert: /a}\nredis:", ["job_server_tls", "cert and key"]),
        ("redis:", "job_server_tls: {certificate: /a}\nredis:", ["job_server_tls", "certificate"]),
        ("{password:", "{tls: {cert: /a}, password:", ["redis.tls", "cert and key"]),
        ("{password:", "{sentinel_tls: {cert: /a}, password:", ["redis.sentinel_tls", "cert and key"]),
        ("{password:", "{tls: {ca: /a}, tls_ca: /b, password:", ["redis.tls_ca", "tls: true"]),
        ("redis:", "mysql: {user: u, tls: {key: /a}}\nredis:", ["mysql.tls", "cert and key"]),
        ("redis:", "mysql: {user: u, tls: {verify: no}}\nredis:", ["mysql.tls.verify", "is unknown"]),
        ("redis:", "mysql: {user: u, tls: certainly}\nredis:", ["mysql.tls", "true or false"]),
        (
            "redis:",
            "mysql: {user: u, tls: {minimum_version: TLSv1.1}}\nredis:",
            ["mysql.tls.minimum_version"],
        ),
        ("columns: [id]", "columns: [id, id]", ["columns[1]", "'id'", "twice"]),
        ("columns: [id]", "columns: [id, ID]", ["columns[1]", "'ID'", "twice"]),
        (
            "columns: [id]",
            "columns: [id], columns: [nr]",
            ["tables[0].columns", "stands there twice, in line 5 too"],
        ),
        ("columns: [id]", "columns: []", ["tables[0].columns of t.t: is empty"]),
        ("{type: hash,", "{type: set,", ["write[0].member", "a set needs it"]),
        ("{type: hash,", "{type: hash, member: x,", ["write[0].member", "not a field of a hash"]),
        ("{type: hash,", "{type: hash, ttl: 0,", ["write[0].ttl", "must be 1 to"]),
        ("127.0.0.1:4730", "127.0.0.1:port", ["job_servers[0]", "127.0.0.1:port"]),
        ("job_servers:", "job_server:", ["job_server"]),
        ("password:", "pasword:", ["pasword", "redis"]),
        ("type: hash", "type: string", ["write[0].key", "{column}"]),
        ("tables:", "tables: {}\nno:", ["tables: must be a list, not a mapping"]),
        ("tables:", "tables: null\nno:", ["tables: must be a list, not null"]),
    ],
)
def test_a_mistake_is_named_with_its_field(
    tmp_path: pathlib.Path, old: str, new: str, words: list[str]
) -> None:
    assert old in GOOD
    found = sentences(tmp_path, GOOD.replace(old, new))
    for word in words:
        assert word in found
    assert "hush" not in found


MEMBERS = GOOD.replace(
    "tables:", "mysql: {user: u, password: hush, members: [a, {host: b, port: 3307}]}\ntables:"
)


def test_members_are_hosts_ports_and_sockets(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "worker.yml"
    path.write_text(MEMBERS.replace("[a,", '["[::1]:3308", {unix_socket: /run/s}, a,'))
    mysql = load(str(path)).mysql
    assert mysql is not None
    assert [member.name for member in mysql.servers] == ["::1:3308", "/run/s", "a:3306", "b:3307"]
    path.write_text(GOOD.replace("tables:", "mysql: {user: u, host: db}\ntables:"))
    mysql = load(str(path)).mysql
    assert mysql is not None
    assert [member.name for member in mysql.servers] == ["db:3306"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("user: u,", "user: u, host: c,", ["mysql.members: stands beside host", "members alone"]),
        (
            "user: u,",
            "user: u, port: 1, unix_socket: /s,",
            ["mysql.members: stands beside port, unix_socket"],
        ),
        ("[a, {host: b, port: 3307}]", "[]", ["mysql.members: the list is empty", "name at least one"]),
        ("[a,", "['a b',", ["mysql.members[0]: 'a b' is not an address", "host:port"]),
        ("[a,", "[3306,", ["mysql.members[0]: expected `str`, got `int`"]),
        ("[a,", "[a:99999,", ["mysql.members[0]: 'a:99999' is not an address"]),
        ("port: 3307", "prot: 3307", ["mysql.members[1].prot: is unknown; did you mean port?"]),
        ("port: 3307", "unix_socket: /s", ["mysql.members[1]: needs host or unix_socket, not both"]),
        ("{host: b, port: 3307}", "{port: 3307}", ["mysql.members[1]: needs host or unix_socket"]),
        ("{host: b, port: 3307}", "'a:3306'", ["mysql.members[1]: a:3306 is named twice"]),
        ("[a, {host: b, port: 3307}]", "a", ["mysql.members: expected `array`, got `str`; write a list"]),
    ],
)
def test_a_mistake_in_the_members_is_named_with_its_field(
    tmp_path: pathlib.Path, old: str, new: str, words: list[str]
) -> None:
    assert old in MEMBERS
    found = sentences(tmp_path, MEMBERS.replace(old, new))
    for word in words:
        assert word in found
    assert len(found.splitlines()) == 1
    assert "hush" not in found


def test_all_mistakes_are_named_at_once(tmp_path: pathlib.Path) -> None:
    found = sentences(
        tmp_path, GOOD.replace("k:{id}", "k:{city}").replace("4730", "99999") + "worker: {processes: 0}\n"
    )
    assert len(found.splitlines()) == 3


WRONG = """\
job_servers: ["127.0.0.1"]
job_servers: [good, "bad:port"]
redis:
  pasword: hush
  port: hush
worker: {batch: many, sweep: 0}
mysql: {host: db}
tables:
  - table: s.a
    columns: [id, city]
    transform: "gearsync_no_such:function"
    write:
      - {type: hash, key: "a:{idd}"}
      - {type: hash, key: "b:{id}", ttl: soon}
      - {typ: hash, key: "c:{id}"}
  - {columns: [id], write: []}
  - just text
"""
#: The line, the path, the message and the hint of each mistake in it.
PLACES = [
    (2, "job_servers", "stands there twice, in line 1 too", "leave one of them out"),
    (2, "job_servers[1]", "'bad:port' is not an address", "write host, host:port or [v6]:port"),
    (4, "redis.pasword", "is unknown", "did you mean password?"),
    (5, "redis.port", "expected `int`, got `str`", "write a whole number"),
    (6, "worker.batch", "expected `int`, got `str`", "write a whole number"),
    (6, "worker.sweep", "must be greater than 0", "the default is 0.25 seconds"),
    (7, "mysql.user", "is missing", "it has no default: add it"),
    (
        11,
        "tables[0].transform",
        "transform gearsync_no_such:function: ModuleNotFoundError: No module named 'gearsync_no_such'",
        "worker.python_path is the directory of your modules",
    ),
    (13, "tables[0].write[0].key", "'a:{idd}' names 'idd', which is not in columns", "did you mean id?"),
    (14, "tables[0].write[1].ttl", "must be a whole number, not text", "write digits without quotes"),
    (15, "tables[0].write[2].typ", "is unknown", "did you mean type?"),
    (15, "tables[0].write[2].type", "is missing", "a write needs it"),
    (16, "tables[1].table", "is missing", "it has no default: add it"),
    (16, "tables[1].write", "is empty", "name at least one"),
    (17, "tables[2]", "must be a mapping, not text", "begin with table: schema.table"),
]


def test_every_mistake_has_its_line_its_place_and_a_hint(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "worker.yml"
    path.write_text(WRONG)
    assert main(["check-config", "--config", str(path), "--json"]) == BAD_CONFIG
    found = [
        (place["line"], place["path"], place["message"], place["hint"])
        for place in msgspec.json.decode(capsys.readouterr().out)
    ]
    assert found == PLACES
    assert main(["check-config", "--config", str(path)]) == BAD_CONFIG
    shown = capsys.readouterr().err
    assert f"{path}:4: redis.pasword: is unknown; did you mean password?" in shown
    assert len(shown.splitlines()) == len(found)
    assert "hush" not in shown


def test_a_field_that_is_missing_hides_no_other_mistake(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "worker.yml"
    path.write_text("""\
source: "a b"
worker: {batch: 0}
tables:
  - table: s.a
    write: [{type: hash, key: "a:{id}"}, {type: blob}]
  - columns: [id]
    events: [never]
    write: [{type: hash, key: "b:{no}"}, {key: "c:{id"}]
""")
    _config, found = inspect(str(path))
    assert [(place.path, place.message) for place in found] == [
        ("job_servers", "is missing"),
        ("source", "'a b' cannot be the name of a source"),
        ("mysql", "is needed for the durable delivery of s.a"),
        ("worker.batch", "0 is not between 1 and 10000"),
        ("tables[0].columns", "is missing"),
        ("tables[0].write[1].type", "'blob' is unknown"),
        ("tables[0].write[1].key", "is missing"),
        ("tables[1].table", "is missing"),
        ("tables[1].events[0]", "'never' is unknown"),
        ("tables[1].write[0].key", "'b:{no}' names 'no', which is not in columns"),
        ("tables[1].write[1].type", "is missing"),
        ("tables[1].write[1].key", "'c:{id' has a '{' without its partner at character 3"),
    ]
    assert all(place.hint for place in found), [place for place in found if not place.hint]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("- a", "1: not a mapping"),
        ("a: [", ":1: not YAML"),
        ("a: b: c", ":1: not YAML"),
        ("a: !!python/name:x y", ":1: not YAML"),
        ("\x00", "not YAML"),
        ("a: &a [*a]", ":1: not YAML"),
        ("? [a]\n: b", "not YAML"),
    ],
)
def test_text_that_is_no_configuration_is_told_so(tmp_path: pathlib.Path, text: str, words: str) -> None:
    assert words in sentences(tmp_path, text)


@pytest.mark.parametrize(
    "damaged",
    [
        'redis: {passwor"hush"}',
        "redis: {passwordhush}",
        'redis: {password"hush"}',
        "redis: {hush}",
        'redis: {host: h, "hush"}',
        "redis: {}\nhush, port: 1}",
        "redis: {hush, hush}",
    ],
)
def test_a_password_that_has_become_a_name_is_not_told(tmp_path: pathlib.Path, damaged: str) -> None:
    found = sentences(tmp_path, damaged + "\n" + GOOD.partition("\n")[2])
    assert "hush" not in found
    assert "unknown" in found


@pytest.mark.parametrize("password", ["!hush", "*hush", "!hu'sh!hush", "%hush"])
def test_a_password_that_yaml_takes_for_something_else_is_not_told(
    tmp_path: pathlib.Path, password: str
) -> None:
    assert "hush" not in sentences(tmp_path, GOOD.replace('"hush"', password))


@given(st.data())
def test_no_damage_to_a_file_does_more_than_be_told(data: st.DataObject) -> None:
    text = (
        GOOD.replace("direct", "durable")
        + "mysql: {user: u, password: hush, port: 1}\nworker: {lease: 2.5, log_level: info}\n"
    )
    for _number in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        text = (
            text[:start]
            + data.draw(st.text("{}[]:,#&*!|>'\"\n -x0", max_size=3))
            + text[start + data.draw(st.integers(0, 8)) :]
        )
    with tempfile.NamedTemporaryFile() as file:
        pathlib.Path(file.name).write_text(text)
        config, found = inspect(file.name)
    assert (config is None) <= bool(found)
    assert "hush" not in "".join(map(str, found)), "".join(map(str, found))


def test_check_config_exits_with_2_for_a_bad_file(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-config", "--config", str(tmp_path / "none.yml")]) == BAD_CONFIG
    assert "none.yml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h", ("h", 4730)),
        ("h:1", ("h", 1)),
        ("[::1]", ("::1", 4730)),
        ("[2001:db8::7]:5", ("2001:db8::7", 5)),
    ],
)
def test_addresses_are_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":1", "h:", "h:0", "h:65536", "::1", "h h", "[::1", "a:b:c"])
def test_nonsense_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be the address of a job server"):
        parse_address(text)


def test_durable_is_the_default_and_a_transform_is_looked_for(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "worker.yml"
    path.write_text(
        GOOD.replace("delivery: direct", "transform: 'gearsync_no_such:function'") + "mysql: {user: u}\n"
    )
    assert load(str(path)).tables[0].delivery == "durable"
    assert main(["check-config", "--config", str(path)]) == BAD_CONFIG
    assert "gearsync_no_such" in capsys.readouterr().err
