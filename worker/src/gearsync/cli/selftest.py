"""`gearsync selftest`: asks every configured server whether it can be used."""

from __future__ import annotations

import argparse

from gearsync.declare.configuration import Config
from gearsync.operate.selftest import findings

OK, FAILED = 0, 1


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(config: Config, _options: argparse.Namespace) -> int:
    """The exit status: 0 when each server can be used."""
    failed = False
    for finding in findings(config):
        print(f"{'ok' if finding.ok else 'FAILED'}: {finding.server}: {finding.words}", flush=True)
        failed = failed or not finding.ok
    return FAILED if failed else OK
