# SPDX-License-Identifier: GPL-3.0-or-later
"""Every type of column that the servers have, with a value, and how that value travels in a change."""

from __future__ import annotations

from typing import Any

Column = tuple[str, str, "str | None", Any]

COMMON: list[Column] = [
    # column, its type, an SQL value, how it travels
    ("c_tiny", "TINYINT(1)", "1", 1),
    ("c_big", "BIGINT UNSIGNED", "18446744073709551615", 18446744073709551615),
    ("c_small", "BIGINT", "-9223372036854775808", -9223372036854775808),
    ("c_fill", "INT(6) ZEROFILL", "42", "000042"),
    ("c_dec_fill", "DECIMAL(8,2) ZEROFILL", "1.5", "000001.50"),
    (
        "c_bit",
        "BIT(64)",
        "b'1111111111111111111111111111111111111111111111111111111111111111'",
        18446744073709551615,
    ),
    ("c_bit1", "BIT(1)", "b'0'", 0),
    ("c_float", "FLOAT", "1.1", {"$num": "1.1"}),
    ("c_double", "DOUBLE", "0.1", {"$num": "0.1"}),
    ("c_huge", "DOUBLE", "1.7976931348623157e308", {"$num": "1.7976931348623157e308"}),
    ("c_date", "DATE", "'2024-02-29'", "2024-02-29"),
    ("c_zero_date", "DATE", "'0000-00-00'", "0000-00-00"),
    ("c_time", "TIME(3)", "'-838:59:58.999'", "-838:59:58.999"),
    ("c_datetime", "DATETIME", "'9999-12-31 23:59:59'", "9999-12-31 23:59:59"),
    ("c_datetime6", "DATETIME(6)", "'2024-01-01 00:00:00.000001'", "2024-01-01 00:00:00.000001"),
    ("c_year", "YEAR", "2024", "2024"),
    ("c_year0", "YEAR", "0", "0000"),
    ("c_char", "CHAR(10)", "'x  '", "x"),
    (
        "c_varchar",
        "VARCHAR(40)",
        "CONCAT('q\"\\\\', CHAR(9), CHAR(10), 'ä\U0001f600  ')",
        'q"\\\t\nä\U0001f600  ',
    ),
    ("c_latin1", "VARCHAR(40) CHARACTER SET latin1", "'äöß€'", "äöß€"),
    ("c_utf16", "VARCHAR(40) CHARACTER SET utf16", "'ä\U0001f600'", "ä\U0001f600"),
    ("c_bin_collation", "VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "'Aä'", "Aä"),
    ("c_looks_like_json", "VARCHAR(40)", "'{\"a\": 1}'", '{"a": 1}'),
    ("c_text", "LONGTEXT", "REPEAT('ä', 40000)", "ä" * 40000),
    ("c_enum", "ENUM('ä''x', 'b')", "1", "ä'x"),
    ("c_set", "SET('x', 'y', 'z')", "'z,x'", "x,z"),
    ("c_binary", "BINARY(4)", "x'00FF'", {"$hex": "00FF0000"}),
    ("c_varbinary", "VARBINARY(40)", "x'00FFC328'", {"$hex": "00FFC328"}),
    ("c_blob", "BLOB", "''", {"$hex": ""}),
    ("c_char_binary", "VARCHAR(10) CHARACTER SET binary", "x'FF'", {"$hex": "FF"}),
    ("c_point", "POINT", "POINT(1, 2)", {"$hex": "000000000101000000000000000000F03F0000000000000040"}),
    ("c_virtual", "INT GENERATED ALWAYS AS (id + 1) VIRTUAL", None, 2),
    ("c_stored", "VARCHAR(40) GENERATED ALWAYS AS (CONCAT('s', id)) STORED", None, "s1"),
    # The session's zone is Berlin's, in summer and in winter.
    (
        "c_timestamp",
        "TIMESTAMP(3) NULL DEFAULT NULL",
        "FROM_UNIXTIME(1720000000.123)",
        "2024-07-03 09:46:40.123",
    ),
    ("c_timestamp_winter", "TIMESTAMP NULL DEFAULT NULL", "FROM_UNIXTIME(1700000000)", "2023-11-14 22:13:20"),
    ("c_timestamp_zero", "TIMESTAMP(2) NULL DEFAULT NULL", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00.00"),
]
ONLY: dict[str, list[Column]] = {
    "mariadb": [
        ("c_json", "JSON", "'{\"a\":  1.0}'", {"$json": '{"a":  1.0}'}),
        ("c_uuid", "UUID", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),
        ("c_inet6", "INET6", "'::1'", "::1"),
        ("c_inet4", "INET4", "'10.0.0.1'", "10.0.0.1"),
    ],
    "mysql": [
        ("c_json", "JSON", '\'{"b": 2, "a":  1.0}\'', {"$json": '{"a": 1.0, "b": 2}'}),
        ("c_vector", "VECTOR(2)", "STRING_TO_VECTOR('[1,2]')", {"$hex": "0000803F00000040"}),
    ],
}
