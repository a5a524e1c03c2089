# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bodies of triggers, for durable and for direct delivery. No I/O here."""

from __future__ import annotations

import itertools
import zlib

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._column_sql import (
    EXPANSION,
    bare_expression,
    column_kind,
    is_large,
    large_value,
    same_expression,
    shard_text,
    value_expression,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declaration import (
    key_columns,
    match_columns,
    old_columns,
    shard_columns,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    literal,
    quote,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import (
    first_shard,
)

# Errors of an expression whose columns were altered after the trigger was made: unknown column, no value for
# NOT NULL, mixed collations, invalid text, too large, no value of the type, no document, and MariaDB's
# for types that do not fit. None of them ends a transaction.
ALTERED = (1048, 1054, 1267, 1300, 1301, 1366, 3140, 3144, 4078, 4079)


def _row_object(columns, row):
    return "JSON_OBJECT({})".format(
        ", ".join(f"{literal(name)}, {value_expression(column, row)}" for name, column in columns)
    )


def _values(columns, row, without_large=False):
    """The SQL of columns' values, in their order."""
    return [
        "NULL" if without_large and is_large(column) else bare_expression(column, row)
        for _name, column in columns
    ]


def _too_large(*parts):
    """The SQL that is true when a change is too large for the server's max_allowed_packet; None when no
    change of the table can be.

    parts: (columns, NEW or OLD) of each row in it.
    """
    lengths = [
        f"COALESCE(OCTET_LENGTH({row}.{quote(column['name'])}), 0)"
        for columns, row in parts
        for _name, column in columns
        if is_large(column)
    ]
    return f"{' + '.join(lengths)} > @@max_allowed_packet DIV {EXPANSION}" if lengths else None


def direct_payload(declaration, columns, event, new="NEW", old="OLD"):
    """The SQL of what a trigger sends to Gearman itself; NULL for a change that is too large for the server
    to write as JSON.

    columns: what the table has, by declared name. new, old: what the row is called before and after the
    change.
    """
    rows = {}
    if event != "delete":
        rows["new"] = ([(name, columns[name]) for name in declaration["columns"]], new)
    if event != "insert":
        rows["old"] = ([(name, columns[name]) for name in old_columns(declaration)], old)
    members = ["'$gearsync', 1", "'table', {}".format(literal(declaration["table"])), f"'event', '{event}'"]
    members += [f"'{name}', {_row_object(*row)}" for name, row in rows.items()]
    large, payload = _too_large(*rows.values()), f"JSON_OBJECT({', '.join(members)})"
    return f"IF({large}, NULL, {payload})" if large else payload


def direct_body(declaration, columns, event):
    """The body of a trigger that hands the change to Gearman itself.

    columns: what the table has, by declared name. No error of ours may reach the write, and no user variable
    is used.
    """
    new = [(name, columns[name]) for name in declaration["columns"]]
    send = [
        f"SET payload = {direct_payload(declaration, columns, event)};",
        (
            f"IF payload IS NOT NULL THEN DO gman_do_background({literal(declaration['function'])}, "
            "payload); END IF;"
        ),
    ]
    if event == "update":
        send = [
            f"IF NOT ({' AND '.join(same_expression(column) for _name, column in new)}) THEN",
            *_indented(send),
            "END IF;",
        ]
    return "\n".join(
        [
            "BEGIN",
            "  DECLARE payload LONGTEXT CHARACTER SET utf8mb4 DEFAULT NULL;",
            "  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;",
            *_indented(send),
            "END",
        ]
    )


# What puts a change into the outbox, up to its shard.
_PUT = "INSERT INTO `gearsync`.`outbox` (`shard`, `table_name`, `operation`, `payload`) VALUES ("


def _indented(lines):
    return [f"  {line}" for line in lines]


class Durable:
    """The SQL of one durable table: its triggers' bodies, and what is stored of it for the workers.

    A payload is an array: the number of the declaration, then values in the order that the declaration has.
    """

    def __init__(
        self,
        declaration,
        columns,
        *,
        shard_columns,
        key_columns,
        refusable,
        source,
        shards,
        generation=None,
        number=0,
        portions=False,
    ):
        """columns: what the table has, by declared name. shard_columns, key_columns: declared names. source:
        the pipeline's name, or None for triggers that wake no worker.

        refusable: the columns, declared or not, whose change the server may refuse. generation: the count
        whose numbers the shards have; their own when it is left out. number: that of the declaration.
        portions: whether the table has a period, of which statements may delete a portion.
        """
        self.declaration = declaration
        self.number = number
        self._portions = portions
        self.source = source
        self.shards = shards
        self.generation = generation or shards
        self.new = [(name, columns[name]) for name in declaration["columns"]]
        self.old = [(name, columns[name]) for name in old_columns(declaration)]
        # The entry of a stream for a deleted row has its former values.
        self.deleted = (
            self.new if any(write["type"] == "stream" for write in declaration["write"]) else self.old
        )
        self.key = [(name, columns[name]) for name in key_columns]
        self._shard = [columns[name] for name in shard_columns]
        self._refusable = refusable

    def content(self, schema, table, row):
        """What a worker must know to understand a change that was made under this declaration. row: what
        stands for the row in SQL.
        """
        write = [
            {name: value for name, value in each.items() if value is not None}
            for each in self.declaration["write"]
        ]
        return {
            "columns": [[name, column_kind(column)] for name, column in self.new],
            "old": [name for name, _column in self.old],
            "deleted": [name for name, _column in self.deleted],
            "key": self.key_columns(),
            "write": write,
            "computed": self.declaration.get("computed") or [],
            "transform": self.declaration.get("transform") or None,
            "source_schema": schema,
            "source_table": table,
            "small_sql": self.small_row(row),
            "large_columns": self.large_columns(row),
        }

    def key_columns(self):
        """The columns that identify a row."""
        return [
            {"declared": name, "real": column["name"], "kind": column_kind(column)}
            for name, column in self.key
        ]

    def shard(self, row):
        """The SQL of a row's shard; equal bytes have equal shards, whatever the session's character sets
        are.
        """
        first = first_shard(self.generation)
        if not self._shard:
            return str(first + zlib.crc32(self.declaration["table"].encode("utf-8")) % self.shards)
        texts = [shard_text(column, row) for column in self._shard]
        text = texts[0] if len(texts) == 1 else "CONCAT_WS('/', {})".format(", ".join(texts))
        return f"{first} + CRC32({text}) MOD {self.shards}"

    def _payload(self, *values):
        return f"JSON_ARRAY({', '.join([str(self.number), *itertools.chain(*values)])})"

    def row(self, row):
        """The SQL of a row's declared columns as the payload of an insert or a refresh."""
        return self._payload(_values(self.new, row))

    def small_row(self, row):
        """The SQL of those columns that cannot be large, as JSON with their names."""
        return _row_object([(name, column) for name, column in self.new if not is_large(column)], row)

    def large_columns(self, row):
        """What is left out by small_row: name, kind and the SQL of the bare value."""
        return [
            {"declared": name, "kind": column_kind(column), "sql": large_value(column, row)}
            for name, column in self.new
            if is_large(column)
        ]

    def old_row(self, row):
        """The SQL of the columns by which an update or a delete is removed from Redis, as JSON with their
        names.
        """
        return _row_object(self.old, row)

    def too_large(self, row):
        """The SQL that is true when a row is too large to be written as JSON."""
        return _too_large((self.new, row)) or "FALSE"

    def _delete(self):
        """The payload of a delete; when the values are too large for JSON without those that may be so
        themselves.
        """
        content, large = self._payload(_values(self.deleted, "OLD")), _too_large((self.deleted, "OLD"))
        return (
            f"IF({large}, {self._payload(_values(self.deleted, 'OLD', without_large=True))}, {content})"
            if large
            else content
        )

    def _emit(self, row, operation, payload):
        """One change of a row into the outbox, and its wake. operation, payload: SQL."""
        shard = self.shard(row)
        # No handler: a change that cannot be kept must fail the write.
        put = f"{_PUT}{shard}, {literal(self.declaration['table'])}, {operation}, {payload});"
        if self.source is None:
            return [put]
        return [
            put,
            "BEGIN",
            # Without a wake a worker finds the change by itself.
            "  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;",
            # The function's name has the shard, so that one unique is enough. Of all statements an IF costs
            # the servers least.
            (
                f"  IF gman_wake(CONCAT({literal(f'gearsync.drain.{self.source}.')}, {shard}), 'w') "
                "THEN BEGIN END; END IF;"
            ),
            "END;",
        ]

    def _reload(self, row):
        """The payload that has the worker read a row by its key."""
        return self._payload(_values(self.key, row))

    def _reload_removing(self, row):
        """The same, and remove what the old values had written, as far as these are not too large
        themselves.
        """
        key, large = _values(self.key, row), _too_large((self.old, "OLD"))
        payload = self._payload(key, _values(self.old, "OLD"))
        return (
            f"IF({large}, {self._payload(key, _values(self.old, 'OLD', without_large=True))}, {payload})"
            if large
            else payload
        )

    def _unless_large(self, operation, large, payload, instead):
        """Operation and payload of a change that may be too large for JSON."""
        if large is None:
            return f"'{operation}'", payload
        return f"IF({large}, 'reload', '{operation}')", f"IF({large}, {instead}, {payload})"

    def body(self, event):
        """A trigger's body."""
        if event == "insert":
            lines = self._emit(
                "NEW",
                *self._unless_large(
                    "insert", _too_large((self.new, "NEW")), self.row("NEW"), self._reload("NEW")
                ),
            )
        elif event == "delete":
            # DELETE ... FOR PORTION OF inserts what remains before it fires for the row, whose key one of
            # these may have.
            lines = (
                self._emit("OLD", "'reload'", self._reload_removing("OLD"))
                if self._portions and self.key
                else self._emit("OLD", "'delete'", self._delete())
            )
        else:
            # Both rows are in one payload.
            both = self._payload(_values(self.new, "NEW"), _values(self.old, "OLD"))
            content = self._unless_large(
                "update", _too_large((self.new, "NEW"), (self.old, "OLD")), both, self._reload_removing("NEW")
            )
            lines = self._update(self._emit("NEW", *content))
            lines = [
                f"IF NOT ({' AND '.join(same_expression(column) for _name, column in self.new)}) THEN",
                *_indented(lines),
                "END IF;",
            ]
        # No variables: MySQL makes a table of them for each row.
        return "\n".join(["BEGIN", *_indented(self._if_altered(event)), *_indented(lines), "END"])

    def _if_altered(self, event):
        """The handler that has the worker read the rows by their keys when other columns were altered so
        that their values cannot be sent.
        """
        if not self.key:
            return []
        rows = {"insert": ["NEW"], "update": ["OLD", "NEW"], "delete": ["OLD"]}[event]
        lines = [line for row in rows for line in self._emit(row, "'reload'", self._reload(row))]
        return [
            f"DECLARE EXIT HANDLER FOR {', '.join(map(str, ALTERED))}",
            "BEGIN",
            *_indented(lines),
            "END;",
        ]

    def _update(self, lines):
        """The change of a row whose key stays, and what is done when it does not, or when it is not sure
        that the row has changed at all.
        """
        if not self.key:
            return lines
        keys = [column for _name, column in self.key]
        others = [column for column in self._refusable if column not in keys]
        branches = [
            f"IF {' AND '.join(same_expression(column) for column in [*keys, *others])} THEN",
            *_indented(lines),
        ]
        # What the table holds is what counts: UPDATE IGNORE may have left the row as it was.
        if others:
            branches += [
                f"ELSEIF {' AND '.join(same_expression(column) for column in keys)} THEN",
                *_indented(self._emit("NEW", "'reload'", self._reload_removing("NEW"))),
            ]
        # Two identities, which may have two shards: each is read there.
        return [
            *branches,
            "ELSE",
            *_indented(self._emit("OLD", "'reload'", self._reload_removing("OLD"))),
            *_indented(self._emit("NEW", "'reload'", self._reload("NEW"))),
            "END IF;",
        ]


def match(declaration, facts):
    """The table's columns by their declared names, and {declared: real}."""
    by_name = {column["name"]: column for column in facts["columns"]}
    real, _missing = match_columns(declaration["columns"], list(by_name))
    return {name: by_name[real[name]] for name in declaration["columns"]}, real


def durable(declaration, facts, source, shards, *, generation=None, number=0):
    """The SQL of a durable table. facts: the table's name, columns and unique keys. generation, number:
    as of Durable.
    """
    columns, real = match(declaration, facts)
    return Durable(
        declaration,
        columns,
        shard_columns=shard_columns(declaration, real, facts["unique_keys"]),
        key_columns=key_columns(declaration, real, facts["unique_keys"]),
        source=source,
        shards=shards,
        generation=generation,
        number=number,
        refusable=[column for column in facts["columns"] if column["name"] in facts["refusable"]],
        portions=facts.get("period", False),
    )
