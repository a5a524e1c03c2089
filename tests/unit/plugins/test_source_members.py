# SPDX-License-Identifier: GPL-3.0-or-later
"""Which member of a source is the primary."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from harness.source_infos import Info, channel_from, decide, follow, problems, register, server
from hypothesis import given
from hypothesis import strategies as st


def tree(parents: list[int], is_mysql: bool = True) -> dict[str, Info]:
    """Members db0, db1, …: db0 is the primary, and each further one replicates from that of this number."""
    infos = [
        server(number, **({} if is_mysql else {"server_uuid": None})) for number in range(1, len(parents) + 2)
    ]
    for number, parent in enumerate(parents, start=1):
        follow(infos[number], infos[parent])
    return {f"db{number}": info for number, info in enumerate(infos)}


TREES = st.integers(0, 6).flatmap(
    lambda size: st.tuples(*(st.integers(0, number) for number in range(size))).map(list)
)


@pytest.fixture(params=[True, False], ids=["mysql", "mariadb"])
def pair(request: pytest.FixtureRequest) -> dict[str, Info]:
    return tree([0], request.param)


@given(parents=TREES, is_mysql=st.booleans(), data=st.data())
def test_a_healthy_tree_has_its_root_as_the_primary(
    parents: list[int], is_mysql: bool, data: st.DataObject
) -> None:
    infos = tree(parents, is_mysql)
    order = data.draw(st.permutations(list(infos)))
    decision = decide({name: infos[name] for name in order})
    assert decision == {
        "primary": "db0",
        "replicas": [name for name in order if name != "db0"],
        "problems": [],
        "warnings": [],
        "unlisted_replicas": [],
    }


@given(parents=TREES.filter(bool), is_mysql=st.booleans(), data=st.data())
def test_a_replica_that_is_no_member_is_named(
    parents: list[int], is_mysql: bool, data: st.DataObject
) -> None:
    infos = tree(parents, is_mysql)
    leaves = [number for number in range(1, len(infos)) if number not in parents]
    left_out = data.draw(st.sampled_from(leaves))
    del infos[f"db{left_out}"]
    decision = decide(infos)
    assert decision["primary"] == "db0"
    assert decision["unlisted_replicas"] == [
        f"host{left_out + 1}:3306 (server_id {left_out + 1}) replicates from db{parents[left_out - 1]}"
    ]


def fault_writable(info: Info) -> None:
    info.update(read_only=False, accepts_writes=True)


def fault_sql(info: Info) -> None:
    info["channels"][0].update(sql_running="No", sql_error_number=1126, sql_error="Can't open")


def fault_io(info: Info) -> None:
    info["channels"][0].update(io_running="Connecting", io_error_number=2003, io_error="Can't connect")


def fault_source(info: Info) -> None:
    info["channels"][0].update(source_uuid="uuid-99", source_server_id=99)


def fault_alone(info: Info) -> None:
    info["channels"].clear()


def fault_id(info: Info) -> None:
    info["server_id"] = 1


def fault_unasked(info: Info) -> None:
    info.clear()
    info.update(failed=True, msg="cannot log in")


FAULTS = [fault_writable, fault_sql, fault_io, fault_source, fault_alone, fault_id, fault_unasked]


@given(parents=TREES.filter(bool), is_mysql=st.booleans(), fault=st.sampled_from(FAULTS), data=st.data())
def test_each_fault_of_any_replica_is_a_problem_that_names_it(
    parents: list[int], is_mysql: bool, fault: Any, data: st.DataObject
) -> None:
    infos = tree(parents, is_mysql)
    name = data.draw(st.sampled_from(sorted(set(infos) - {"db0"})))
    fault(infos[name])
    assert any(name in problem for problem in problems(infos))


@given(st.lists(st.none() | st.booleans() | st.text() | st.dictionaries(st.text(), st.text()), max_size=4))
def test_whatever_a_host_returned_is_an_answer_or_a_problem(answers: list[Any]) -> None:
    infos = {f"db{number}": answer for number, answer in enumerate(answers)}
    assert len(problems(infos)) == max(1, len(answers))


def test_two_that_take_writes(pair: dict[str, Info]) -> None:
    fault_writable(pair["db1"])
    assert problems(pair) == [
        "db0 and db1 take writes, and one member only may: set read_only=ON on the other"
    ]
    pair["db2"] = server(7)
    assert any(text.startswith("db0, db1 and db2 take writes") for text in problems(pair))


def test_none_that_takes_writes(pair: dict[str, Info]) -> None:
    pair["db0"].update(read_only=True, accepts_writes=False)
    assert problems(pair) == [
        "no member takes writes: db0 is read_only; db1 is read_only and replicates from 10.0.0.1:3306"
    ]


def test_a_thread_that_stopped_with_an_error(pair: dict[str, Info]) -> None:
    fault_sql(pair["db1"])
    (problem,) = problems(pair)
    assert problem == (
        "replication of db1 from 10.0.0.1:3306 is broken: the thread that applies (SQL) is No, error 1126: "
        "Can't open"
    )
    fault_io(pair["db1"])
    pair["db1"]["channels"][0]["name"] = "west"
    first, second = problems(pair)
    assert first.startswith(
        "replication of db1 from 10.0.0.1:3306 (channel west) is broken: the thread that reads"
    )
    assert "1126" in second


def test_a_thread_that_was_stopped_is_a_warning(pair: dict[str, Info]) -> None:
    pair["db1"]["channels"][0].update(sql_running="No")
    decision = decide(pair)
    assert decision["primary"] == "db0"
    assert decision["warnings"] == [
        "db1 does not replicate at the moment: the thread that applies (SQL) is No, without an error"
    ]


def test_a_replica_that_never_connected(pair: dict[str, Info]) -> None:
    pair["db0"].update(replicas=[], dump_threads=[])
    fault_io(pair["db1"])
    pair["db1"]["channels"][0].update(source_uuid=None, source_server_id=None)
    # Whether it belongs to db0 is not known.
    assert [text.split(" is broken")[0] for text in problems(pair)] == [
        "replication of db1 from 10.0.0.1:3306"
    ]


def test_a_pair_that_replicates_in_a_circle(pair: dict[str, Info]) -> None:
    pair["db0"]["channels"].append(channel_from(pair["db1"]))
    register(pair["db0"], pair["db1"])
    assert decide(pair)["primary"] == "db0"


def test_a_primary_that_replicates_from_another_source(pair: dict[str, Info]) -> None:
    pair["db0"]["channels"].append(channel_from(server(50), source_host="elsewhere"))
    assert problems(pair) == ["db0 replicates from elsewhere:3306, which is not a member of this source"]


def test_members_that_do_not_belong_to_one_another(pair: dict[str, Info]) -> None:
    pair["db2"] = server(3, read_only=True, accepts_writes=False)
    (problem,) = problems(pair)
    assert problem == (
        "the members do not belong to one another: db0 and db1 beside db2. Neither replication nor a cluster "
        "connects them"
    )


def test_another_source_of_the_same_number(pair: dict[str, Info]) -> None:
    """MariaDB's replicas know their source by its server_id alone, which is 1 by default."""
    if pair["db0"]["server_uuid"]:
        pair["db1"]["channels"][0]["source_uuid"] = "uuid-other"
    pair["db0"].update(replicas=[], dump_threads=[])
    assert "db1 replicates from 10.0.0.1:3306, which is not a member of this source" in problems(pair)


