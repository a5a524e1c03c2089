# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync read-back`: compares Redis with one row. For the playbook smoke, which takes the row from a
trigger.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

import msgspec

from gearsync.declare.configuration import Config
from gearsync.declare.declaration import Table
from gearsync.outbox.declarations import Declared
from gearsync.project.expectation import Expectation, difference
from gearsync.project.payload import Change, decode
from gearsync.project.transform import transformed, transforms
from gearsync.servers.redis_errors import Unavailable, message_of
from gearsync.servers.target import Target, open_target
from gearsync.shapes.shape import Probe
from gearsync.values import Malformed, Row

EQUAL, DIFFERENT, UNKNOWN = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"{parser.description}. Reads the payload of a job, or a JSON object with the table, the payload "
        "and the declaration of a row of the outbox."
        " Prints no value of the row."
    )


def change_of(given: bytes) -> Change:
    """The change in a job's payload, or in a row of the outbox. Raises Malformed."""
    try:
        sent = msgspec.json.decode(given)
        if not isinstance(sent, dict) or "declaration" not in sent:
            return decode(given)
        declared = msgspec.json.decode(sent["declaration"], type=Declared)
        return declared.layout().decode(sent["table"], "refresh", sent["payload"].encode())
    except msgspec.DecodeError as error:
        raise Malformed(f"invalid payload on stdin: {error}") from None


def run(config: Config, _options: argparse.Namespace) -> int:
    target = open_target(config.redis, config.worker.io_timeout)
    try:
        change = change_of(sys.stdin.buffer.read())
        table = next((table for table in config.tables if table.table == change.table), None)
        if table is None:
            raise Malformed(
                f"the worker's configuration does not declare {change.table}, it is older than the "
                "triggers: run site.yml"
            )
        row = _written(config, table, change)
        if row is None:
            print("the transform leaves the row out")
            return EQUAL
        expectation = Expectation(table, [])
        probes = expectation.probes_of_all(row)
        wrong = _different(target, expectation, probes)
    except (Malformed, Unavailable) as error:
        print(error, file=sys.stderr)
        return UNKNOWN
    finally:
        target.close()
    if wrong:
        print(f"Redis does not hold the row: {', '.join(wrong)}", file=sys.stderr)
        return DIFFERENT
    print(f"{len(probes)} {'key or member' if len(probes) == 1 else 'keys and members'}")
    return EQUAL


def _written(config: Config, table: Table, change: Change) -> Optional[Row]:
    """The row that is written; None when the transform leaves it out. Raises Malformed."""
    function = transforms(config).get(table.table)
    assert change.new is not None  # noqa: S101  # smoke sends an existing row
    return change.new if function is None else transformed(function, change.new, table.table)


def _different(target: Target, expectation: Expectation, probes: Sequence[Probe]) -> list[str]:
    """The writes that Redis does not hold as expected, and how they differ. Raises Unavailable."""
    answers = target.ask([command for probe in probes for command in (probe.command, ("TTL", probe.key))])
    different = []
    for probe, answer, seconds in zip(probes, answers[::2], answers[1::2]):
        try:
            kind = difference(
                probe, answer, expectation.expires(probe), seconds if expectation.expires(probe) else None
            )
        except Exception as error:  # noqa: BLE001  # an error answer of Redis, whatever it is
            raise Unavailable(f"{expectation.shapes[probe.write]}: {message_of(error)}") from None
        if kind is not None:
            different.append(f"{expectation.shapes[probe.write]} is {kind}")
    return list(dict.fromkeys(different))
