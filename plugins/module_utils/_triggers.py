# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From facts about a table and its declaration to the SQL of its triggers. No I/O here."""

from __future__ import annotations

import collections
import hashlib
import itertools
import re
import zlib

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declaration import (
    key_columns,
    match_columns,
    old_columns,
    shard_columns,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    literal,
    qualified,
    quote,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import (
    first_shard,
)

# Errors of an expression whose columns were altered after the trigger was made: unknown column, no value for NOT NULL, mixed collations, text that is
# none, too large, no value of the type, no document, and MariaDB's for types that do not fit. None of them ends a transaction.
ALTERED = (1048, 1054, 1267, 1300, 1301, 1366, 3140, 3144, 4078, 4079)
# What a server allows in a name, in characters.
MAX_NAME = 64
EVENT_CODES = {"insert": "ai", "update": "au", "delete": "ad"}
ORDER = ("delete", "update", "insert")
OWN_NAME = re.compile(r"gearsync_a[iud]_.", re.DOTALL)
# A trigger that is being replaced on MySQL stands under its name with this for a moment.
BESIDE = "__new"

# body: as it was written. definer: 'user@host' or None for the account that is logged in.
# sql_mode: as the server spells it. order: place among triggers of the same timing and event; 0 for a wanted one.
Trigger = collections.namedtuple("Trigger", "schema name table timing event body definer sql_mode order")

INTEGER_TYPES = ("tinyint", "smallint", "mediumint", "int", "integer", "bigint")
FLOAT_TYPES = ("float", "double", "real")
BINARY_TYPES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
SPATIAL_TYPES = ("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
                 "geometrycollection", "geomcollection")
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


def shorten(name, suffix=""):
    """A name within the server's limit: what is longer ends in a hash of the whole."""
    if len(name + suffix) <= MAX_NAME:
        return name + suffix
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:8]
    return f"{name[:MAX_NAME - len(suffix) - 9]}_{digest}{suffix}"


def trigger_name(table, event):
    return shorten(f"gearsync_{EVENT_CODES[event]}_{table}")


def beside_name(name):
    return shorten(name, BESIDE)


def column_kind(column):
    """How a column's value travels: integer, decimal, bit, float, text, timestamp, binary or json.

    column: dict with data_type, column_type, collation (None unless text), is_json (a JSON column, or MariaDB's check of one).
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
    """A TIMESTAMP's text in UTC whatever the session's zone, without named zones. The zero date has no such moment."""
    cast = f"DATETIME({precision})" if precision else "DATETIME"
    moment = f"CAST('1970-01-01 00:00:00' AS {cast}) + INTERVAL UNIX_TIMESTAMP({value}) SECOND"
    # Inside a trigger UNIX_TIMESTAMP of the zero date is 0 on MySQL and NULL on MariaDB.
    return f"IF(COALESCE(UNIX_TIMESTAMP({value}), 0) = 0, {_text(value)}, {_text(moment)})"


# Kinds whose JSON would not say what the value is, and what says so in direct delivery.
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
    mark, words = MARKS.get(column_kind(column)), bare_expression(column, row)
    return f"JSON_OBJECT('{mark}', {words})" if mark else words


def _comparable(column, row):
    """A column's value in a form in which values are equal only when they are so byte for byte."""
    value, kind = f"{row}.{quote(column['name'])}", column_kind(column)
    if kind == "timestamp":
        # The hour that is shown twice when summer time ends: equal as text, not as moments. For MariaDB the zero date is not a moment.
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


def _row_object(columns, row):
    return "JSON_OBJECT({})".format(", ".join(f"{literal(name)}, {value_expression(column, row)}" for name, column in columns))


def _values(columns, row, without_large=False):
    """The SQL of columns' values, in their order."""
    return ["NULL" if without_large and is_large(column) else bare_expression(column, row) for _name, column in columns]


# A value's text in JSON may be this many times as long as its bytes: a control character becomes six, a byte two.
EXPANSION = 8
LARGE_TYPES = ("text", "mediumtext", "longtext", "blob", "mediumblob", "longblob", "json", *SPATIAL_TYPES)


def is_large(column):
    """Whether a value of the column may be too large to be written as JSON; the servers then make NULL of the whole or, worse, of a part."""
    return column["data_type"].lower() in LARGE_TYPES


def _too_large(*parts):
    """The SQL that is true when a change is too large for the server's max_allowed_packet; None when no change of the table can be.

    parts: (columns, NEW or OLD) of each row in it.
    """
    lengths = [f"COALESCE(OCTET_LENGTH({row}.{quote(column['name'])}), 0)" for columns, row in parts for _name, column in columns if is_large(column)]
    return f"{' + '.join(lengths)} > @@max_allowed_packet DIV {EXPANSION}" if lengths else None


