# SPDX-License-Identifier: GPL-3.0-or-later
"""Decode the payloads that triggers send: from JSON to a change with typed values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

import msgspec

from gearsync.contract import EVENTS, MARK, MARK_VERSION, OPERATIONS
from gearsync.values import Json, Malformed, Number, Row, Value


class Change(msgspec.Struct, frozen=True):
    """One change of a row. ``table`` is None for a flat payload; ``old`` holds the columns of the old row
    that the triggers send, if any.

    ``partial``: ``old`` may lack columns that templates name, and the row has not changed, so that logs get
    no entry.
    """

    table: Optional[str]
    event: str
    new: Optional[Row]
    old: Optional[Row]
    partial: bool = False


_decoder = msgspec.json.Decoder(float_hook=Number)


def _value(name: str, raw: Any) -> Value:
    if raw is None or isinstance(raw, str):
        return raw  # text, or a Number from the decoder's hook
    if isinstance(raw, bool):
        return Number(int(raw))
    if isinstance(raw, int):
        return Number(raw)
    if isinstance(raw, dict) and len(raw) == 1:
        ((mark, content),) = raw.items()
        if content is None and mark in ("$num", "$hex", "$json"):
            return None
        if isinstance(content, str):
            if mark == "$num":
                return Number(content)
            if mark == "$json":
                return Json(content)
            if mark == "$hex":
                try:
                    return bytes.fromhex(content)
                except ValueError:
                    raise Malformed(f"column {name!r}: $hex is not hexadecimal") from None
    raise Malformed(
        f"column {name!r}: expected text, a number, $num, $hex or $json, not {type(raw).__name__}"
    )


def _row(name: str, raw: Any) -> Optional[Row]:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise Malformed(f"{name!r} is not an object but {type(raw).__name__}")
    return {column: _value(column, content) for column, content in raw.items()}


def decode(payload: bytes) -> Change:
    """The change in a job's payload. Raises Malformed."""
    try:
        raw = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"invalid payload, not JSON: {error}") from None
    except RecursionError:
        raise Malformed("invalid payload: JSON nested too deeply") from None
    if not isinstance(raw, dict):
        raise Malformed(f"invalid payload: expected a JSON object, not {type(raw).__name__}")
    if MARK not in raw:
        return Change(table=None, event="update", new=_row("payload", raw), old=None)
    if raw[MARK] != MARK_VERSION:
        raise Malformed(f"{MARK} is {raw[MARK]!r}, but this worker supports {MARK_VERSION}: run site.yml")
    table, event = raw.get("table"), raw.get("event")
    if not isinstance(table, str):
        raise Malformed("invalid payload: no table")
    if event not in EVENTS:
        raise Malformed(f"invalid payload: event is {event!r}, not insert, update or delete")
    new, old = _row("new", raw.get("new")), _row("old", raw.get("old"))
    # A delete may come without "old": the keys of the article's mapping contain only the columns' names.
    if new is None and event != "delete":
        raise Malformed(f"invalid payload: {event} without 'new'")
    return Change(table=table, event=event, new=new, old=old)


class _Payload(msgspec.Struct):
    """A payload of the outbox with names. A reload has ``key`` instead of ``new``; ``partial``: ``old``
    lacks columns that templates name.
    """

    new: Optional[dict[str, Any]] = None
    old: Optional[dict[str, Any]] = None
    key: Optional[dict[str, Any]] = None
    partial: bool = False


_payload_decoder = msgspec.json.Decoder(_Payload, float_hook=Number)
#: Types of values that need no conversion; almost every row has no others.
_PLAIN = frozenset({str, int, Number, type(None)})


def _quick_row(name: str, raw: Optional[dict[str, Any]]) -> Optional[Row]:
    return raw if raw is None or _PLAIN.issuperset(map(type, raw.values())) else _row(name, raw)


