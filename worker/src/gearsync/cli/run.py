# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync run`: the service."""

from __future__ import annotations

import argparse

from gearsync.cli.supervise import supervise
from gearsync.declare.configuration import Config
from gearsync.project.transform import transforms
from gearsync.telemetry import logs


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(config: Config, _options: argparse.Namespace) -> int:
    """The exit status: 0 after a signal. Raises TransformError."""
    # Report a problem at once, not from a process that dies again and again.
    transforms(config)
    logs.configure(config.worker.log_level, config.worker.log_format, config.source)
    return supervise(config)
