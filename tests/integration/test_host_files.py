# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host_files: what it writes and removes, and what it says of that in check mode and diff mode."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.modules import ModuleRunner

Apply = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def runner() -> Iterator[ModuleRunner]:
    runner = ModuleRunner()
    yield runner
    runner.remove()


@pytest.fixture
def apply(runner: ModuleRunner, tmp_path: Path) -> Apply:
    """Run the module for files of the test's directory: what it returns, failed or not."""
    owner = {"owner": tmp_path.owner(), "group": tmp_path.group()}

    def apply(*files: dict[str, Any], check: bool = False) -> dict[str, Any]:
        wanted = [{**owner, **file, "path": str(tmp_path / file["path"])} for file in files]
        options = {"_ansible_check_mode": check, "_ansible_diff": True}
        result: dict[str, Any] = json.loads(runner.run("host_files", {"files": wanted, **options})[1])
        return result

    return apply


def tree(directory: Path) -> dict[str, tuple[str, str]]:
    """The files of a directory, each with its content and mode."""
    return {
        str(path.relative_to(directory)): (path.read_text(), oct(path.stat().st_mode & 0o7777))
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_it_writes_and_removes_as_check_mode_says_and_a_second_run_changes_nothing(
    apply: Apply, tmp_path: Path
) -> None:
    (tmp_path / "old").write_text("former\n")
    (tmp_path / "gone").write_text("not wanted\n")
    files = [
        {"path": "old", "content": "today\n", "mode": "0640"},
        {"path": "directory/new", "content": "new\n"},
        {"path": "gone", "state": "absent"},
        {"path": "never", "state": "absent", "content": "what a task gives anyway"},
    ]
    before = tree(tmp_path)
    predicted = apply(*files, check=True)
    assert predicted["changed"]
    assert tree(tmp_path) == before
    done = apply(*files)
    assert tree(tmp_path) == {"old": ("today\n", "0o640"), "directory/new": ("new\n", "0o644")}
    assert (
        done["paths"]
        == predicted["paths"]
        == [str(tmp_path / name) for name in ("old", "directory/new", "gone")]
    )
    assert [(each["before"], each["after"]) for each in done["diff"]] == [
        ("former\n", "today\n"),
        ("", "new\n"),
        ("not wanted\n", ""),
    ]
    assert done["diff"] == predicted["diff"]
    for check in (True, False):
        again = apply(*files, check=check)
        assert (again["changed"], again["paths"], again["diff"]) == (False, [], [])


def test_it_corrects_the_mode_of_a_file_that_has_its_content(apply: Apply, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x\n")
    path.chmod(0o644)
    wanted = {"path": "secret", "content": "x\n", "mode": "0600"}
    assert apply(wanted, check=True)["diff"][0]["before"] == {"mode": "0644"}
    assert oct(path.stat().st_mode & 0o7777) == "0o644"
    assert apply(wanted)["changed"]
    assert oct(path.stat().st_mode & 0o7777) == "0o600"


def test_a_content_that_is_refused_leaves_the_file_as_it_is(apply: Apply, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("good\n")
    wanted = {"path": "list", "validate": "grep -q good %s"}
    refused = apply({**wanted, "content": "bad\n"})
    assert refused["msg"] == f"{tmp_path / 'list'} was left as it is, because its new content is not valid"
    assert tree(tmp_path) == {"list": ("good\n", "0o644")}
    assert apply({**wanted, "content": "good, too\n"})["changed"]


def test_a_directory_is_refused_before_anything_changes(apply: Apply, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    refused = apply({"path": "new", "content": ""}, {"path": "directory", "state": "absent"})
    assert "directory is not the absolute path of a file. Nothing was changed." in refused["msg"]
    assert tree(tmp_path) == {}


def test_a_link_that_leads_nowhere_is_removed(apply: Apply, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert apply({"path": "link", "state": "absent"})["changed"]
    assert not (tmp_path / "link").is_symlink()


def test_a_directory_that_is_made_can_be_entered_whatever_the_umask_is(
    tmp_path: Path,
) -> None:
    file = {"path": str(tmp_path / "made/here/new"), "content": "new\n", "mode": "0640"}
    owner = {"owner": tmp_path.owner(), "group": tmp_path.group()}
    former = os.umask(0o077)
    try:
        # The runner's process has this test's umask.
        fresh = ModuleRunner()
        assert json.loads(fresh.run("host_files", {"files": [{**file, **owner}]})[1])["changed"]
        fresh.remove()
    finally:
        os.umask(former)
    assert [oct((tmp_path / part).stat().st_mode & 0o777) for part in ("made", "made/here")] == ["0o755"] * 2
    assert oct((tmp_path / "made/here/new").stat().st_mode & 0o777) == "0o640"


def test_a_directory_is_made_with_its_mode_before_what_is_in_it(apply: Apply, tmp_path: Path) -> None:
    files = [
        {"path": "private", "state": "directory", "mode": "0750"},
        {"path": "private/secret", "content": "x\n", "mode": "0640"},
        {"path": "open", "state": "directory"},
    ]
    predicted = apply(*files, check=True)
    assert list(tmp_path.iterdir()) == []
    done = apply(*files)
    assert done == predicted
    assert done["paths"] == [str(tmp_path / name) for name in ("private", "private/secret", "open")]
    assert [oct((tmp_path / name).stat().st_mode & 0o7777) for name in ("private", "open")] == [
        "0o750",
        "0o755",
    ]
    (tmp_path / "private").chmod(0o777)
    for check, mode in ((True, 0o777), (False, 0o750)):
        assert apply(*files, check=check)["paths"] == [str(tmp_path / "private")]
        assert (tmp_path / "private").stat().st_mode & 0o7777 == mode
    assert not apply(*files)["changed"]
    for wrong in ({"path": "private/secret", "state": "directory"}, {"path": "open", "content": ""}):
        refused = apply(*files, wrong)
        assert "Nothing was changed." in refused["msg"]
