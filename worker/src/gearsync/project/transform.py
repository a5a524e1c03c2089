# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own function for what templates cannot express: it is imported by its name, and called with
every row.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Callable, Optional

from gearsync.declare.configuration import Config
from gearsync.declare.problem import Problem
from gearsync.values import Malformed, Number, Row

#: ``function(row, table)`` → the row with its computed columns, or None for a row that is not to be written.
Transform = Callable[[dict[str, Any], str], Optional[dict[str, Any]]]


class TransformError(Exception):
    """A transform that cannot be imported."""


def find(name: str) -> Transform:
    """The function ``package.module:function``. Raises TransformError."""
    module, _colon, function = name.partition(":")
    try:
        transform = getattr(importlib.import_module(module), function)
    except Exception as error:  # noqa: BLE001  # importing the user's module may raise anything
        raise TransformError(f"transform {name}: {type(error).__name__}: {error}") from None
    if not callable(transform):
        raise TransformError(f"transform {name}: {type(transform).__name__} is not a function")
    return transform  # type: ignore[no-any-return]  # only that it is callable is known


def problems(path: Optional[str], names: Mapping[int, str]) -> Iterator[Problem]:
    """The transforms that cannot be found. ``path``: worker.python_path. ``names``: the functions by the
    numbers of their tables.
    """
    _search(path)
    for number, name in names.items():
        try:
            find(name)
        except TransformError as error:
            yield Problem(
                ("tables", number, "transform"),
                str(error),
                "worker.python_path is the directory of your modules",
            )


def _search(path: Optional[str]) -> None:
    if path and path not in sys.path:
        sys.path.insert(0, path)


def transforms(config: Config) -> dict[str, Transform]:
    """Each table's transform, by the table's name; worker.python_path is searched as well. Raises
    TransformError.
    """
    _search(config.worker.python_path)
    return {table.table: find(table.transform) for table in config.tables if table.transform is not None}


def shown(error: BaseException) -> str:
    """The text of an error; the error may be of the user's own class, whose text may raise an error
    itself.
    """
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # see above
        return "without a message"


def transformed(function: Transform, row: Row, table: str) -> Optional[Row]:
    """The row that ``function`` returns for ``row``, which it may change. Raises Malformed when it does
    not return a row.
    """
    given = {name: Number(value) if isinstance(value, int) else value for name, value in row.items()}
    try:
        made = function(given, table)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001  # whatever the user's function raises, SystemExit too, is about this row alone
        message = f"the transform raised {type(error).__name__}"
        raise Malformed(message, f"{message}: {shown(error)}") from None
    if made is None:
        return None
    if not isinstance(made, dict):
        raise Malformed(f"the transform returned a {type(made).__name__}, not a dict or None")
    for name, value in made.items():
        if (
            not isinstance(name, str)
            or isinstance(value, bool)
            or not (value is None or isinstance(value, (bytes, str, int)))
        ):
            raise Malformed(
                f"the transform returned a {type(value).__name__} for {name!r}, not bytes, str, int or None"
            )
        try:
            if isinstance(value, str):
                value.encode()
        except UnicodeEncodeError:
            raise Malformed(f"the transform returned text for {name!r} that is not Unicode") from None
    return made
