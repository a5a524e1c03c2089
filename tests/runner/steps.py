# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a test run, read from a TOML file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tomllib


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of a test run."""

    name: str
    #: For bash, in the project's root.
    run: str
    #: Whether the step must leave the report of at least one test that ran.
    tests: bool = False


class Invalid(ValueError):
    """A file of steps that cannot be used."""


def load(path: Path) -> list[Step]:
    """The steps of a file, in its order.

    Raises Invalid with what is wrong and where.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error
    steps: list[Step] = []
    for name, table in tables.items():
        known = {field.name for field in dataclasses.fields(Step)} - {"name"}
        if not isinstance(table, dict) or not isinstance(table.get("run"), str) or not set(table) <= known:
            raise Invalid(f"{path}: step {name} needs `run` and takes {', '.join(sorted(known))}")
        steps.append(Step(name, table["run"], table.get("tests", False)))
    return steps


def choose(steps: list[Step], names: list[str]) -> list[Step]:
    """The named steps, in the file's order; all of them without a name.

    Raises Invalid for a name that no step has.
    """
    if unknown := set(names) - {step.name for step in steps}:
        raise Invalid(
            f"no step is called {', '.join(sorted(unknown))}; the steps are "
            f"{', '.join(step.name for step in steps)}"
        )
    return [step for step in steps if not names or step.name in names]
