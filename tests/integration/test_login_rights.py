# SPDX-License-Identifier: GPL-3.0-or-later
"""What an account of a managed database may do: the rights that the documentation lists are enough for the
modules, none of them is too much, and each that is missing is named before anything is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from harness.accounts import FIRST, SECOND
from harness.modules import Modules
from harness.outbox_database import OutboxDatabase
from harness.places import ROOT

ADMIN = "admin@'127.0.0.1'"
TABLES = ["shop.item"]
DEFINER = "gearsync_definer@localhost"
DECLARED = {
    "table": "shop.item",
    "columns": ["id"],
    "write": [{"type": "hash", "key": "item:{id}"}],
    "wake": False,
    "definer": DEFINER,
}
DEFINER_ACCOUNT = {"name": "gearsync_definer", "purpose": "definer", "tables": TABLES, "outbox": True}
WORKER_ACCOUNT = {"name": "gearsync", "host": "%", "password": SECOND, "tables": TABLES}
#: All that the playbooks do with such a database, in their order.
WORK: list[tuple[str, dict[str, Any]]] = [
    ("outbox", {}),
    ("mysql_account", WORKER_ACCOUNT),
    ("mysql_account", DEFINER_ACCOUNT),
    ("sync_table", DECLARED),
    ("sync_table", {"table": "shop.item", "state": "absent"}),
    ("mysql_account", {**WORKER_ACCOUNT, "state": "absent"}),
    ("mysql_account", {**DEFINER_ACCOUNT, "state": "absent"}),
    ("outbox", {"state": "absent"}),
]


class Right(NamedTuple):
    """A right as the documentation has it."""

    privilege: str
    level: str


def documented() -> list[Right]:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- rights of a managed database -->\n```sql\n(.*?)```", text, re.DOTALL)
    assert block
    rights = []
    for privileges, level, option in re.findall(
        r"(?m)^GRANT (.*) ON (\S+) TO '\w+'@'%'( WITH GRANT OPTION)?;", block.group(1)
    ):
        rights += [Right(name, level) for name in privileges.split(", ")]
        rights += [Right("GRANT OPTION", level)] if option else []
    return rights


class Managed:
    """A server with an account that has rights of a managed database's."""

    def __init__(self, database: OutboxDatabase, modules: Modules) -> None:
        self.database, self.modules = database, modules
        self.login = {
            "login_unix_socket": None,
            "login_host": "127.0.0.1",
            "login_port": database.port,
            "login_user": "admin",
            "login_password": FIRST,
        }

    def privilege(self, right: Right) -> str:
        """Its name on this server."""
        names = {"SET_ANY_DEFINER": "SET USER"} if self.database.engine == "mariadb" else {}
        return names.get(right.privilege, right.privilege)

    def grant(self, *rights: Right) -> None:
        self.database.execute(
            *(f"GRANT {self.privilege(right)} ON {right.level} TO {ADMIN}" for right in rights)
        )

    def run(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self.modules.run(name, **self.login, **arguments)

    def refused(self) -> str:
        """The message of login_rights, which changes nothing."""
        result = self.run("login_rights", {"tables": TABLES, "definer": DEFINER})
        assert result.get("failed"), result
        return str(result["msg"])


@pytest.fixture
def managed(database: OutboxDatabase, modules: Modules, schema: str) -> Iterator[Managed]:
    def remove() -> None:
        database.execute(
            "DROP DATABASE IF EXISTS gearsync",
            f"DROP USER IF EXISTS {ADMIN}, gearsync@'%', {DEFINER}",
        )

    remove()
    database.execute(
        f"CREATE TABLE {schema}.item (id INT PRIMARY KEY) ENGINE=InnoDB",
        f"CREATE USER {ADMIN} IDENTIFIED BY '{FIRST}'",
        "SET GLOBAL log_bin_trust_function_creators = 1",
    )
    yield Managed(database, modules)
    database.execute("SET GLOBAL log_bin_trust_function_creators = 0")
    remove()


def test_the_documented_rights_are_enough(managed: Managed) -> None:
    managed.grant(*documented())
    assert managed.run("login_rights", {"tables": TABLES, "definer": DEFINER})["missing"] == []
    for name, arguments in WORK:
        result = managed.run(name, arguments)
        assert not result.get("failed"), (name, result["msg"])
        assert result["changed"]


@pytest.mark.parametrize("missing", documented(), ids=lambda right: f"{right.privilege} on {right.level}")
def test_each_right_is_needed_and_named_when_it_is_missing(managed: Managed, missing: Right) -> None:
    managed.grant(*(right for right in documented() if right != missing))
    message = managed.refused()
    level = re.sub(r"(\w+)", r"`\1`", missing.level.replace("shop.*", "shop.item"))
    if missing.privilege == "GRANT OPTION":
        assert f"GRANT USAGE ON {level} TO 'admin'@'127.0.0.1' WITH GRANT OPTION" in message
    else:
        assert f"GRANT {managed.privilege(missing)} ON {level} TO 'admin'@'127.0.0.1'" in message
    assert message.count("GRANT") == 1 + (missing.privilege == "GRANT OPTION")
    # Without the look before, one of the modules would have found out.
    assert any(managed.run(name, arguments).get("failed") for name, arguments in WORK)


def test_rights_on_everything_and_of_roles_count(managed: Managed) -> None:
    managed.database.execute("DROP ROLE IF EXISTS managers", "CREATE ROLE managers")
    rights = [right for right in documented() if right.privilege != "GRANT OPTION"]
    managed.database.execute(
        *(f"GRANT {managed.privilege(right)} ON *.* TO managers" for right in rights),
        f"GRANT managers TO {ADMIN}",
        f"SET DEFAULT ROLE managers {'FOR' if managed.database.engine == 'mariadb' else 'TO'} {ADMIN}",
        f"GRANT GRANT OPTION ON *.* TO {ADMIN}",
    )
    assert managed.run("login_rights", {"tables": TABLES, "definer": DEFINER})["missing"] == []
    managed.database.execute("DROP ROLE managers")


def test_a_binary_log_without_trust_in_those_who_make_triggers_is_named(managed: Managed) -> None:
    managed.grant(*documented())
    managed.database.execute("SET GLOBAL log_bin_trust_function_creators = 0")
    assert "Set log_bin_trust_function_creators to 1" in managed.refused()
    for name, arguments in WORK[:3]:
        assert not managed.run(name, arguments).get("failed")
    said = managed.run("sync_table", DECLARED)["msg"]
    assert "SUPER" in said
    assert "log_bin_trust_function_creators=1" in said


def test_triggers_of_the_login_itself_need_no_right_to_name_a_definer(managed: Managed) -> None:
    managed.grant(*(right for right in documented() if right.privilege != "SET_ANY_DEFINER"))
    assert managed.run("login_rights", {"tables": TABLES})["missing"] == []
    assert managed.run("sync_table", {name: value for name, value in DECLARED.items() if name != "definer"})[
        "changed"
    ]
    definers = managed.database.execute(
        "SELECT DISTINCT DEFINER FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = 'shop'"
    )
    assert definers == [("admin@127.0.0.1",)]
