# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook smoke does with a row of a table with direct delivery."""

import json
import subprocess
import sys
import threading

import pytest
from harness.gearman_protocol import WORK_COMPLETE
from harness.job_taker import JobTaker
from harness.places import ROOT

SCRIPT = ROOT / "roles/sync_triggers/files/send_row.py"


@pytest.fixture
def question(database, schema, gearman):
    database.execute(
        f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, name VARCHAR(20))",
        "INSERT INTO shop.t VALUES (1, 'one')",
    )
    return json.dumps(
        {
            "login": {"user": "root", "unix_socket": database.socket, "config_file": "/nonexistent"},
            "sql_mode": "STRICT_TRANS_TABLES",
            "function": "100%smoke",
            "payload_sql": "JSON_OBJECT('name', gearsync_row.`name`)",
            "table_sql": "`shop`.`t`",
        }
    )


@pytest.fixture
def start(question):
    processes = []

    def started():
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        process.stdin.write(question)
        process.stdin.close()
        return process

    yield started
    for process in processes:
        with process:
            process.kill()


def answer(process):
    out = process.stdout.read()
    assert process.wait(180) == 0, process.stderr.read()
    return json.loads(out)


def test_a_row_is_sent_and_the_workers_answer_returned(gearman, start):
    with JobTaker(gearman.port, "100%smoke") as taker:
        process = start()
        handle, payload = taker.wait()
        taker.send(WORK_COMPLETE, handle, b"done")
        taker.grab()
        told = answer(process)
    assert json.loads(payload) == {"name": "one"}
    assert (told["answer"], told["overtaken"], json.loads(told["payload"])) == (
        "done",
        False,
        {"name": "one"},
    )


def test_a_writer_waits_no_longer_than_a_moment_for_a_worker_that_does_not_answer(database, gearman, start):
    with JobTaker(gearman.port, "100%smoke") as taker:
        process = start()
        handle, _payload = taker.wait()
        writer = threading.Thread(target=database.execute, args=("UPDATE shop.t SET name = 'two'",))
        writer.start()
        # The worker answers when the writer is through, so the writer does not wait for it.
        writer.join(180)
        assert not writer.is_alive()
        assert process.poll() is None
        taker.send(WORK_COMPLETE, handle, b"done")
        taker.grab()
        told = answer(process)
    # The row was written before the worker was done: it has to be sent again.
    assert (told["answer"], told["overtaken"]) == ("done", True)


def test_an_empty_table_has_nothing_to_send(database, start):
    database.execute("DELETE FROM shop.t")
    assert answer(start()) == {
        "answer": None,
        "overtaken": False,
        "payload": None,
        "problem": "the table is empty now",
    }
