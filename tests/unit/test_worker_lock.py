# SPDX-License-Identifier: GPL-3.0-or-later
"""requirements.lock of the role worker has all that the worker needs, on every Python, with hashes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re

import pytest
from harness.places import ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = (ROOT / "roles/worker/files/requirements.lock").read_text(encoding="utf-8")
PYTHONS = ["3.9.2", "3.10.12", "3.11.2", "3.12.3", "3.13.5", "3.14.0"]

_spec = importlib.util.spec_from_file_location("wheelhouse", ROOT / "roles/worker/files/wheelhouse.py")
assert _spec
assert _spec.loader
wheelhouse = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(wheelhouse)


def environment(python: str) -> dict[str, str]:
    return {
        **default_environment(),
        "sys_platform": "linux",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
    }


def pins(python: str) -> dict[str, str]:
    """Name and version of what is installed with ``python``."""
    lines = [line.split(" ")[0].split("==") for line in wheelhouse.locked(LOCK, environment(python))]
    names = [canonicalize_name(name) for name, _version in lines]
    assert len(names) == len(set(names)), f"Python {python} has two releases of one package"
    return {name: version for name, (_name, version) in zip(names, lines)}


def declared() -> list[Requirement]:
    """What pyproject.toml says: the worker's dependencies, and what builds it."""
    text = (ROOT / "worker/pyproject.toml").read_text(encoding="utf-8")
    dependencies = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    build = re.search(r"^requires = \[(.*)\]", text, re.MULTILINE)
    assert dependencies
    assert build
    return [Requirement(each) for each in re.findall(r'"([^"]+)"', dependencies.group(1) + build.group(1))]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_a_release_that_fits_for_each_dependency(python: str) -> None:
    locked = pins(python)
    for requirement in declared():
        version = locked.get(canonicalize_name(requirement.name))
        assert requirement.specifier.contains(version or "0"), (
            f"requirements.lock has {requirement.name} {version}, worker/pyproject.toml wants {requirement}: "
            "run tests/lock"
        )


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_what_the_dependencies_need_themselves(python: str) -> None:
    locked = pins(python)
    looked_at = 0
    for name in locked:
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            # Only older Pythons need it.
            continue
        looked_at += 1
        for requirement in map(Requirement, needs):
            wanted = not requirement.marker or requirement.marker.evaluate(
                {**environment(python), "extra": ""}
            )
            assert not wanted or canonicalize_name(requirement.name) in locked, f"{name} needs {requirement}"
    assert looked_at > len(declared()) - 2


def test_each_release_has_hashes() -> None:
    for line in wheelhouse.locked(LOCK, environment("3.11.2")):
        assert re.fullmatch(r"[\w.-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})+", line), line


def test_lines_of_other_pythons_are_left_out() -> None:
    lock = (
        "# comment\n"
        "a==1 ; python_full_version < '3.10' \\\n    --hash=sha256:11 \\\n    --hash=sha256:12\n"
        "a==2 ; python_full_version >= '3.10' \\\n    --hash=sha256:21\n"
        "b==3 \\\n    --hash=sha256:31\n"
    )
    assert wheelhouse.locked(lock, environment("3.9.2")) == [
        "a==1 --hash=sha256:11 --hash=sha256:12",
        "b==3 --hash=sha256:31",
    ]
    assert wheelhouse.locked(lock, environment("3.11.2")) == [
        "a==2 --hash=sha256:21",
        "b==3 --hash=sha256:31",
    ]


def test_wheels_for_an_older_libc_fit_and_those_for_a_newer_one_do_not() -> None:
    tags = wheelhouse.platforms("x86_64", "glibc 2.31")
    assert tags[0] == "manylinux_2_31_x86_64"
    assert "manylinux_2_17_x86_64" in tags
    assert "manylinux_2_34_x86_64" not in tags


def test_the_lock_was_made_by_the_documented_command() -> None:
    assert LOCK.splitlines()[1].strip("# ") == "tests/lock"
