# SPDX-License-Identifier: GPL-3.0-or-later
"""Every column type, from the statement to the bytes in Redis: each is compared with what a SELECT
returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import pytest
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

BYTES = "X'00FF80C328A0E2'"
# type, whether its values are bytes, values as SQL
COLUMNS: dict[str, tuple[str, list[str]]] = {
    "TINYINT": ("text", ["-128", "127"]),
    "TINYINT UNSIGNED": ("text", ["255"]),
    "SMALLINT": ("text", ["-32768"]),
    "MEDIUMINT": ("text", ["8388607"]),
    "INT": ("text", ["-2147483648"]),
    "INT(6) ZEROFILL": ("text", ["42"]),
    "BIGINT": ("text", ["-9223372036854775808"]),
    "BIGINT UNSIGNED": ("text", ["18446744073709551615", "9223372036854775808", "9007199254740993"]),
    "BOOLEAN": ("text", ["TRUE"]),
    "BIT(64)": ("number", ["b'1000000000000000000000000000000000000000000000000000000000000001'"]),
    "BIT(1)": ("number", ["1"]),
    "DECIMAL(65,30)": (
        "text",
        ["12345678901234567890123456789012345.123456789012345678901234567890", "-0.5"],
    ),
    "DECIMAL(5,2)": ("text", ["1.10"]),
    "FLOAT": ("text", ["0.1", "-3.402823e38", "1.17549e-38"]),
    "DOUBLE": ("text", ["0.1", "1.7976931348623157e308", "-2.2250738585072014e-308", "1e15"]),
    "DATE": ("text", ["'9999-12-31'", "'0000-00-00'", "'2026-00-00'"]),
    "DATETIME": ("text", ["'1000-01-01 00:00:00'", "'0000-00-00 00:00:00'"]),
    "DATETIME(6)": ("text", ["'2026-03-29 02:30:00.000001'"]),
    "TIME": ("text", ["'-838:59:59'", "'00:00:01'"]),
    "TIME(3)": ("text", ["'838:59:58.999'"]),
    "YEAR": ("text", ["2155", "0"]),
    "TIMESTAMP NULL": ("text", ["'2026-10-25 02:30:00'", "'0000-00-00 00:00:00'", "'1970-01-02 00:00:01'"]),
    "TIMESTAMP(6) NULL": ("text", ["'2038-01-18 03:14:07.999999'"]),
    "CHAR(20)": ("text", ["'a  '", "''", "'ä😀'"]),
    "VARCHAR(200)": ("text", ["'a  '", "'\\0\\n\\r\\t\\Z\"\\\\\\'{}[]'", "'😀 \u2028'", "'null'", "'12'"]),
    "VARCHAR(20) CHARACTER SET latin1": ("text", ["'ä'"]),
    "VARCHAR(20) CHARACTER SET utf16": ("text", ["'ä😀'"]),
    "TINYTEXT": ("text", ["'x'"]),
    "TEXT": ("text", ["REPEAT('ä\\n', 9000)"]),
    "MEDIUMTEXT": ("text", ["REPEAT('\\0', 70000)"]),
    "LONGTEXT": ("text", ["REPEAT('y', 16777216)", "'z'"]),
    "BINARY(8)": ("bytes", [BYTES]),
    "VARBINARY(20)": ("bytes", [BYTES, "''"]),
    "TINYBLOB": ("bytes", [BYTES]),
    "BLOB": ("bytes", [BYTES]),
    "MEDIUMBLOB": ("bytes", [BYTES]),
    "LONGBLOB": ("bytes", ["REPEAT(X'00FF', 8388608)", BYTES]),
    "VARCHAR(20) CHARACTER SET binary": ("bytes", [BYTES]),
    "ENUM('a','b''c','ü')": ("text", ["'ü'", "2"]),
    "SET('a','b','c')": ("text", ["'a,c'", "''"]),
    "JSON": ("text", ['\'{"a": [1, 2.50, "😀", null]}\'', "'\"text\"'", "'null'", "'1'"]),
    "POINT": ("bytes", ["ST_GeomFromText('POINT(1 2)')"]),
    "GEOMETRY": ("bytes", ["ST_GeomFromText('LINESTRING(0 0, 1 1)')"]),
}
MARIADB = {
    "UUID": ("text", ["'123e4567-e89b-12d3-a456-426655440000'"]),
    "INET6": ("text", ["'2001:db8::ff'"]),
    "INET4": ("text", ["'10.0.0.1'"]),
}
MYSQL = {"VECTOR(2)": ("bytes", ["STRING_TO_VECTOR('[1.5,-2]')"])}


def selected(database: OutboxDatabase, column: str, how: str, row: int) -> Optional[bytes]:
    """What a SELECT in UTC returns, as bytes."""
    expression = {
        "text": f"CONVERT(CAST({column} AS CHAR) USING utf8mb4)",
        "number": f"{column} + 0",
        "bytes": column,
    }[how]
    with database.connect(use_unicode=False, conv={}) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(f"SELECT {expression} FROM shop.types WHERE id = {row}")
        (value,) = cursor.fetchone()
        return value


@pytest.fixture
def columns(database: OutboxDatabase) -> dict[str, tuple[str, list[str]]]:
    mariadb = "MariaDB" in str(database.execute("SELECT VERSION()")[0][0])
    return {**COLUMNS, **(MARIADB if mariadb else MYSQL)}


def inserts(columns: dict[str, tuple[str, list[str]]]) -> dict[int, str]:
    """The statement for each row: one of NULL, and as many as a column has values."""
    statements = {100: "INSERT INTO shop.types (id) VALUES (100)"}
    for row in range(max(len(values) for _how, values in columns.values())):
        given = {
            f"c{number}": values[row]
            for number, (_how, values) in enumerate(columns.values())
            if row < len(values)
        }
        statements[row] = (
            f"INSERT INTO shop.types (id, {', '.join(given)}) VALUES ({row}, {', '.join(given.values())})"
        )
    return statements


def equal(kind: str, value: Optional[bytes], expected: Optional[bytes]) -> bool:
    """Whether a value of Redis is the one that MySQL returns; a FLOAT may have other digits."""
    if kind in {"FLOAT", "DOUBLE"} and None not in (value, expected):
        return float(value or 0) == float(expected or 0)
    return value == expected


@pytest.mark.parametrize("way", ["trigger", "reload"])
def test_every_type_arrives_as_a_select_returns_it(
    way: str,
    columns: dict[str, tuple[str, list[str]]],
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
) -> None:
    names = {f"c{number}": kind for number, kind in enumerate(columns)}
    definitions = ", ".join(f"{name} {kind}" for name, kind in names.items())
    database.execute(
        f"CREATE TABLE shop.types (id INT PRIMARY KEY, {definitions}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"
    )
    declaration: dict[str, Any] = {
        "table": "shop.types",
        "columns": ["id", *names],
        "write": [{"type": "hash", "key": "types:{id}"}],
    }
    if way == "trigger":
        database.sync_table(**declaration)
    rows = inserts(columns)
    # The session's zone and modes are not the server's.
    database.execute(
        "SET SESSION time_zone = '+05:30', sql_mode = 'NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES'",
        *rows.values(),
    )
    if way == "reload":
        database.sync_table(**declaration)
    start_worker(worker_config(redis_server.port, [{**declaration, "delivery": "durable"}], database.account))
    if way == "reload":
        # A changed key: the worker reads the rows itself.
        database.execute("UPDATE shop.types SET id = id + 1000", "UPDATE shop.types SET id = id - 1000")
    until(lambda: database.waiting, 0)
    assert database.execute("SELECT id, operation, error FROM gearsync.dead_letter") == []
    wrong = {}
    for row in rows:
        written = redis_server.client.hgetall(f"types:{row}")
        for name, kind in names.items():
            expected, value = selected(database, name, columns[kind][0], row), written.get(name.encode())
            if not equal(kind, value, expected):
                wrong[kind, row] = (expected and expected[:60], value and value[:60])
    assert wrong == {}
