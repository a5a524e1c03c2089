# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of an application, and no account of the collection."""

import pytest


@pytest.fixture(autouse=True)
def tables(database, schema):
    """Three tables of the application, one of another's, and no account."""

    def remove():
        accounts = database.execute(
            "SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.user WHERE User NOT IN ('root', "
            "'mysql', '') AND User NOT LIKE 'mariadb.%' AND User NOT LIKE 'mysql.%'"
        )
        database.execute(
            "DROP DATABASE IF EXISTS gearsync",
            "DROP DATABASE IF EXISTS `b_ll%`",
            *(f"DROP USER {account}" for (account,) in accounts),
        )

    remove()
    database.execute(
        *(f"CREATE TABLE shop.{name} (id INT PRIMARY KEY)" for name in ("a", "b", "c")),
        "CREATE DATABASE `b_ll%`",
        "CREATE TABLE `b_ll%`.`in``voice` (id INT PRIMARY KEY)",
    )
    yield
    remove()
