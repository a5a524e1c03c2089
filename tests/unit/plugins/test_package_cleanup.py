# SPDX-License-Identifier: GPL-3.0-or-later
"""package_cleanup: what of the packages that came for a build goes with it, by the plans of the package
managers.
"""

from __future__ import annotations

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._packages import (
    Plan,
    dnf_plan,
    removable,
)

#: What dnf 4 prints for `dnf --assumeno remove gcc-c++`.
DNF_REMOVES_A_COMPILER = """\
Dependencies resolved.
================================================================================
 Package                Arch        Version            Repository          Size
================================================================================
Removing:
 gcc-c++                x86_64      12.2.0-1.el9       @appstream          31 M
Removing unused dependencies:
 gcc                    x86_64      12.2.0-1.el9       @appstream          72 M
 libstdc++-devel        x86_64      12.2.0-1.el9       @appstream          20 M

Transaction Summary
================================================================================
Remove  3 Packages

Operation aborted.
"""


class Manager:
    """Plans as of a package manager: what each package needs, which of them were asked for by somebody."""

    def __init__(self, needs: dict[str, set[str]], asked_for: set[str]) -> None:
        self.needs = needs
        self.asked_for = asked_for

    def simulate(self, names: list[str], unneeded: bool) -> Plan:
        gone = set(names)
        while True:
            more = {name for name, needs in self.needs.items() if needs & gone} - gone
            if unneeded:
                left = set(self.needs) - gone
                needed = set().union(*(self.needs[name] for name in left))
                more |= left - needed - self.asked_for
            if not more:
                return Plan([], sorted(gone), {}, [], "")
            gone |= more


HOST = {"gcc": {"binutils", "libc6-dev"}, "binutils": set(), "libc6-dev": set(), "vim": set()}


def test_what_came_goes_with_what_only_it_needs():
    manager = Manager(HOST, {"gcc", "vim"})
    assert removable(manager, ["gcc"], {"gcc", "binutils", "libc6-dev"}) == (
        ["binutils", "gcc", "libc6-dev"],
        [],
    )


def test_what_was_there_before_stays_when_nothing_needs_it_any_more():
    manager = Manager(HOST, {"gcc"})
    assert removable(manager, ["gcc"], {"gcc", "libc6-dev"}) == (["gcc", "libc6-dev"], [])


def test_what_another_package_needs_meanwhile_stays():
    manager = Manager({**HOST, "dkms": {"binutils"}}, {"gcc", "dkms"})
    assert removable(manager, ["gcc"], {"gcc", "binutils", "libc6-dev"}) == (["gcc", "libc6-dev"], [])


def test_nothing_goes_when_another_package_would_go_too():
    manager = Manager({**HOST, "dkms": {"gcc"}}, {"gcc", "dkms"})
    assert removable(manager, ["gcc"], {"gcc", "binutils"}) == ([], ["dkms"])


def test_nothing_to_remove_asks_no_package_manager():
    assert removable(None, [], {"gcc"}) == ([], [])


def test_dnf_names_what_it_removes_and_what_only_that_needed():
    assert dnf_plan(1, DNF_REMOVES_A_COMPILER, "").removes == ["gcc", "gcc-c++", "libstdc++-devel"]
