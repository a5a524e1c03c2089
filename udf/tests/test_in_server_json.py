# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of JSON inside a real database server: types, sizes and character sets."""

from __future__ import annotations

import json

from udf_servers import Database, Session

#: A row with a column of each type: the table, the row, the columns as JSON sees them, and their values.
EVERY_TYPE_TABLE = """CREATE TABLE t (
    ti tinyint, bu bigint unsigned, b bigint, z int(8) zerofill, d decimal(30,10),
    dz decimal(6,2) zerofill, f float, db double, dt datetime(3), ts timestamp, ti6 time(6),
    y year, b1 bit(1), b8 bit(8), b19 bit(19), b20 bit(20), b21 bit(21), b24 bit(24), b48 bit(48),
    b64 bit(64), f102 float(10,2), d122 double(12,2), d123 double(12,3), i64 int(64),
    bl blob, e enum('a','b'), s set('x','y'), js json, text4 text character set utf8mb4)"""
EVERY_TYPE_ROW = """INSERT INTO t VALUES (-5, 18446744073709551615, -9223372036854775808, 42,
    -12345678901234567890.1234567891, 7.5, 1.1, 0.1,
    '2020-01-02 03:04:05.678', '2020-01-01', '-12:00:00.000001',
    2020, 1, 0x31, 0x73132, 0x0F3132, 0x1F3132, 0x313233, 0x313233343536, 0xffffffffffffffff,
    1.1, 1234567.25, 2097152.125, -5, x'00ff', 'b', 'x,y', '{"k":[1]}', '€ 😀')"""
EVERY_TYPE_NAMES = (
    "ti,bu,b,z,d,dz,f,db,dt,ts,ti6,y,b1,b8,b19,b20,b21,b24,b48,b64,f102,d122,d123,i64,bl AS "
    "base64_bl,e,s,js AS json_js,js,text4"
)
EVERY_TYPE = {
    "ti": -5, "bu": 18446744073709551615, "b": -9223372036854775808, "z": 42,
    "d": "-12345678901234567890.1234567891", "dz": "7.50", "f": "1.1", "db": "0.1",
    "dt": "2020-01-02 03:04:05.678", "ts": "2020-01-01 00:00:00", "ti6": "-12:00:00.000001", "y": 2020,
    "b1": 1, "b8": 0x31, "b19": 0x73132, "b20": 0x0F3132, "b21": 0x1F3132, "b24": 0x313233,
    "b48": 0x313233343536, "b64": 2**64 - 1, "f102": "1.1", "d122": "1234567.25", "d123": "2097152.125",
    "i64": -5,
    "base64_bl": "AP8=", "e": "b", "s": "x,y", "json_js": {"k": [1]}, "text4": "€ 😀",
}  # fmt: skip


def test_json_of_every_type(sql: Session) -> None:
    sql.all(EVERY_TYPE_TABLE)
    sql.all(EVERY_TYPE_ROW)
    written = json.loads(str(sql.one(f"SELECT udf_json_object({EVERY_TYPE_NAMES}) FROM t")), parse_float=str)
    assert json.loads(written.pop("js")) == {"k": [1]}
    assert written == EVERY_TYPE
    expressions = (
        "NULL, TRUE, 1.50, 1e0, -5, b8 + 0, ~0, CAST(bu AS UNSIGNED), bu + 0, bu - 1, IF(1, bu, 1), "
        "COALESCE(bu, 1)"
    )
    top = 2**64 - 1
    assert (
        sql.one(f"SELECT udf_json_array({expressions}) FROM t")
        == f"[null,1,1.50,1,-5,49,{top},{top},{top},{top - 1},{top},{top}]"
    )
    assert (
        sql.one("SELECT udf_json_array(MAX(bu), COUNT(*), SUM(ti)) FROM t") == "[18446744073709551615,1,-5]"
    )
    nested = (
        "SELECT udf_json_object(json_members('a', 1, 'b', udf_json_array(1, 'x', NULL)), t.ti, "
        "json_members()) FROM t"
    )
    assert sql.one(nested) == '{"a":1,"b":[1,"x",null],"ti":-5}'
    assert (
        sql.one("SELECT udf_json_array(json_object('a', 1), udf_json_object(ti)) FROM t")
        == '[{"a": 1},{"ti":-5}]'
    )
    sql.all("CREATE VIEW v AS SELECT udf_json_object(t.ti, t.e AS 'kind') j FROM t")
    assert sql.one("SELECT j FROM v") == '{"ti":-5,"kind":"b"}'


def test_json_of_more_than_16_mib_is_whole(sql: Session, database: Database) -> None:
    size = 20_000_000
    before = sql.one("SELECT @@GLOBAL.max_allowed_packet")
    sql.all("SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")
    session = Session(database)
    session.all("USE test; CREATE TABLE t (a longtext); INSERT INTO t VALUES (REPEAT('x', 20000000))")
    assert session.one("SELECT LENGTH(udf_json_array(a)) FROM t") == size + 4
    assert session.one("SELECT udf_json_array(a) FROM t") == f'["{"x" * size}"]'
    # through a temporary table, and into a column
    assert (
        session.one(
            "SELECT LENGTH(j) FROM (SELECT udf_json_object(a) j FROM t UNION ALL SELECT '' LIMIT 9) d ORDER "
            "BY 1 DESC LIMIT 1"
        )
        == size + 8
    )
    session.all("CREATE TABLE made AS SELECT udf_json_array(a) j FROM t")
    assert session.one("SELECT LENGTH(j) FROM made") == size + 4
    session.connection.close()
    sql.all(f"SET GLOBAL max_allowed_packet = {before}")


def test_character_sets(sql: Session) -> None:
    sql.all(
        "CREATE TABLE t (l varchar(9) character set latin1, u varchar(9) character set utf16, e enum('ä') "
        "character set latin1, b varbinary(9))"
    )
    sql.all("INSERT INTO t VALUES ('aä€', 'aä😀', 'ä', x'00ff'), (NULL, NULL, NULL, NULL)")
    converted = (
        "SELECT udf_json_array(CONVERT(l USING utf8mb4), CONVERT(u USING utf8mb4), CONVERT(e USING "
        "utf8mb4)) FROM t"
    )
    assert sql.all(converted) == [('["aä€","aä😀","ä"]',), ("[null,null,null]",)]
    as_stored = sql.all("SELECT udf_json_object(l, u, e, b, b AS base64_b) FROM t")
    assert as_stored[1] == ('{"l":null,"u":null,"e":null,"b":null,"base64_b":null}',)
    if "MariaDB" in str(sql.one("SELECT VERSION()")):
        return  # no interface for character sets: README.md recommends CONVERT
    assert as_stored[0] == ('{"l":"aä€","u":"aä😀","e":"ä","b":"\\u0000�","base64_b":"AP8="}',)
    assert sql.row("SELECT CHARSET(udf_json_array(l)), CHARSET(gman_stats()) FROM t LIMIT 1") == (
        "utf8mb4",
        "utf8mb4",
    )
    assert (
        sql.one("SELECT JSON_EXTRACT(gman_stats(), '$.version')") == f'"{sql.one("SELECT gman_version()")}"'
    )
