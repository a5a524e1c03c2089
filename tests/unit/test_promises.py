# SPDX-License-Identifier: GPL-3.0-or-later
"""Each sentence of the documentation that says that nothing is lost, harmed or to be done has a test."""

import re

import pytest
from harness.places import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "docs/architecture.md", ROOT / "docs/operations.md"]
#: What such a sentence has.
WORDS = re.compile(
    r"nothing to do|no harm|harmless|loses? nothing|nothing is (?:lost|skipped|changed)|lost[a-z ]*:\*\* "
    r"nothing|nobody up|changes nothing|and nothing else|"
    r"up nothing|nothing else|no lock is left|triggers stay \| nothing|down \| nothing|touches "
    r"nothing|nothing outside",
    re.IGNORECASE,
)
#: A part of each, and the tests that show it.
SHOWN = {
    "A second `make demo` on the running host changes nothing": [
        "test_a_second_run_changes_nothing_and_prints_nothing_secret_at_the_highest_verbosity"
    ],
    "shows what would change, touches nothing": [
        "test_check_mode_on_deployed_hosts_reports_no_change",
        "test_life_of_a_durable_declaration",
    ],
    "Nothing is changed on any host when a declaration is wrong": [
        "test_all_declarations_against_the_rules_are_named_before_a_host_is_touched",
        "test_all_declarations_against_the_tables_are_named_before_anything_changed",
    ],
    "A server that is read-only is refused at the login": [
        "test_a_server_that_is_read_only_is_not_written_to_also_when_the_account_may"
    ],
    "then `primary_changed`. Nothing is lost or applied twice": [
        "test_a_planned_switch_is_followed_and_nothing_is_lost_or_repeated"
    ],
    "Nothing is lost of what the one has that stays the primary": [
        "test_of_two_writable_members_none_is_drained_and_the_former_one_is_drained_when_it_is_alone_again"
    ],
    "Nothing is lost in any order: while a login fails": [
        "test_new_passwords_of_mysql_and_of_a_user_of_redis_lose_no_change"
    ],
    "Of several writable members none is drained": [
        "test_of_two_writable_members_none_is_drained_and_the_former_one_is_drained_when_it_is_alone_again"
    ],
    "records under its id only if it has the same digest": [
        "test_reused_ids_are_other_changes_whatever_the_new_primarys_clock"
    ],
    "nothing is deleted from one server that was applied from another": [
        "test_nothing_is_deleted_from_another_server_than_that_of_the_drains_session"
    ],
    "A replica that becomes the primary may have a change and lack its deletion": [
        "test_what_the_new_primary_still_has_to_delete_is_not_applied_again"
    ],
    "and hold no writer up": [
        "test_a_locked_row_holds_the_resync_up_and_never_the_writer",
        "test_a_resync_that_is_frozen_at_any_moment_holds_up_no_write",
        "test_verify_finds_nothing_wrong_while_writers_write",
    ],
    "at the very most | nothing outside the database": [
        "test_no_write_fails_when_the_job_server_is_down",
        "test_wake_never_waits",
    ],
    "Collations do no harm here": [
        "test_a_key_that_two_rows_would_share_is_refused",
        "test_large_rows_with_keys_of_every_kind_are_loaded",
    ],
    "looked for each time, and nothing is skipped": [
        "test_a_seen_change_is_not_read_again_and_a_late_one_is"
    ],
    "An open snapshot has no number and holds up nothing": [
        "test_looks_begin_after_the_ids_that_no_open_transaction_can_insert"
    ],
    "the open transaction of a writer holds up nothing but its own changes": [
        "test_exactly_the_applied_changes_are_deleted_without_waiting_for_open_transactions",
        "test_a_transaction_that_does_not_end_delays_only_its_own_changes",
    ],
    "Without the right the log is longer, and nothing else differs": [
        "test_when_the_log_cannot_be_shortened_one_session_deletes_all"
    ],
    "a piece is copied twice, which changes nothing": [
        "test_a_resync_that_is_killed_continues_where_it_stopped"
    ],
    "A wake that is lost costs latency and nothing else": [
        "test_a_missing_wake_function_fails_no_write",
        "test_kill_9_of_the_worker_loses_and_invents_nothing",
    ],
    "a change is written twice. That changes nothing but lists and streams": [
        "test_replacing_leaves_no_moment_without_a_trigger"
    ],
    "**Durable delivery loses nothing while a part is away.**": [
        "test_kill_9_of_the_worker_loses_and_invents_nothing",
        "test_redis_may_be_down_for_a_while",
        "test_mysqld_may_be_killed",
        "test_everything_may_come_up_in_any_order",
        "test_a_part_may_be_away",
    ],
    "**Lost meanwhile:** nothing. Readers of Redis see old rows": [
        "test_redis_may_be_down_for_a_while",
        "test_kill_9_of_the_worker_loses_and_invents_nothing",
    ],
    "**Lost meanwhile:** nothing. Changes of other transactions": [
        "test_a_transaction_that_does_not_end_delays_only_its_own_changes"
    ],
    "Nothing else depends on it but what looks cost": [
        "test_where_transactions_cannot_be_seen_their_metrics_are_absent_and_all_else_is_in_order"
    ],
    "it can do no harm to live ones": ["test_a_repair_does_no_harm_to_rows_that_change_meanwhile"],
    "the fence has done its work. **Lost:** nothing": [
        "test_a_paused_worker_that_wakes_after_its_lease_is_refused",
        "test_paused_workers_under_load_write_nothing_stale",
    ],
    "one of several is down | nothing": ["test_each_job_server_can_be_lost"],
    "no lock is left behind": [
        "test_a_resync_that_is_frozen_at_any_moment_holds_up_no_write",
        "test_an_interrupted_resync_continues_and_reports_it",
    ],
    "jobs in the job servers' memory. **Lost meanwhile:** nothing": [
        "test_redis_may_be_down_for_a_while",
        "test_nothing_is_lost_while_redis_is_down",
    ],
    "There is nothing to do but to bring it back": [
        "test_redis_may_be_down_for_a_while",
        "test_the_worker_waits_for_a_redis_without_memory",
    ],
    "There is nothing to do but to bring the node back": [
        "test_nothing_is_lost_while_slots_move_and_a_node_is_unreachable",
        "test_an_unreachable_node_delays_only_its_own_changes",
    ],
    "**It was away and comes back**: nothing to do": [
        "test_mysqld_may_be_killed",
        "test_the_job_servers_are_still_set_after_a_restart_of_the_database",
    ],
    "an index | triggers stay | nothing": ["test_a_column_or_an_index_that_is_added_needs_nothing"],
    "and is filled again. **Lost:** nothing that was committed": [
        "test_a_change_that_cannot_be_kept_fails_the_write",
        "test_a_rolled_back_change_is_never_applied",
    ],
    "**Lost meanwhile:** nothing that is durable; the other hosts take over": [
        "test_processes_share_the_shards_and_give_them_back",
        "test_each_worker_can_be_killed",
    ],
}


@pytest.fixture(scope="module")
def text():
    return " ".join(re.sub(r"\s+", " ", document.read_text(encoding="utf-8")) for document in DOCUMENTS)


def test_each_sentence_has_a_test(text):
    places = [(text.index(part), text.index(part) + len(part)) for part in SHOWN]
    unknown = [
        text[max(0, found.start() - 60) : found.end() + 30]
        for found in WORDS.finditer(text)
        if not any(first <= found.start() and found.end() <= last for first, last in places)
    ]
    assert unknown == []


def test_each_of_these_tests_exists():
    sources = [
        path.read_text(encoding="utf-8")
        for place in ("tests", "worker/tests", "udf/tests", "molecule")
        for path in (ROOT / place).rglob("test_*.py")
    ]
    there = {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}
    assert {name for names in SHOWN.values() for name in names} - there == set()
