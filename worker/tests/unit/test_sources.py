# SPDX-License-Identifier: GPL-3.0-or-later
"""Which configuration files a command is about."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml
from gearsync.cli.main import main
from gearsync.cli.several_sources import worst
from gearsync.cli.sources import SourceFile, choose, names_of
from gearsync.declare.configuration import ConfigError

FILE: dict[str, Any] = {"job_servers": ["127.0.0.1:1"]}


def _write(directory: pathlib.Path, **sources: dict[str, Any]) -> list[str]:
    """The options that name a directory with a file for each."""
    for name, members in sources.items():
        (directory / f"{name}.yml").write_text(yaml.safe_dump({**FILE, **members}))
    return ["--config-dir", str(directory)]


def _chosen(files: list[str], source: str | None = None) -> list[str]:
    return [file.name for file in choose("/etc/gearsync", files, source)]


def test_only_files_named_after_a_source_are_configurations() -> None:
    others = [
        *("..", ".", "python", ".yml", "..yml", "...yml", ".orders.yml", ".#orders.yml", "#orders.yml#"),
        *("orders.yml~", ".orders.yml.swp", "orders.yml.bak", "orders.yml.rpmnew", "orders.yml.dpkg-dist"),
        *("orders.yml.4711.2026-11-29@21:48:27~", "orders.YML", "orders.yaml", "or ders.yml", "örders.yml"),
        *(f"{'a' * 65}.yml", "orders.yml\n", "or\nders.yml"),
    ]
    assert names_of(others) == []
    ours = ["users.yml", "orders.yml", "a.b-c_D.yml", "main.yml.yml", "-.yml", f"{'a' * 64}.yml"]
    assert names_of([*others, *ours]) == ["-", "a.b-c_D", "a" * 64, "main.yml", "orders", "users"]


def test_the_one_configuration_is_used_or_all_of_them() -> None:
    assert choose("/etc/gearsync", ["orders.yml", "python"], None) == [
        SourceFile("/etc/gearsync/orders.yml", "orders", "orders")
    ]
    assert _chosen(["users.yml", "orders.yml"]) == ["orders", "users"]


def test_a_source_is_chosen_by_its_name() -> None:
    assert choose("/etc/gearsync", ["users.yml", "orders.yml"], "users") == [
        SourceFile("/etc/gearsync/users.yml", "users", "users")
    ]


@pytest.mark.parametrize(
    "source", ["", "..", "../users", "/etc/passwd", "users.yml", ".users", "a" * 65, "a\n"]
)
def test_no_other_file_is_chosen_by_a_name(source: str) -> None:
    with pytest.raises(ConfigError, match=r"--source: |has no users.yml.yml; there are: orders, users"):
        _chosen(["users.yml", ".users.yml", "orders.yml", "...yml"], source)


def test_what_there_is_stands_in_the_error() -> None:
    with pytest.raises(ConfigError, match=r"/etc/gearsync has no sales\.yml; there are: orders, users"):
        _chosen(["users.yml", "orders.yml"], "sales")
    with pytest.raises(ConfigError, match=r"no configuration of any source"):
        _chosen(["users.yml~"], "users")
    with pytest.raises(ConfigError, match=r"/etc/gearsync has no configuration SOURCE\.yml; give --config"):
        _chosen(["users.yml~"])


def test_the_file_of_the_former_layout_is_of_any_source() -> None:
    former = "/etc/gearsync/worker.yml"
    assert choose("/etc/gearsync", ["worker.yml", "python"], None) == [SourceFile(former, "worker", None)]
    assert choose("/etc/gearsync", ["worker.yml"], "main") == [SourceFile(former, "worker", "main")]
    # Beside others it is a source's like those.
    assert choose("/etc/gearsync", ["worker.yml", "main.yml"], None)[1].source == "worker"
    assert choose("/etc/gearsync", ["worker.yml", "main.yml"], "main")[0].name == "main"


def test_a_known_difference_outranks_what_is_not_known() -> None:
    assert [worst(statuses) for statuses in ([0, 0], [0, 2], [2, 1, 0], [1, 0], [])] == [0, 2, 1, 1, 0]


@pytest.mark.parametrize(
    "command",
    [["run"], ["resync"], ["barrier"], ["read-back"], ["dead-letter", "list"], ["dead-letter", "drop"]],
)
def test_a_command_of_one_source_lists_those_to_choose_from(
    command: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _write(tmp_path, orders={"source": "orders"}, users={"source": "users"})
    assert main([*command, *options]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path} has the configurations of several sources: give --source, one of orders, users\n"
    )


def test_the_name_of_a_file_must_be_that_of_its_source(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _write(tmp_path, main={}, orders={"source": "users"})
    assert main(["check-config", *options, "--source", "main"]) == 0
    assert main(["resync", *options, "--source", "orders"]) == 2
    assert "orders.yml:3: source: users is not orders, the name of the file" in capsys.readouterr().err
    # A file that is named itself may have any name.
    assert main(["check-config", "--config", str(tmp_path / "orders.yml")]) == 0


def test_all_sources_are_checked(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = _write(tmp_path, orders={"source": "orders"}, users={"source": "users", "tables": 1})
    (tmp_path / "zoo.yml").mkdir()
    assert main(["check-config", *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ("source orders\nok: 0 tables, 1 job servers\n\nsource users\n\nsource zoo\n")
    assert [line.partition(": ")[0] for line in shown.err.splitlines()] == [
        f"{tmp_path}/users.yml:4",
        f"{tmp_path}/zoo.yml",
    ]
    assert main(["check-config", *options, "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == 2
    assert answer["sources"]["orders"] == []
    assert answer["sources"]["users"][0]["path"] == "tables"
    assert answer["sources"]["zoo"][0]["message"] == "Is a directory"
    assert main(["check-config", *options, "--source", "orders", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_a_source_and_a_file_exclude_each_other(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _write(tmp_path, orders={"source": "orders"})
    file = str(tmp_path / "orders.yml")
    assert main(["check-config", *options, "--source", "orders", "--config", file]) == 2
    assert main(["dead-letter", "--config", file, "list", "--source", "orders", *options]) == 2
    assert capsys.readouterr().err == "give --source or --config, not both\n" * 2


def test_a_directory_that_cannot_be_read_is_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--config-dir", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/absent: No such file or directory\n"
