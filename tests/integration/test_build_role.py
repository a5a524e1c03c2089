# SPDX-License-Identifier: GPL-3.0-or-later
"""The role build compiles once for each platform, and installs nothing that is not what was compiled. This
machine stands for two hosts, each with a directory of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from harness.playbook import LOCAL, ansible_playbook

#: What is "compiled" says where that was.
SCRIPT = "mkdir -p staging/usr && cat archive >staging/usr/made && pwd >>staging/usr/made && {extra}"
PLAYBOOK = """
- hosts: all
  gather_facts: true
  gather_subset: ["!all", distribution]
  tasks:
    - name: Bring it
      ansible.builtin.include_role:
        name: gearsync.mysql_redis.build
      vars:
        build_what:
          name: thing
          key: "{{ key | default('1') }}"
          sources: "{{ place }}/sources"
          script: "{{ script }}"
          packages: []
        __build_dir: "{{ place }}/{{ inventory_hostname }}"
        __build_note: "{{ place }}/note"
"""


class Site:
    """Two hosts, and the controller's cache."""

    def __init__(self, place: Path) -> None:
        self.place, self.cache = place, place / "cache"
        place.mkdir(exist_ok=True)
        (place / "sources").write_text("sources\n")
        (place / "play.yml").write_text(PLAYBOOK)

    def run(self, *options: str, extra: str = "true", hosts: str = "one,two", **variables: str) -> str:
        """Bring it to ``hosts``; what Ansible says, which ends with its status."""
        given = {
            "place": str(self.place),
            "gearsync_build_cache": str(self.cache),
            **LOCAL,
            "script": SCRIPT.format(extra=extra),
            **variables,
        }
        done = ansible_playbook(
            "--inventory", f"{hosts},", "--extra-vars", json.dumps(given), *options, self.place / "play.yml"
        )
        return f"{done.text} status {done.status}"

    def archive(self, host: str) -> bytes:
        return (self.place / host / "built.tar.gz").read_bytes()

    def kept(self) -> Path:
        (archive,) = self.cache.glob("*.tar.gz")
        return archive


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "bare")


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("site") / "first")
    output = site.run()
    assert output.endswith("status 0"), output
    return site


@pytest.fixture
def compiled(first_run: Site, tmp_path: Path) -> Site:
    """A site after a run for two hosts."""
    shutil.copytree(first_run.place, tmp_path / "compiled")
    return Site(tmp_path / "compiled")


def test_one_host_compiles_and_the_others_get_the_same(compiled: Site) -> None:
    assert compiled.archive("one") == compiled.archive("two") == compiled.kept().read_bytes()
    before = compiled.kept().stat().st_mtime_ns
    output = compiled.run(hosts="three")
    assert output.endswith("status 0"), output
    assert "Compile and pack" not in output
    assert compiled.kept().stat().st_mtime_ns == before
    assert compiled.archive("three") == compiled.archive("one")


@pytest.mark.long
def test_other_sources_are_compiled_beside_those_of_before(compiled: Site) -> None:
    compiled.run(hosts="one", key="2")
    assert len(list(compiled.cache.glob("*.tar.gz"))) == len(list(compiled.cache.glob("*.json"))) == 2


@pytest.mark.long
def test_each_host_compiles_for_itself_when_it_is_told_to(site: Site) -> None:
    output = site.run(gearsync_build="per_host")
    assert output.endswith("status 0"), output
    assert site.archive("one") != site.archive("two")
    assert not site.cache.exists()


def test_an_archive_that_was_changed_in_the_cache_is_refused(compiled: Site) -> None:
    kept = compiled.kept()
    kept.write_bytes(kept.read_bytes() + b"more")
    output = compiled.run(hosts="three")
    assert output.endswith("status 2"), output
    assert "is not what was compiled" in output
    assert not (compiled.place / "three").exists()


@pytest.mark.long
def test_an_archive_that_is_missing_in_the_cache_is_named(compiled: Site) -> None:
    compiled.kept().unlink()
    output = compiled.run(hosts="three")
    assert "is missing" in output
    assert output.endswith("status 2"), output


def test_a_build_that_fails_shows_its_log_and_leaves_the_cache_empty(site: Site) -> None:
    output = site.run(extra="echo no such header >&2 && false")
    assert output.endswith("status 2"), output
    assert "no such header" in output
    assert (
        "thing was not compiled for two: it waited for the build of one, which failed on one, see above. "
        "Repair that, and run this again; or let each host compile for itself, by -e "
        "gearsync_build=per_host. Nothing was installed on two."
    ) in output
    assert not list(site.place.glob("cache/*"))


def test_check_mode_says_what_would_be_done_and_does_nothing(site: Site, compiled: Site) -> None:
    output = site.run("--check")
    assert output.endswith("status 0"), output
    assert "thing would be compiled on one and kept on the controller, and installed" in output
    assert "thing would be compiled once for this platform and taken from the controller" in output
    assert {path.name for path in site.place.iterdir()} == {"sources", "play.yml"}
    assert "thing would be taken from the controller" in compiled.run("--check", hosts="three")
