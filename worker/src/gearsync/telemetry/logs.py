# SPDX-License-Identifier: GPL-3.0-or-later
"""Structured log lines on stderr, for the journal: text with its priority, or one JSON object a line."""

from __future__ import annotations

import logging
import os
import sys

import msgspec


def _action(record: logging.LogRecord) -> str:
    return str(getattr(record, "action", record.name))


#: Optional members of a line of JSON, taken from the record.
_MEMBERS = ("table", "shard", "count", "ids")
#: Priorities of syslog: the journal reads them from the beginning of a line.
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


def in_journal(descriptor: int, stream: str) -> bool:
    """Whether a file is the journal: systemd sets JOURNAL_STREAM to its device and inode."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


class _Text(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = self._text(record)
        # Each line is an entry of the journal.
        return (
            "\n".join(f"<{_PRIORITIES.get(record.levelname, 6)}>{line}" for line in text.split("\n"))
            if self._journal
            else text
        )

    def _text(self, record: logging.LogRecord) -> str:
        line = (
            f"{record.levelname.lower()} action={_action(record)} pid={record.process} {record.getMessage()}"
        )
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _Json(logging.Formatter):
    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "action": _action(record),
            "pid": record.process,
            "message": record.getMessage(),
        }
        if self._source:
            line["source"] = self._source
        line.update({name: getattr(record, name) for name in _MEMBERS if hasattr(record, name)})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str, form: str, source: str = "") -> None:
    """Send all records of ``level`` and above to stderr, as ``form`` (text or json); ``source`` is the
    pipeline's source.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Json(source) if form == "json" else _Text(in_journal(2, os.environ.get("JOURNAL_STREAM", "")))
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # servers.gearman logs each change of a connection's state; the library would log each attempt.
    logging.getLogger("python3_gearman").setLevel(logging.CRITICAL)
