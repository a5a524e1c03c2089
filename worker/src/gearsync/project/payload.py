"""One row's change as a trigger describes it: from a job's payload to typed values. Pure; a payload is data and never evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

import msgspec

from gearsync.contract import EVENTS, MARK, MARK_VERSION, OPERATIONS
from gearsync.values import Json, Malformed, Number, Row, Value


class Change(msgspec.Struct, frozen=True):
    """One change. ``table`` is None for a flat payload; ``old`` holds what the triggers send of the old row, if anything.

    ``partial``: ``old`` may lack columns that templates name, and nothing has happened that a log should tell.
    """

    table: Optional[str]
    event: str
    new: Optional[Row]
    old: Optional[Row]
    partial: bool = False


_decoder = msgspec.json.Decoder(float_hook=Number)


def _value(name: str, raw: Any) -> Value:
    if raw is None or isinstance(raw, str):
        return raw  # text, or a Number that the decoder's hook made
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
    raise Malformed(f"column {name!r} holds a {type(raw).__name__} that is none of $num, $hex and $json")


def _row(name: str, raw: Any) -> Optional[Row]:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise Malformed(f"{name!r} is a {type(raw).__name__}, not an object")
    return {column: _value(column, content) for column, content in raw.items()}


def decode(payload: bytes) -> Change:
    """The change that ``payload`` describes. Raises Malformed."""
    try:
        raw = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not JSON: {error}") from None
    except RecursionError:
        raise Malformed("not JSON that anybody needs: nested too deeply") from None
    if not isinstance(raw, dict):
        raise Malformed(f"a JSON {type(raw).__name__}, not an object")
    if MARK not in raw:
        return Change(table=None, event="update", new=_row("payload", raw), old=None)
    if raw[MARK] != MARK_VERSION:
        raise Malformed(f"{MARK} is {raw[MARK]!r}, this worker knows {MARK_VERSION}")
    table, event = raw.get("table"), raw.get("event")
    if not isinstance(table, str):
        raise Malformed("no table is named")
    if event not in EVENTS:
        raise Malformed(f"event is {event!r}, not insert, update or delete")
    new, old = _row("new", raw.get("new")), _row("old", raw.get("old"))
    # A delete may come without "old": the keys of the article's mapping are made of the columns' names alone.
    if new is None and event != "delete":
        raise Malformed(f"{event} without 'new'")
    return Change(table=table, event=event, new=new, old=old)


class _Payload(msgspec.Struct):
    """A payload of the outbox. A reload has ``key`` in place of ``new``; ``partial``: ``old`` does not have all that templates name."""

    new: Optional[dict[str, Any]] = None
    old: Optional[dict[str, Any]] = None
    key: Optional[dict[str, Any]] = None
    partial: bool = False


_payload_decoder = msgspec.json.Decoder(_Payload, float_hook=Number)
#: Values that are taken as they stand; almost every row has no others.
_PLAIN = frozenset({str, int, Number, type(None)})


def _quick_row(name: str, raw: Optional[dict[str, Any]]) -> Optional[Row]:
    return raw if raw is None or _PLAIN.issuperset(map(type, raw.values())) else _row(name, raw)


def decode_outbox(table: str, operation: str, payload: bytes) -> Change:
    """The change that a row of the outbox describes; of a ``reload``, ``new`` is the row's key. Raises Malformed.

    A ``refresh`` is a row as it is, of which nothing has changed: what keeps a log of changes has no entry of it.
    """
    try:
        raw = _payload_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not a payload: {error}") from None
    except RecursionError:
        raise Malformed("not JSON that anybody needs: nested too deeply") from None
    new, old = _quick_row("new", raw.new), _quick_row("old", raw.old)
    if operation == "reload":
        new = _quick_row("key", raw.key)
    elif operation not in OPERATIONS:
        raise Malformed(f"operation is {operation!r}, not insert, update, delete, refresh or reload")
    if operation == "delete":
        if old is None:
            raise Malformed("delete without 'old'")
        new = None
    elif new is None:
        raise Malformed(f"{operation} without {'key' if operation == 'reload' else 'new'!r}")
    return Change(table, operation, new, old, raw.partial)


def _bytes(text: Any) -> bytes:
    return bytes.fromhex(text)


#: What makes a value of what stands in the JSON, for the kinds that JSON does not tell.
_TYPED: dict[str, Callable[[Any], Value]] = {"binary": _bytes, "float": Number, "json": Json}


class _Form:
    """What the values of one operation's payload are."""

    def __init__(self, kinds: dict[str, str], new: Sequence[str], old: Sequence[str]) -> None:
        self.new = new
        self.old = old
        self._typed = [(place, _TYPED[kinds[name]]) for place, name in enumerate([*new, *old], 1) if kinds[name] in _TYPED]

    def rows(self, values: list[Any]) -> tuple[Row, Row]:
        """The new row and the old one. Raises ValueError and TypeError."""
        for place, typed in self._typed:
            if values[place] is not None:
                values[place] = typed(values[place])
        end = len(self.new) + 1
        return dict(zip(self.new, values[1:end])), dict(zip(self.old, values[end:]))


class Layout:
    """Of which columns the values of a payload are that was made under one declaration: its number comes first, then values by their places."""

    def __init__(self, kinds: dict[str, str], old: Sequence[str], deleted: Sequence[str], key: Sequence[str]) -> None:
        """``kinds`` are those of all columns, in their order; the others name what an update and a delete tell of the old row, and the row's key."""
        columns = list(kinds)
        whole = _Form(kinds, columns, [])
        self._forms = {
            "insert": [whole], "refresh": [whole], "update": [_Form(kinds, columns, old)], "delete": [_Form(kinds, [], deleted)],
            # With what is to be removed, or without.
            "reload": [_Form(kinds, key, []), _Form(kinds, key, old)],
        }
        self._lengths = {operation: {1 + len(form.new) + len(form.old): form for form in reversed(forms)} for operation, forms in self._forms.items()}

    def decode(self, table: str, operation: str, payload: bytes) -> Change:
        """The change that ``payload`` describes; of a ``reload``, ``new`` is the row's key. Raises Malformed."""
        try:
            values = _decoder.decode(payload)
            form = self._lengths[operation][len(values)]
            new, old = form.rows(values)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(f"not a payload: {error}") from None
        except RecursionError:
            raise Malformed("not JSON that anybody needs: nested too deeply") from None
        except (KeyError, ValueError, TypeError):
            raise Malformed(f"not the values that the declaration has for the operation {operation!r}") from None
        return Change(table, operation, None if operation == "delete" else new, old if operation == "delete" or form.old else None)

    def row(self, payload: bytes) -> Row:
        """The row of a refresh's payload. Raises Malformed."""
        return self.decode("", "refresh", payload).new or {}


def decode_change(layout: Optional[Layout], table: str, operation: str, payload: bytes) -> Change:
    """The change that a row of the outbox describes, by the places of its values or by their names. Raises Malformed."""
    return layout.decode(table, operation, payload) if layout is not None and payload[:1] == b"[" else decode_outbox(table, operation, payload)
