# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._account_plan import (
    MONITORING,
    Records,
    Use,
    needs_of,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._grants import (
    ALL,
    NO_GRANTS,
    Step,
    apply_steps,
    foreign_lines,
    level_sql,
    missing_steps,
    parse_grants,
    show_grants,
    statement,
    surplus_steps,
    without_secrets,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._password_hash import is_password
from hypothesis import given
from hypothesis import strategies as st

A, B = ("shop", "a"), ("shop", "b")
NO_RECORDS = Records(False, set(), set())


@pytest.mark.parametrize(
    ("line", "levels"),
    [
        ("GRANT SELECT ON `shop`.`a` TO `u`@`%`", {A: {"SELECT"}}),
        ("GRANT SELECT, LOCK TABLES ON `b\\_ll`.* TO 'u'@'%'", {("b\\_ll", None): {"SELECT", "LOCK TABLES"}}),
        ("GRANT ALL PRIVILEGES ON `a``b.c`.`*` TO `u`@`%` WITH GRANT OPTION", {("a`b.c", "*"): {ALL}}),
        ("GRANT SELECT (`a`, `b ON ``c``.*`), INSERT ON `shop`.`a` TO `u`@`%`", {A: {"INSERT"}}),
        ("GRANT USAGE ON `shop`.`a` TO `u`@`%` WITH GRANT OPTION", {}),
    ],
)
def test_rights_on_tables_and_schemas(line, levels):
    assert parse_grants([line]).levels == levels


@pytest.mark.parametrize(
    "line",
    [
        "GRANT SELECT, PROCESS ON *.* TO `u`@`%`",
        "GRANT BACKUP_ADMIN,CLONE_ADMIN ON *.* TO `u`@`%`",
        "GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `u`@`%`",
        "GRANT PROXY ON ''@'' TO 'u'@'%'",
        "GRANT `reader`@`%` TO `u`@`%`",
        "SET DEFAULT ROLE `reader` FOR `u`@`%`",
        "REVOKE SELECT ON `mysql`.* FROM `u`@`%`",
        "GRANT SELECT (`id`) ON `shop`.`a`",
    ],
)
def test_other_rights_are_kept_as_they_are_and_are_foreign(line):
    grants = parse_grants([line])
    assert show_grants(grants) == [line] == list(grants.others)
    assert foreign_lines(grants, {A: {"SELECT"}}, MONITORING) == [line]


def test_a_right_on_columns_is_kept_beside_the_one_on_their_table():
    grants = parse_grants(["GRANT SELECT, SELECT (`id`) ON `shop`.`a` TO `u`@`%`"])
    assert grants.levels == {A: {"SELECT"}}
    assert grants.others == ("GRANT SELECT (`id`) ON `shop`.`a`",)
    # Revoking the former would take the latter.
    assert surplus_steps(grants, {A: ("SELECT",)}) == []


def test_a_right_to_see_replicas_and_none_at_all_are_not_foreign():
    lines = [
        "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*6BB'",
        "GRANT SLAVE MONITOR ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*6BB'",
    ]
    grants = parse_grants(lines)
    assert foreign_lines(grants, {}, MONITORING) == []
    assert show_grants(grants) == ["GRANT SLAVE MONITOR ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD 'hidden'"]
    assert foreign_lines(parse_grants([lines[1] + " WITH GRANT OPTION"]), {}, MONITORING)


def test_no_hash_is_shown():
    line = (
        "GRANT SELECT ON *.* TO `o'b`@`%` IDENTIFIED VIA ed25519 USING 'a''b\\'c' OR unix_socket REQUIRE SSL"
    )
    assert without_secrets(line) == (
        "GRANT SELECT ON *.* TO `o'b`@`%` IDENTIFIED VIA ed25519 USING 'hidden' OR unix_socket REQUIRE SSL"
    )


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
LEVELS = st.tuples(NAMES, st.none() | NAMES)
PRIVILEGES = st.frozensets(st.sampled_from(["SELECT", "INSERT", "LOCK TABLES", "TRIGGER"]), min_size=1)


@given(st.dictionaries(LEVELS, PRIVILEGES))
def test_what_is_granted_is_read_back(levels):
    lines = [
        statement(Step("GRANT", tuple(sorted(privileges)), level), "`u ON ``x``.* TO`@`%`")
        for level, privileges in levels.items()
    ]
    assert parse_grants(lines).levels == levels


@given(st.dictionaries(LEVELS, PRIVILEGES), st.dictionaries(LEVELS, PRIVILEGES))
def test_steps_lead_to_what_is_wanted_and_then_there_are_none(before, wanted):
    grants = parse_grants(
        [statement(Step("GRANT", tuple(sorted(has)), level), "`u`@`%`") for level, has in before.items()]
    )
    after = apply_steps(grants, missing_steps(grants, wanted))
    for level in before.keys() | wanted.keys():
        assert after.levels[level] == before.get(level, frozenset()) | wanted.get(level, frozenset())
    assert missing_steps(after, wanted) == []
    less = apply_steps(after, surplus_steps(after, wanted))
    assert not [level for level in wanted if wanted[level] & less.levels.get(level, set())]
    assert surplus_steps(less, wanted) == []


@pytest.mark.parametrize(
    "line",
    [
        "GRANT ALL PRIVILEGES ON `shop`.`a` TO `u`@`%`",
        "GRANT SELECT ON `shop`.`a` TO `u`@`%` WITH GRANT OPTION",
    ],
)
def test_what_somebody_else_has_granted_is_enough_and_is_not_revoked(line):
    grants = parse_grants([line])
    assert missing_steps(grants, {A: ("SELECT",)}) == []
    assert surplus_steps(grants, {A: ("SELECT",)}) == []
    assert foreign_lines(grants, {A: ("SELECT",)}, MONITORING) == [line.replace(" TO `u`@`%`", "")]


def rights(**levels):
    """Grants on shop.a and shop.b."""
    return NO_GRANTS._replace(levels={("shop", name): frozenset(has) for name, has in levels.items()})


def test_a_worker_needs_the_outbox_while_there_is_one():
    for tables, outbox, there, needed in (
        ([A], None, False, True),
        ([], None, False, False),
        ([], None, True, True),
        ([], True, False, True),
        ([A], False, False, False),
    ):
        records = Records(there, set(), set())
        needs = needs_of("worker", tables, NO_GRANTS, records=records, outbox=outbox)
        assert (("gearsync", None) in needs.wanted) == needed
        assert (("gearsync", None) in needs.unneeded) == (not needed)


def test_a_worker_loses_only_what_was_declared_and_is_not_synced_any_more():
    grants = rights(a=["SELECT"], b=["SELECT"], c=["SELECT"])
    records = Records(True, {B}, {A, B})
    needs = needs_of("worker", [], grants, records=records)
    assert needs.unneeded == {A: ("SELECT",)}
    assert needs_of("worker", [], grants, records=records, gone={B}).unneeded == {
        A: ("SELECT",),
        B: ("SELECT",),
    }
    assert needs_of("worker", [A], grants, records=records).unneeded == {}
    assert foreign_lines(grants, needs.ours, MONITORING) == ["GRANT SELECT ON `shop`.`c`"]


def test_a_definer_loses_only_what_no_trigger_of_its_needs():
    pair = ("SELECT", "TRIGGER")
    grants = rights(a=pair, b=pair, c=["SELECT"])
    needs = needs_of("definer", [], grants, records=NO_RECORDS, use=Use({B}, True))
    assert needs.unneeded == {A: pair}
    needs = needs_of("definer", [A], grants, records=NO_RECORDS, use=Use(set(), False), outbox=False)
    assert needs.unneeded == {B: pair, ("gearsync", "outbox"): ("INSERT",)}
    assert needs.wanted == {A: pair}


def test_records_of_our_own_schema_are_never_a_table_of_the_application():
    own = ("gearsync", "outbox")
    grants = NO_GRANTS._replace(levels={own: frozenset(("SELECT", "TRIGGER"))})
    needs = needs_of("definer", [A], grants, records=Records(True, set(), {own}))
    assert own not in needs.unneeded


def test_levels():
    assert level_sql(("a`b", None)) == "`a``b`.*"
    assert level_sql(("a", "*")) == "`a`.`*`"


#: Made by MariaDB 10.11 and MySQL 9.7.
@pytest.mark.parametrize(
    ("plugin", "stored"),
    [
        ("mysql_native_password", "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"),
        (
            "caching_sha2_password",
            "$A$00A$q\x1fa~Ji\x06\x0b\x1a73|fB9e\x044\x0f\x1c3oXyPpIPDKYLvyanla7T7Wy7f9.AspQ40X6cFY/YY0/",
        ),
    ],
)
def test_a_password_is_compared_with_its_hash(plugin, stored):
    assert is_password("password", plugin, stored)
    assert is_password("passwore", plugin, stored) is False
    assert is_password("", plugin, stored) is False
    assert is_password("password", plugin, "") is False


def test_a_hash_of_another_kind_is_not_compared():
    assert is_password("password", "ed25519", "x") is None
    assert is_password("password", "caching_sha2_password", "$B$005$" + "x" * 63) is None
