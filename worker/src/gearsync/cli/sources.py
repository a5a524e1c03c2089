# SPDX-License-Identifier: GPL-3.0-or-later
"""Which configuration files a command is about: a host has one for each source."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import NamedTuple, Optional

from gearsync.declare.configuration import ConfigError
from gearsync.declare.rules import SOURCE, source_problems

DEFAULT_DIRECTORY = "/etc/gearsync"
_SUFFIX = ".yml"
#: The only file of a host that served one source, whatever the name of that was.
_FORMER = "worker"


class SourceFile(NamedTuple):
    """A configuration file; its name without ``.yml``, and the source that it must be of, None for any."""

    path: str
    name: str
    source: Optional[str]


def add_arguments(parser: argparse.ArgumentParser, nested: bool = False) -> None:
    """``nested``: for a subcommand's own subcommand, which keeps what was given before it."""

    def default(value: Optional[str]) -> Optional[str]:
        return argparse.SUPPRESS if nested else value

    parser.add_argument(
        "--source",
        metavar="NAME",
        default=default(None),
        help="the source, whose configuration is the file NAME.yml of --config-dir",
    )
    parser.add_argument("--config", metavar="FILE", default=default(None), help="a configuration file itself")
    parser.add_argument(
        "--config-dir",
        metavar="DIRECTORY",
        default=default(DEFAULT_DIRECTORY),
        help=f"where the configurations are (default: {DEFAULT_DIRECTORY})",
    )


def names_of(files: Iterable[str]) -> list[str]:
    """The sources of which a directory with these ``files`` has a configuration. Pure.

    Hidden files and what editors and package managers leave are none.
    """
    names = (file[: -len(_SUFFIX)] for file in files if file.endswith(_SUFFIX))
    return sorted(name for name in names if SOURCE.fullmatch(name) and not name.startswith("."))


def choose(directory: str, files: Iterable[str], source: Optional[str]) -> list[SourceFile]:
    """The configuration of ``source``, or all of a directory with these ``files``. Pure.

    Raises ConfigError when there is none.
    """
    if source is not None:
        for problem in source_problems(source):
            raise ConfigError([f"--source: {problem.message}; {problem.hint}"])
        if source.startswith("."):
            raise ConfigError([f"--source: {source}{_SUFFIX} would be a hidden file; give it with --config"])
    names = names_of(files)
    if names == [_FORMER]:
        return [SourceFile(os.path.join(directory, _FORMER + _SUFFIX), _FORMER, source)]
    if source is not None and source not in names:
        raise ConfigError([f"{directory} has no {source}{_SUFFIX}; {_listed(names)}"])
    if not names:
        raise ConfigError(
            [f"{directory} has no configuration SOURCE{_SUFFIX}; give --config FILE or --config-dir"]
        )
    return [
        SourceFile(os.path.join(directory, name + _SUFFIX), name, name)
        for name in (names if source is None else [source])
    ]


def _listed(names: list[str]) -> str:
    return f"there are: {', '.join(names)}" if names else "there is no configuration of any source"


def chosen(options: argparse.Namespace, several: bool) -> list[SourceFile]:
    """The files that the options name. Raises ConfigError: also when there is more than one, and the
    command cannot take ``several``.
    """
    if options.config is not None:
        if options.source is not None:
            raise ConfigError(["give --source or --config, not both"])
        return [SourceFile(options.config, options.config, None)]
    try:
        files = os.listdir(options.config_dir)
    except OSError as error:
        raise ConfigError([f"{options.config_dir}: {error.strerror}"]) from None
    configurations = choose(options.config_dir, files, options.source)
    if len(configurations) > 1 and not several:
        names = ", ".join(file.name for file in configurations)
        raise ConfigError(
            [f"{options.config_dir} has the configurations of several sources: give --source, one of {names}"]
        )
    return configurations