def test_a_server_that_two_names_have(pair: dict[str, Info]) -> None:
    pair["again"] = {**pair["db1"]}
    assert problems(pair) == ["db1 and again are one server, host2:3306"]


def test_a_copied_data_directory() -> None:
    infos = tree([0, 0])
    infos["db2"]["server_uuid"] = "uuid-2"
    assert problems(infos)[0].startswith("db1 and db2 have the same server_uuid; remove auto.cnf")


def test_a_source_without_members() -> None:
    assert problems({}) == ["the source has no members"]
    with pytest.raises(AnsibleFilterError):
        decide(["db1"])


def test_readers_of_the_binary_log_that_are_no_replicas(pair: dict[str, Info]) -> None:
    pair["db0"]["dump_threads"].append({"user": "cdc", "address": "10.0.0.9"})
    decision = decide(pair)
    assert decision["primary"] == "db0"
    (text,) = decision["unlisted_replicas"]
    assert text == (
        "1 of the 2 connections that read the binary log of db0 is not of a registered replica: "
        "cdc@10.0.0.9, replica@10.0.0.2"
    )


def test_a_replica_that_does_not_name_itself(pair: dict[str, Info]) -> None:
    pair["db0"]["replicas"][0].update(host=None, port=None, server_id=9, server_uuid=None)
    assert decide(pair)["unlisted_replicas"] == ["an unknown host (server_id 9) replicates from db0"]


def test_texts_name_every_member_that_they_are_about() -> None:
    """All pairs of faults at once: none hides the other."""
    for one, other in itertools.permutations([fault_sql, fault_writable, fault_io], 2):
        infos = tree([0, 0])
        one(infos["db1"])
        other(infos["db2"])
        text = " ".join(problems(infos))
        assert "db1" in text
        assert "db2" in text
