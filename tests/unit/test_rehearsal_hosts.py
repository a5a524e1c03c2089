# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rehearsal hosts of Enterprise Linux are made of (molecule/hosts/el): a list of packages that the
releases share, and what each has otherwise.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from harness.places import ROOT

HOSTS = ROOT / "molecule/hosts"
RELEASES = ("el8", "el9", "el10")
OPTIONS = {
    *("repo", "debs", "version", "epoch", "requires", "provides", "conflicts", "bare", "files", "refuse"),
    *("module", "profile"),
}
#: Of EPEL, which the rehearsal hosts do not have.
FOREIGN = {"libgearman-devel"}


def script(path: Path) -> ModuleType:
    """A program without a suffix, as a module."""
    loader = importlib.machinery.SourceFileLoader(path.name, str(path))
    spec = importlib.util.spec_from_loader(path.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


build = script(HOSTS / "el/build")
image = script(HOSTS / "image")


@pytest.mark.parametrize("name", RELEASES)
def test_each_option_has_a_meaning(name: str) -> None:
    release = build.Release(name)
    for package, options in release.packages.items():
        unknown = options.keys() - OPTIONS - release.values.keys()
        assert not unknown, f"{package}: {unknown}"
        assert options["repo"] in {"baseos", "appstream", "crb"}, package
        assert "debs" in options, package


@pytest.mark.parametrize("name", RELEASES)
def test_what_a_package_requires_is_there(name: str) -> None:
    release = build.Release(name)
    provided = {word for options in release.packages.values() for word in options.get("provides", "").split()}
    there = provided | release.packages.keys() | set(release.bare)
    wanted = {word for options in release.packages.values() for word in options.get("requires", "").split()}
    assert wanted - there == set()


def role_packages(release: str) -> set[str]:
    """The names that the roles install on that release: in their variables the lists of packages."""
    names: set[str] = set()

    def collect(key: str, value: object) -> None:
        if isinstance(value, dict):
            for inner, item in value.items():
                collect(inner, item)
        elif isinstance(value, list) and re.search("packages$", key):
            names.update(value)

    for directory in sorted((ROOT / "roles").glob("*/vars")):
        variables: dict[str, object] = {}
        for file in ("RedHat.yml", f"RedHat_{release.removeprefix('el')}.yml"):
            if (directory / file).exists():
                variables |= yaml.safe_load((directory / file).read_text(encoding="utf-8"))
        for key, value in variables.items():
            # Of the server that the platform has by default.
            if key not in {"__redis_platform_redis", "__redis_platform_valkey"} or key.endswith(
                str(variables["__redis_default_flavor"])
            ):
                collect(key, value)
    return names - FOREIGN


@pytest.mark.parametrize("name", RELEASES)
def test_a_rehearsal_host_has_each_package_of_the_roles(name: str) -> None:
    release = build.Release(name)
    streams = {f"@{options['module']}" for options in release.packages.values() if "module" in options}
    wanted = role_packages(name)
    assert wanted - streams - release.packages.keys() - set(release.bare) == set()
    assert (wanted & streams != set()) == (name == "el8")


def test_releases_differ_in_what_their_directories_say() -> None:
    names = {name: build.Release(name).packages for name in RELEASES}
    assert names["el9"]["gcc"]["debs"].split()[:2] == ["gcc", "gcc-12"]
    assert names["el10"]["gcc"]["debs"].split()[2] == "gcc-14"
    assert "redis" not in names["el10"]
    assert names["el8"]["redis"]["repo"] == names["el9"]["redis"]["repo"]
    assert [names[name]["gperf"]["repo"] for name in RELEASES] == ["crb", "crb", "appstream"]


def test_a_repository_lists_its_module_streams() -> None:
    release = build.Release("el8")
    for options in release.packages.values():
        options.setdefault("version", "1.2")
    documents = list(yaml.safe_load_all(build.modules(release, "x86_64")))
    assert [document["document"] for document in documents[:2]] == ["modulemd", "modulemd-defaults"]
    streams = {
        document["data"]["name"]: document["data"]
        for document in documents
        if document["document"] == "modulemd"
    }
    assert streams.keys() == {"mariadb", "mysql", "redis"}
    mariadb = streams["mariadb"]
    assert mariadb["stream"] == "10.11"
    assert mariadb["profiles"] == {"server": {"rpms": ["mariadb-server"]}}
    assert "mariadb-server-3:1.2-1.el8.x86_64" in mariadb["artifacts"]["rpms"]
    # Nothing is installed from a stream that was not asked for.
    assert "stream" not in json.dumps([document["data"] for document in documents[1::2]])


def test_a_release_without_streams_lists_none() -> None:
    assert build.modules(build.Release("el10"), "x86_64") == ""


def test_an_image_depends_on_what_releases_share_and_on_its_own_directory() -> None:
    files = {name: set(image.ingredients(name)) for name in image.SUITES}
    assert files["debian12"] == set()
    assert set(image.REHEARSALS) == set(RELEASES)
    for name in RELEASES:
        assert HOSTS / "el/packages.ini" in files[name]
        others = set(RELEASES) - {name}
        assert not any(f"/el/{other}/" in str(path) for path in files[name] for other in others)
    assert HOSTS / "el/el8/finish" in files["el8"]
    assert HOSTS / "el/el8/fixup/redis" in files["el8"]
    assert image.PLATFORMS.keys() == image.SUITES.keys()