def direct_payload(declaration, columns, event, new="NEW", old="OLD"):
    """The SQL of what a trigger sends to Gearman itself; NULL for a change that is too large for the server to write as JSON.

    columns: what the table has, by declared name. new, old: what the row is called before and after the change.
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

    columns: what the table has, by declared name. No error of ours may reach the write, and no user variable is used.
    """
    new = [(name, columns[name]) for name in declaration["columns"]]
    send = [
        f"SET payload = {direct_payload(declaration, columns, event)};",
        f"IF payload IS NOT NULL THEN DO gman_do_background({literal(declaration['function'])}, payload); END IF;",
    ]
    if event == "update":
        send = [f"IF NOT ({' AND '.join(same_expression(column) for _name, column in new)}) THEN", *_indented(send), "END IF;"]
    return "\n".join([
        "BEGIN",
        "  DECLARE payload LONGTEXT CHARACTER SET utf8mb4 DEFAULT NULL;",
        "  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;",
        *_indented(send),
        "END",
    ])


# What puts a change into the outbox, up to its shard.
_PUT = "INSERT INTO `gearsync`.`outbox` (`shard`, `table_name`, `operation`, `payload`) VALUES ("


def _indented(lines):
    return [f"  {line}" for line in lines]


class Durable:
    """The SQL of one durable table: its triggers' bodies, and what is stored of it for the workers.

    A payload is an array: the number of the declaration, then values in the order that the declaration has.
    """

    def __init__(self, declaration, columns, *, shard_columns, key_columns, refusable, source, shards, generation=None, number=0, portions=False):
        """columns: what the table has, by declared name. shard_columns, key_columns: declared names. source: the pipeline's name.

        refusable: the columns, declared or not, whose change the server may refuse.
        generation: the count whose numbers the shards have; their own when it is left out. number: that of the declaration.
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
        self.deleted = self.new if any(write["type"] == "stream" for write in declaration["write"]) else self.old
        self.key = [(name, columns[name]) for name in key_columns]
        self._shard = [columns[name] for name in shard_columns]
        self._refusable = refusable

    def content(self, schema, table, row):
        """What a worker must know to understand a change that was made under this declaration. row: what stands for the row in SQL."""
        write = [{name: value for name, value in each.items() if value is not None} for each in self.declaration["write"]]
        return {
            "columns": [[name, column_kind(column)] for name, column in self.new], "old": [name for name, _column in self.old],
            "deleted": [name for name, _column in self.deleted], "key": self.key_columns(), "write": write,
            "computed": self.declaration.get("computed") or [], "transform": self.declaration.get("transform") or None,
            "source_schema": schema, "source_table": table, "small_sql": self.small_row(row), "large_columns": self.large_columns(row),
        }

    def key_columns(self):
        """The columns that identify a row."""
        return [{"declared": name, "real": column["name"], "kind": column_kind(column)} for name, column in self.key]

    def shard(self, row):
        """The SQL of a row's shard; equal bytes have equal shards, whatever the session's character sets are."""
        first = first_shard(self.generation)
        if not self._shard:
            return str(first + zlib.crc32(self.declaration["table"].encode("utf-8")) % self.shards)
        texts = [_shard_text(column, row) for column in self._shard]
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
        return [{"declared": name, "kind": column_kind(column), "sql": _bare(column, row)} for name, column in self.new if is_large(column)]

    def old_row(self, row):
        """The SQL of the columns by which an update or a delete is removed from Redis, as JSON with their names."""
        return _row_object(self.old, row)

    def too_large(self, row):
        """The SQL that is true when a row is too large to be written as JSON."""
        return _too_large((self.new, row)) or "FALSE"

    def _delete(self):
        """The payload of a delete; when the values are too large for words without those that may be so themselves."""
        words, large = self._payload(_values(self.deleted, "OLD")), _too_large((self.deleted, "OLD"))
        return f"IF({large}, {self._payload(_values(self.deleted, 'OLD', without_large=True))}, {words})" if large else words

    def _emit(self, row, operation, payload):
        """One change of a row into the outbox, and its wake. operation, payload: SQL."""
        shard = self.shard(row)
        return [
            # No handler: a change that cannot be kept must fail the write.
            f"{_PUT}{shard}, {literal(self.declaration['table'])}, {operation}, {payload});",
            "BEGIN",
            # Without a wake a worker finds the change by itself.
            "  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;",
            # The function's name has the shard, so that one unique is enough. Of all statements an IF costs the servers least.
            f"  IF gman_wake(CONCAT({literal(f'gearsync.drain.{self.source}.')}, {shard}), 'w') THEN BEGIN END; END IF;",
            "END;",
        ]

    def _reload(self, row):
        """The payload that has the worker read a row by its key."""
        return self._payload(_values(self.key, row))

    def _reload_removing(self, row):
        """The same, and remove what the old values had written, as far as these are not too large themselves."""
        key, large = _values(self.key, row), _too_large((self.old, "OLD"))
        words = self._payload(key, _values(self.old, "OLD"))
        return f"IF({large}, {self._payload(key, _values(self.old, 'OLD', without_large=True))}, {words})" if large else words

    def _unless_large(self, operation, large, payload, instead):
        """Operation and payload of a change that may be too large for words."""
        if large is None:
            return f"'{operation}'", payload
        return f"IF({large}, 'reload', '{operation}')", f"IF({large}, {instead}, {payload})"

    def body(self, event):
        """A trigger's body."""
        if event == "insert":
            lines = self._emit("NEW", *self._unless_large("insert", _too_large((self.new, "NEW")), self.row("NEW"), self._reload("NEW")))
        elif event == "delete":
            # DELETE ... FOR PORTION OF inserts what remains before it fires for the row, whose key one of these may have.
            lines = (self._emit("OLD", "'reload'", self._reload_removing("OLD")) if self._portions and self.key
                     else self._emit("OLD", "'delete'", self._delete()))
        else:
            # Both rows are in one payload.
            both = self._payload(_values(self.new, "NEW"), _values(self.old, "OLD"))
            words = self._unless_large("update", _too_large((self.new, "NEW"), (self.old, "OLD")), both, self._reload_removing("NEW"))
            lines = self._update(self._emit("NEW", *words))
            lines = [f"IF NOT ({' AND '.join(same_expression(column) for _name, column in self.new)}) THEN", *_indented(lines), "END IF;"]
        # No variables: MySQL makes a table of them for each row.
        return "\n".join(["BEGIN", *_indented(self._if_altered(event)), *_indented(lines), "END"])

    def _if_altered(self, event):
        """The handler that has the worker read the rows by their keys when other columns were altered so that their values cannot be sent."""
        if not self.key:
            return []
        rows = {"insert": ["NEW"], "update": ["OLD", "NEW"], "delete": ["OLD"]}[event]
        lines = [line for row in rows for line in self._emit(row, "'reload'", self._reload(row))]
        return [f"DECLARE EXIT HANDLER FOR {', '.join(map(str, ALTERED))}", "BEGIN", *_indented(lines), "END;"]

    def _update(self, lines):
        """The change of a row whose key stays, and what is done when it does not, or when it is not sure that the row has changed at all."""
        if not self.key:
            return lines
        keys = [column for _name, column in self.key]
        others = [column for column in self._refusable if column not in keys]
        found = [f"IF {' AND '.join(same_expression(column) for column in [*keys, *others])} THEN", *_indented(lines)]
        # What the table holds is what counts: UPDATE IGNORE may have left the row as it was.
        if others:
            found += [f"ELSEIF {' AND '.join(same_expression(column) for column in keys)} THEN",
                      *_indented(self._emit("NEW", "'reload'", self._reload_removing("NEW")))]
        # Two identities, which may have two shards: each is read there.
        return [*found, "ELSE", *_indented(self._emit("OLD", "'reload'", self._reload_removing("OLD"))),
                *_indented(self._emit("NEW", "'reload'", self._reload("NEW"))), "END IF;"]


