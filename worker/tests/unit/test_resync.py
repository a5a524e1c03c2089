# SPDX-License-Identifier: GPL-3.0-or-later
"""How a resync limits its load."""

from __future__ import annotations

import pytest
from gearsync.cli.resync import _replica
from gearsync.declare.configuration import MySQLSettings
from gearsync.declare.tls import TlsSettings
from gearsync.operate.resync.limits import Limits, pause


def test_it_sleeps_in_proportion_to_what_the_server_needed_for_a_piece() -> None:
    limits = Limits(nice_ratio=2.0)
    assert pause(limits, 100, 0.01, 0.5) == pytest.approx(0.02)
    assert pause(limits, 100, 0.1, 0.5) == pytest.approx(0.2)


def test_it_is_not_nice_for_so_long_that_the_server_ends_its_session() -> None:
    assert pause(Limits(nice_ratio=10.0), 1, 30.0, 30.0) == 5.0


def test_a_ratio_of_zero_does_not_sleep() -> None:
    assert pause(Limits(nice_ratio=0.0), 100, 0.1, 0.1) == 0.0


def test_a_rate_is_kept_over_the_whole_turn_and_niceness_comes_on_top_only_where_it_is_more() -> None:
    limits = Limits(nice_ratio=1.0, rate=1000.0)
    assert pause(limits, 500, 0.1, 0.2) == pytest.approx(0.3)
    assert pause(limits, 500, 0.1, 0.9) == pytest.approx(0.1)


def test_a_replica_is_watched_by_the_settings_of_the_primary_but_for_its_address() -> None:
    tls = TlsSettings(ca="/etc/ca.pem")
    primary = MySQLSettings(user="worker", password="word", unix_socket="/run/socket", tls=tls)
    replica = _replica(primary, "db2:3307")
    assert [member.name for member in replica.servers] == ["db2:3307"]
    assert (replica.user, replica.password, replica.tls) == ("worker", "word", tls)
