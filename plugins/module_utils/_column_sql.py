# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL of the values of columns: in payloads, in comparisons, and in a row's shard. No I/O here."""

from __future__ import annotations

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    quote,
)

INTEGER_TYPES = ("tinyint", "smallint", "mediumint", "int", "integer", "bigint")
FLOAT_TYPES = ("float", "double", "real")
BINARY_TYPES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
SPATIAL_TYPES = (
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geomcollection",
)
# Types whose bytes are no text and that do not compare as bytes by themselves.
OPAQUE_TYPES = (*SPATIAL_TYPES, "vector")
# What is not text, by the server's name of the type.
KINDS = {
    **dict.fromkeys(INTEGER_TYPES, "integer"),
    **dict.fromkeys(("decimal", "numeric"), "decimal"),
    **dict.fromkeys(FLOAT_TYPES, "float"),
    **dict.fromkeys(BINARY_TYPES + OPAQUE_TYPES, "binary"),
    "bit": "bit",
    "timestamp": "timestamp",
}


def column_kind(column):
    """How a column's value travels: integer, decimal, bit, float, text, timestamp, binary or json.

    column: dict with data_type, column_type, collation (None unless text), is_json (a JSON column, or
    MariaDB's check of one).
    """
    data_type = column["data_type"].lower()
    if "zerofill" in column["column_type"].lower():
        return "text"
    if column["is_json"]:
        return "json"
    if column["collation"] == "binary":
        return "binary"
    # Else text, ENUM, SET, dates and times, and MariaDB's UUID, INET4 and INET6: what a SELECT shows.
    return KINDS.get(data_type, "text")


def _text(value):
    return f"CAST({value} AS CHAR CHARACTER SET utf8mb4)"


def _utc(value, precision):
    """A TIMESTAMP's text in UTC whatever the session's zone, without named zones. The zero date has no
    such moment.
    """
    cast = f"DATETIME({precision})" if precision else "DATETIME"
    moment = f"CAST('1970-01-01 00:00:00' AS {cast}) + INTERVAL UNIX_TIMESTAMP({value}) SECOND"
    # Inside a trigger UNIX_TIMESTAMP of the zero date is 0 on MySQL and NULL on MariaDB.
    return f"IF(COALESCE(UNIX_TIMESTAMP({value}), 0) = 0, {_text(value)}, {_text(moment)})"


# Kinds whose JSON does not show what the value is, and the mark that shows it in direct delivery.
MARKS = {"float": "$num", "binary": "$hex", "json": "$json"}


def bare_expression(column, row):
    """The SQL that gives one value of a payload whose reader knows the column's kind; row is NEW or OLD."""
    value = f"{row}.{quote(column['name'])}"
    return {
        "integer": value,
        "decimal": value,
        "bit": f"{value} + 0",
        "float": _text(value),
        "text": _text(value),
        "timestamp": _utc(value, column["precision"] or 0),
        "binary": f"HEX({value})",
        "json": _text(value),
    }[column_kind(column)]


def value_expression(column, row):
    """The same with the column's kind beside it, for a reader that does not know it."""
    mark, value = MARKS.get(column_kind(column)), bare_expression(column, row)
    return f"JSON_OBJECT('{mark}', {value})" if mark else value


def _comparable(column, row):
    """A column's value in a form in which values are equal only when they are so byte for byte."""
    value, kind = f"{row}.{quote(column['name'])}", column_kind(column)
    if kind == "timestamp":
        # The hour that is shown twice when summer time ends: equal as text, not as moments. For MariaDB the
        # zero date is not a moment.
        return f"COALESCE(UNIX_TIMESTAMP({value}), {_text(value)})"
    if kind == "json":
        return f"CAST({_text(value)} AS BINARY)"
    if column["data_type"].lower() in OPAQUE_TYPES:
        # HEX would be twice as long, and NULL for a value of half of max_allowed_packet.
        return f"SHA2({value}, 256)"
    if kind == "float":
        # 0 and -0 are equal, and are two texts.
        return _text(value)
    if column["collation"]:
        # 'a' and 'A', and 'a' and 'a ', are equal for most collations.
        return f"CAST({value} AS BINARY)"
    return value


def same_expression(column):
    """The SQL that is true when an UPDATE has left a column as it was."""
    return f"{_comparable(column, 'NEW')} <=> {_comparable(column, 'OLD')}"


# A value's text in JSON may be this many times as long as its bytes: a control character becomes six, a byte
# two.
EXPANSION = 8
LARGE_TYPES = ("text", "mediumtext", "longtext", "blob", "mediumblob", "longblob", "json", *SPATIAL_TYPES)


def is_large(column):
    """Whether a value of the column may be too large to be written as JSON; the servers then make NULL of
    the whole or, worse, of a part.
    """
    return column["data_type"].lower() in LARGE_TYPES


def large_value(column, row):
    """The SQL of a value that goes to the worker by itself: text in UTF-8, or bytes."""
    value = f"{row}.{quote(column['name'])}"
    return value if column_kind(column) == "binary" else f"CONVERT({value} USING utf8mb4)"


def shard_text(column, row):
    kind = column_kind(column)
    if kind == "binary":
        return f"HEX({row}.{quote(column['name'])})"
    if kind in ("text", "timestamp"):
        return value_expression(column, row)
    value = f"{row}.{quote(column['name'])}"
    return _text(f"{value} + 0" if kind == "bit" else value)
