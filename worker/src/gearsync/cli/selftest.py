# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync selftest`: checks that every configured server can be used."""

from __future__ import annotations

import argparse

from gearsync.declare.configuration import Config
from gearsync.operate.selftest import results

OK, FAILED = 0, 1


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(config: Config, _options: argparse.Namespace) -> int:
    """The exit status: 0 when each server can be used."""
    failed = False
    for result in results(config):
        advice = f"; {result.warning}" if result.warning else ""
        print(f"{result.word}: {result.server}: {result.detail}{advice}", flush=True)
        failed = failed or not result.ok
    return FAILED if failed else OK