def decode_outbox(table: str, operation: str, payload: bytes) -> Change:
    """The change in a row of the outbox, by the names of its values; for a ``reload``, ``new`` is the row's
    key. Raises Malformed.

    A ``refresh`` is a row that has not changed: lists and streams get no entry for it.
    """
    try:
        raw = _payload_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"invalid payload: {error}") from None
    except RecursionError:
        raise Malformed("invalid payload: JSON nested too deeply") from None
    new, old = _quick_row("new", raw.new), _quick_row("old", raw.old)
    if operation == "reload":
        new = _quick_row("key", raw.key)
    elif operation not in OPERATIONS:
        raise Malformed(
            f"unknown operation {operation!r}: expected insert, update, delete, refresh or reload"
        )
    if operation == "delete":
        if old is None:
            raise Malformed("invalid payload: delete without 'old'")
        new = None
    elif new is None:
        raise Malformed(f"invalid payload: {operation} without {'key' if operation == 'reload' else 'new'!r}")
    return Change(table, operation, new, old, raw.partial)


def _bytes(text: Any) -> bytes:
    return bytes.fromhex(text)


#: Conversions from JSON, for the kinds of columns that JSON does not have.
_TYPED: dict[str, Callable[[Any], Value]] = {"binary": _bytes, "float": Number, "json": Json}


class _Form:
    """The columns of the values in one operation's payload."""

    def __init__(self, kinds: dict[str, str], new: Sequence[str], old: Sequence[str]) -> None:
        self.new = new
        self.old = old
        self._typed = [
            (place, _TYPED[kinds[name]])
            for place, name in enumerate([*new, *old], 1)
            if kinds[name] in _TYPED
        ]

    def rows(self, values: list[Any]) -> tuple[Row, Row]:
        """The new row and the old one. Raises ValueError and TypeError."""
        for place, typed in self._typed:
            if values[place] is not None:
                values[place] = typed(values[place])
        end = len(self.new) + 1
        return dict(zip(self.new, values[1:end])), dict(zip(self.old, values[end:]))


class Layout:
    """The order of values in payloads without names, which are made under one declaration: its number
    comes first, then the values of its columns.
    """

    def __init__(
        self, kinds: dict[str, str], old: Sequence[str], deleted: Sequence[str], key: Sequence[str]
    ) -> None:
        """``kinds`` are those of all columns, in their order; the others are the columns of the old row
        in an update and in a delete, and of the key.
        """
        columns = list(kinds)
        whole = _Form(kinds, columns, [])
        self._forms = {
            "insert": [whole],
            "refresh": [whole],
            "update": [_Form(kinds, columns, old)],
            "delete": [_Form(kinds, [], deleted)],
            # With the values that are to be removed, or without.
            "reload": [_Form(kinds, key, []), _Form(kinds, key, old)],
        }
        self._lengths = {
            operation: {1 + len(form.new) + len(form.old): form for form in reversed(forms)}
            for operation, forms in self._forms.items()
        }

    def decode(self, table: str, operation: str, payload: bytes) -> Change:
        """The change in ``payload``; for a ``reload``, ``new`` is the row's key. Raises Malformed."""
        try:
            values = _decoder.decode(payload)
            form = self._lengths[operation][len(values)]
            new, old = form.rows(values)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(f"invalid payload: {error}") from None
        except RecursionError:
            raise Malformed("invalid payload: JSON nested too deeply") from None
        except (KeyError, ValueError, TypeError):
            raise Malformed(
                f"invalid payload: its values do not match the declaration for the operation {operation!r}"
            ) from None
        return Change(
            table,
            operation,
            None if operation == "delete" else new,
            old if operation == "delete" or form.old else None,
        )

    def row(self, payload: bytes) -> Row:
        """The row of a refresh's payload. Raises Malformed."""
        return self.decode("", "refresh", payload).new or {}


def decode_change(layout: Optional[Layout], table: str, operation: str, payload: bytes) -> Change:
    """The change in a row of the outbox, by the order of its values or by their names. Raises Malformed."""
    return (
        layout.decode(table, operation, payload)
        if layout is not None and payload[:1] == b"["
        else decode_outbox(table, operation, payload)
    )