def _bare(column, row):
    """The SQL of a value that goes to the worker by itself: text in UTF-8, or bytes."""
    value = f"{row}.{quote(column['name'])}"
    return value if column_kind(column) == "binary" else f"CONVERT({value} USING utf8mb4)"


def _shard_text(column, row):
    kind = column_kind(column)
    if kind == "binary":
        return f"HEX({row}.{quote(column['name'])})"
    if kind in ("text", "timestamp"):
        return value_expression(column, row)
    value = f"{row}.{quote(column['name'])}"
    return _text(f"{value} + 0" if kind == "bit" else value)


def match(declaration, facts):
    """The table's columns by their declared names, and {declared: real}."""
    by_name = {column["name"]: column for column in facts["columns"]}
    real, _missing = match_columns(declaration["columns"], list(by_name))
    return {name: by_name[real[name]] for name in declaration["columns"]}, real


def durable(declaration, facts, source, shards, *, generation=None, number=0):
    """The SQL of a durable table. facts: the table's name, columns and unique keys. generation, number: as of Durable."""
    columns, real = match(declaration, facts)
    return Durable(
        declaration, columns, shard_columns=shard_columns(declaration, real, facts["unique_keys"]),
        key_columns=key_columns(declaration, real, facts["unique_keys"]), source=source, shards=shards, generation=generation, number=number,
        refusable=[column for column in facts["columns"] if column["name"] in facts["refusable"]], portions=facts.get("period", False))


