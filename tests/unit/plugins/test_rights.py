# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rights a login lacks, from what SHOW GRANTS prints."""

from __future__ import annotations

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._rights import (
    EVERYTHING,
    GRANT_OPTION,
    definer_right,
    grant_statements,
    held_rights,
    missing_rights,
    needed_rights,
)

TABLE = ("shop", "item")
ACCOUNT = "'admin'@'%'"
#: As docs/operations.md has them.
DOCUMENTED = [
    "GRANT CREATE USER, SET USER ON *.* TO `admin`@`%` IDENTIFIED BY PASSWORD '*AB'",
    "GRANT SELECT ON `mysql`.* TO `admin`@`%`",
    (
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, EXECUTE, CREATE ROUTINE, ALTER ROUTINE "
        "ON `gearsync`.* TO `admin`@`%` WITH GRANT OPTION"
    ),
    "GRANT SELECT, TRIGGER ON `shop`.* TO `admin`@`%` WITH GRANT OPTION",
]


def lacking(*lines: str) -> list[str]:
    needed = needed_rights("mariadb", (10, 11, 19), [TABLE], definer=True)
    return grant_statements(missing_rights(held_rights(lines), needed), ACCOUNT)


def test_the_documented_rights_are_enough() -> None:
    assert lacking(*DOCUMENTED) == []


@pytest.mark.parametrize(
    ("line", "statement"),
    [
        (0, "GRANT CREATE USER, SET USER ON *.* TO 'admin'@'%'"),
        (1, "GRANT SELECT ON `mysql`.* TO 'admin'@'%'"),
        (
            2,
            (
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, CREATE ROUTINE, ALTER ROUTINE, "
                "EXECUTE ON `gearsync`.* TO 'admin'@'%' WITH GRANT OPTION"
            ),
        ),
        (3, "GRANT SELECT, TRIGGER ON `shop`.`item` TO 'admin'@'%' WITH GRANT OPTION"),
    ],
)
def test_what_is_missing_is_a_statement_for_each_level(line: int, statement: str) -> None:
    assert lacking(*(each for number, each in enumerate(DOCUMENTED) if number != line)) == [statement]


def test_the_right_to_pass_on_is_missing_by_itself() -> None:
    lines = [line.replace(" WITH GRANT OPTION", "") if "`shop`" in line else line for line in DOCUMENTED]
    assert lacking(*lines) == ["GRANT USAGE ON `shop`.`item` TO 'admin'@'%' WITH GRANT OPTION"]


@pytest.mark.parametrize(
    "line",
    [
        "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION",
        "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` IDENTIFIED VIA unix_socket WITH GRANT OPTION",
    ],
)
def test_an_account_with_all_rights_lacks_none(line: str) -> None:
    assert lacking(line, "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION") == []


def test_rights_on_everything_count_unless_they_are_revoked_for_the_schema() -> None:
    lines = [*DOCUMENTED[:1], "GRANT SELECT ON *.* TO `admin`@`%`", *DOCUMENTED[2:]]
    assert lacking(*lines) == []
    assert lacking(*lines, "REVOKE SELECT, INSERT ON `mysql`.* FROM `admin`@`%`") == [
        "GRANT SELECT ON `mysql`.* TO 'admin'@'%'"
    ]


@pytest.mark.parametrize(
    ("pattern", "covers"), [("s%", True), ("sh_p", True), ("sh\\_p", False), ("Shop", False)]
)
def test_the_schema_of_a_grant_is_a_pattern(pattern: str, covers: bool) -> None:
    line = f"GRANT SELECT, TRIGGER ON `{pattern}`.* TO `admin`@`%` WITH GRANT OPTION"
    assert (lacking(*DOCUMENTED[:3], line) == []) == covers


def test_a_right_on_one_table_is_none_on_another() -> None:
    line = "GRANT SELECT, TRIGGER ON `shop`.`order` TO `admin`@`%` WITH GRANT OPTION"
    assert len(lacking(*DOCUMENTED[:3], line)) == 1


def test_triggers_of_the_login_itself_need_no_right_to_name_another() -> None:
    needed = needed_rights("mysql", (9, 7, 4), [], definer=False)
    assert needed[EVERYTHING] == ("CREATE USER",)
    assert GRANT_OPTION in needed["gearsync", None]


@pytest.mark.parametrize(
    ("engine", "version", "right"),
    [
        ("mariadb", (10, 5, 1), "SUPER"),
        ("mariadb", (10, 5, 2), "SET USER"),
        ("mysql", (5, 7, 44), "SUPER"),
        ("mysql", (8, 0, 36), "SET_USER_ID"),
        ("mysql", (8, 4, 0), "SET_ANY_DEFINER"),
        ("mysql", (9, 7, 4), "SET_ANY_DEFINER"),
    ],
)
def test_the_right_to_name_a_definer_has_its_name_by_the_version(
    engine: str, version: tuple[int, ...], right: str
) -> None:
    assert definer_right(engine, version) == right
