# SPDX-License-Identifier: GPL-3.0-or-later
"""`make release`, in a clone of the checkout."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from harness.places import ROOT


def git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", "-C", checkout, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.strip()


def release(checkout: Path, version: str) -> tuple[int, str]:
    """Exit status and output of the release of that version."""
    done = subprocess.run(
        [sys.executable, checkout / "tests/release", version], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone with the scripts as they are here, and one fragment."""
    clone = tmp_path / "checkout"
    git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
    git(clone, "config", "user.name", "A maintainer")
    git(clone, "config", "user.email", "maintainer@example.com")
    for name in ("tests/release", "tests/build"):
        (clone / name).write_bytes((ROOT / name).read_bytes())
    for fragment in (clone / "changelogs/fragments").iterdir():
        fragment.unlink()
    (clone / "changelogs/fragments/new.yml").write_text("---\nminor_changes:\n  - worker - is new.\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "Prepare the test")
    return clone


def test_a_release_is_built_twice_and_gives_archive_changelog_checksums_and_the_name_of_the_tag(
    checkout: Path, tmp_path: Path
) -> None:
    status, output = release(checkout, "1.1.0")
    assert status == 0, output
    assert "git tag --annotate 1.1.0 " in output
    assert git(checkout, "log", "-1", "--format=%s") == "Release 1.1.0"
    assert git(checkout, "status", "--porcelain") == ""
    made = checkout / ".work/release"
    archive = "gearsync-mysql_redis-1.1.0.tar.gz"
    assert sorted(path.name for path in made.iterdir()) == ["CHANGELOG.rst", "SHA256SUMS", archive]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], check=True, cwd=made)
    assert "worker - is new." in (made / "CHANGELOG.rst").read_text()
    for name in ("galaxy.yml", "worker/pyproject.toml", "worker/src/gearsync/__init__.py"):
        assert "1.1.0" in (checkout / name).read_text()
    # Who builds the commit again gets the same archive.
    clone = tmp_path / "clone"
    git(ROOT, "clone", "--quiet", str(checkout), str(clone))
    subprocess.run([sys.executable, clone / "tests/build", tmp_path], check=True, stdout=subprocess.DEVNULL)
    digests = {hashlib.sha256((place / archive).read_bytes()).hexdigest() for place in (made, tmp_path)}
    assert len(digests) == 1
    # The fragment has been used.
    assert "has no fragment" in release(checkout, "1.2.0")[1]


#: What is said of each version that cannot be.
REFUSED = {
    "1.1": "three numbers",
    "v1.1.0": "three numbers",
    "1.0.0": "version 1.0.0 exists",
    "2.0.0": "version 2.0.0 exists",
    "0.9.0": "older than 1.0.0",
    "1.0.1": "a new minor version",
}


def test_a_version_that_cannot_be_is_refused(checkout: Path) -> None:
    git(checkout, "tag", "2.0.0")
    before = git(checkout, "log", "-1", "--format=%H")
    for version, refusal in REFUSED.items():
        status, output = release(checkout, version)
        assert (status, refusal in output) == (1, True), output
    assert git(checkout, "log", "-1", "--format=%H") == before


def test_a_checkout_with_changes_is_refused(checkout: Path) -> None:
    for path in ("roles/worker/tasks/new.yml", "README.md"):
        with (checkout / path).open("a") as file:
            file.write("\n")
        status, output = release(checkout, "1.1.0")
        assert status == 1
        assert "the checkout has changes" in output
        assert path in output


def test_a_release_without_a_fragment_is_refused(checkout: Path) -> None:
    git(checkout, "rm", "--quiet", "changelogs/fragments/new.yml")
    git(checkout, "commit", "--quiet", "--message", "Remove the fragment")
    status, output = release(checkout, "1.1.0")
    assert status == 1
    assert "has no fragment" in output