def wanted_triggers(schema, declaration, facts, definer, sql_mode, *, body=None):
    """The triggers that a declaration asks for, in the order in which they are to be made: those first that remove what the others have written.

    Then nothing is written under a new declaration that a trigger of the former one would have to remove, which does not send the old value.
    facts: the table's name, columns and unique keys. body: what gives the body for an event; that of direct delivery when it is left out.
    """
    if body is None:
        columns, _real = match(declaration, facts)

        def body(event):
            return direct_body(declaration, columns, event)

    return [
        Trigger(schema, trigger_name(facts["name"], event), facts["name"], "after", event, body(event), definer, sql_mode, 0)
        for event in sorted(declaration["events"], key=ORDER.index)
    ]


def checksum(body):
    """What a worker compares a trigger's body with."""
    return hashlib.sha256(clean_body(body).encode("utf-8")).hexdigest()


def clean_body(text):
    """A body as it is compared: servers keep it as written, clients add or drop what stands around it."""
    return text.strip().rstrip(";").rstrip()


# What stands before the body in SHOW CREATE TRIGGER. Names in quotes are skipped as a whole: they may hold anything.
HEADER = re.compile(
    r"""(?: `(?:[^`]|``)*` | '(?:[^'\\]|\\.|'')*' | "[^"]*" | [^`'"] )*?
    \bFOR\s+EACH\s+ROW\b \s*
    (?: (?:FOLLOWS|PRECEDES) \s+ (?: `(?:[^`]|``)*` | [^\s`]+ ) \s* )?""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE)


def body_of(statement):
    """The body in what SHOW CREATE TRIGGER shows, which is as it was written. information_schema's is not: quotes and backslashes
    that stand doubled in a text are single there, and 4-byte characters are question marks."""
    header = HEADER.match(statement)
    return statement[header.end():] if header else None


def same_modes(one, other):
    return set(filter(None, one.upper().split(","))) == set(filter(None, other.upper().split(",")))


def same_account(one, other):
    """Accounts as 'user@host'; only the host is compared without regard to case."""
    if one is None or other is None:
        return one == other
    return one.rpartition("@")[0] == other.rpartition("@")[0] and one.rpartition("@")[2].lower() == other.rpartition("@")[2].lower()


def differences(existing, wanted):
    """Which properties of an existing trigger are not as wanted. A wanted definer of None takes any."""
    found = []
    if (existing.timing, existing.event) != (wanted.timing, wanted.event):
        found.append("event")
    if clean_body(existing.body) != clean_body(wanted.body):
        found.append("body")
    if wanted.definer is not None and not same_account(existing.definer, wanted.definer):
        found.append("definer")
    if not same_modes(existing.sql_mode, wanted.sql_mode):
        found.append("sql_mode")
    return found


def _account(definer):
    if definer is None:
        return "CURRENT_USER"
    user, _at, host = definer.rpartition("@")
    return "{}@{}".format(quote(user) if user else "``", quote(host))


def create_sql(trigger, name=None, replace=False, precedes=None):
    return "CREATE {}DEFINER={} TRIGGER {} {} {} ON {} FOR EACH ROW {}{}".format(
        "OR REPLACE " if replace else "", _account(trigger.definer), qualified(trigger.schema, name or trigger.name),
        trigger.timing.upper(), trigger.event.upper(), qualified(trigger.schema, trigger.table),
        f"PRECEDES {quote(precedes)} " if precedes else "", clean_body(trigger.body))


def drop_sql(schema, name):
    return f"DROP TRIGGER {qualified(schema, name)}"


def show(trigger):
    """A trigger as diffs show it."""
    if trigger is None:
        return ""
    return f"-- sql_mode: {trigger.sql_mode}\n{create_sql(trigger)};\n"


def plan(engine, wanted, existing, *, beside, beside_is_wanted, follower):
    """The statements that put a trigger in place without a moment in which there is none.

    existing, beside: what stands under the name and under beside_name, or None. beside_is_wanted: what stands beside is the wanted
    trigger, left by a run that was interrupted. follower: the name of the next trigger of the same timing and event, whose place the order keeps.
    """
    schema, name, spare = wanted.schema, wanted.name, beside_name(wanted.name)
    drop_beside = [drop_sql(schema, spare)] if beside else []
    same_slot = existing is not None and (existing.timing, existing.event) == (wanted.timing, wanted.event)
    if existing is None:
        # What an interrupted run has left beside serves until ours is there.
        return [create_sql(wanted), *drop_beside]
    if engine == "mariadb":
        return [create_sql(wanted, replace=True, precedes=follower if same_slot else None), *drop_beside]
    statements = []
    if beside and not beside_is_wanted:
        statements += drop_beside
    if not (beside and beside_is_wanted):
        statements.append(create_sql(wanted, name=spare, precedes=name if same_slot else None))
    return [*statements, drop_sql(schema, name), create_sql(wanted, precedes=spare), drop_sql(schema, spare)]
