"""Structured log lines on stderr, for the journal: text, or one JSON object a line."""

from __future__ import annotations

import logging
import sys

import msgspec


def _action(record: logging.LogRecord) -> str:
    return str(getattr(record, "action", record.name))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname.lower()} action={_action(record)} pid={record.process} {record.getMessage()}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": record.created, "level": record.levelname.lower(), "action": _action(record), "pid": record.process, "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str, form: str) -> None:
    """Send all records of ``level`` and above to stderr, as ``form`` (text or json)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The library logs what job_server.py logs better, once a change of state in place of once an attempt.
    logging.getLogger("python3_gearman").setLevel(logging.CRITICAL)
