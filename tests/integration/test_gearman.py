# SPDX-License-Identifier: GPL-3.0-or-later
import json
import socket
import threading

import pytest
from harness.gearman_protocol import WORK_COMPLETE, WORK_DATA, WORK_EXCEPTION, WORK_FAIL, WORK_WARNING
from harness.job_taker import JobTaker
from harness.ports import free_port


@pytest.fixture
def work(job_server):
    """Start a worker that does one job of a function in the background of the test."""
    threads = []

    def begin(function, answer):
        def run():
            with JobTaker(job_server.port, function) as taker:
                handle, payload = taker.wait()
                for command, body in answer(payload):
                    taker.send(command, *([handle] if body is None else [handle, body]))
                taker.grab()

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(180)


@pytest.fixture
def listen():
    """A server that answers its first connection in the background of the test; without an answer it
    accepts none. Its port.
    """
    servers, threads = [], []

    def begin(answer=None, host="127.0.0.1"):
        listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        servers.append(listener)

        def serve():
            connection, _address = listener.accept()
            with connection:
                answer(connection)

        if answer:
            threads.append(threading.Thread(target=serve, daemon=True))
            threads[-1].start()
        return listener.getsockname()[1]

    yield begin
    for thread in threads:
        thread.join(180)
    for server in servers:
        server.close()


def test_the_articles_reverse_job(modules, job_server, work):
    work("reverse", lambda payload: [(WORK_DATA, payload), (WORK_COMPLETE, payload[::-1])])
    result = modules.ok("gearman_job", port=job_server.port, function="reverse", data="hello world!")
    assert result["data"] == ["hello world!"]
    assert result["result"] == "!dlrow olleh"
    assert result["handle"].startswith("H:")
    assert result["changed"]


def test_everything_that_a_worker_may_send(modules, job_server, work):
    long = b"x" * 3_000_000
    work(
        "talk",
        lambda payload: [
            (WORK_WARNING, b"careful"),
            (WORK_DATA, b""),
            (WORK_DATA, long),
            (WORK_DATA, b"\xff\0"),
            (WORK_COMPLETE, b""),
        ],
    )
    result = modules.ok(
        "gearman_job",
        port=job_server.port,
        function="talk",
        data="ä" * 100_000,
        priority="high",
        unique="u" * 200,
    )
    assert result["data"] == ["", long.decode(), "\ufffd\0"]
    assert result["job_warnings"] == ["careful"]
    assert result["result"] == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([(WORK_FAIL, None)], "has failed"),
        ([(WORK_DATA, b"some"), (WORK_EXCEPTION, b"no such key")], "no such key"),
    ],
)
def test_a_job_that_fails(modules, job_server, work, answer, words):
    work("failing", lambda payload: answer)
    result = modules.run("gearman_job", port=job_server.port, function="failing")
    assert result["failed"]
    assert words in result["msg"]
    assert result["handle"] in result["msg"]


def test_nobody_does_the_job(modules, job_server):
    # A busy machine may need longer until the job is even taken.
    for seconds in (0.5, 10, 100):
        result = modules.run("gearman_job", port=job_server.port, function="nobody", timeout=seconds)
        assert result["failed"]
        if "handle" in result:
            break
    assert "nobody" in result["msg"]
    assert "not ended" in result["msg"]
    job_server.jobs("nobody")


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
def test_background_and_check_mode(modules, job_server, priority):
    arguments = {
        "port": job_server.port,
        "function": "later",
        "data": "x",
        "priority": priority,
        "background": True,
    }
    predicted = modules.ok("gearman_job", check=True, **arguments)
    assert predicted["changed"]
    assert job_server.jobs("later") == []
    result = modules.ok("gearman_job", **arguments)
    name = {"low": "SUBMIT_JOB_LOW_BG", "normal": "SUBMIT_JOB_BG", "high": "SUBMIT_JOB_HIGH_BG"}[priority]
    assert result["queries"] == predicted["queries"] == [f"{name} later"]
    assert result["diff"] == predicted["diff"] == {"before": "", "after": f"{name} later\n"}
    assert result["handle"].startswith("H:")
    assert "result" not in result
    assert job_server.jobs("later") == [b"x"]


def test_jobs_with_one_unique_are_merged(modules, job_server):
    for unique, data in (("a", "1"), ("a", "2"), ("u" * 100 + "1", "3"), ("u" * 100 + "2", "4")):
        modules.ok(
            "gearman_job", port=job_server.port, function="merged", data=data, unique=unique, background=True
        )
    assert sorted(job_server.jobs("merged")) == [b"1", b"3", b"4"]


def test_info(modules, job_server):
    modules.ok("gearman_job", port=job_server.port, function="counted", background=True)
    modules.ok("gearman_job", port=job_server.port, function="counted", background=True)
    with JobTaker(job_server.port, "counted") as taker:
        taker.wait()
        result = modules.ok("gearman_info", port=job_server.port)
        assert [function for function in result["functions"] if function["name"] == "counted"] == [
            {"name": "counted", "queued": 1, "running": 1, "workers": 1}
        ]
        assert ["counted"] in [worker["functions"] for worker in result["workers"]]
        assert result["queued"] >= 1
        assert result["running"] >= 1
        assert not result["changed"]
    assert result["version"].startswith("1.")
    assert result["queries"] == ["version", "status", "workers"]
    job_server.jobs("counted")


@pytest.mark.parametrize("name", ["gearman_info", "gearman_job"])
def test_a_port_where_nobody_listens(modules, name):
    port = free_port()
    message = modules.refused(name, port=port, **({"function": "f"} if name == "gearman_job" else {}))
    assert f"127.0.0.1:{port}" in message


@pytest.mark.parametrize("name", ["gearman_info", "gearman_job"])
def test_a_server_that_is_silent_or_no_job_server(modules, listen, name):
    arguments = {"function": "f"} if name == "gearman_job" else {}
    silent = listen()
    assert f"127.0.0.1:{silent}" in modules.refused(name, port=silent, timeout=0.5, **arguments)

    def answer(connection):
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert "not a job server" in modules.refused(name, port=listen(answer), **arguments)


def test_ipv6(modules, listen):
    def answer(connection):
        for lines in (b"OK 1.2.3\n", b"f\t2\t1\t3\n.\n", b".\n"):
            connection.recv(100)
            connection.sendall(lines)

    try:
        port = listen(answer, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    result = modules.ok("gearman_info", host="::1", port=port)
    assert (result["version"], result["functions"]) == (
        "1.2.3",
        [{"name": "f", "queued": 1, "running": 1, "workers": 3}],
    )


@pytest.fixture
def lists(database):
    return lambda: json.loads(database.execute("SELECT gman_stats()")[0][0])["server_lists"]


def test_life_of_a_list(database, modules, gearman, lists):
    database.execute("DO gman_servers_set('')")
    result = modules.converge("gearman_servers", lists, servers=[gearman.address])
    assert result["servers"] == [gearman.address]
    assert lists() == {"": gearman.address}
    modules.converge("gearman_servers", lists, servers=[gearman.address], function="it's")
    assert lists() == {"": gearman.address, "it's": gearman.address}
    modules.converge("gearman_servers", lists, function="it's", state="absent")
    assert lists() == {"": gearman.address}


def test_an_unreachable_job_server_is_named_and_nothing_is_changed(modules, gearman, lists):
    before, nobody = lists(), f"127.0.0.1:{free_port()}"
    result = modules.run("gearman_servers", servers=[gearman.address, nobody])
    assert result["failed"]
    assert nobody in result["msg"]
    assert result["silent"] == [nobody]
    assert lists() == before
    assert modules.ok("gearman_servers", check=True, servers=[gearman.address, nobody])["silent"] == [nobody]
    result = modules.converge(
        "gearman_servers", lists, servers=[gearman.address, nobody], check_reachable=False
    )
    assert result["silent"] == [nobody]
    modules.ok("gearman_servers", servers=[gearman.address])


@pytest.mark.parametrize(
    ("servers", "word"),
    [
        (["a b:4730"], "'a b:4730'"),
        (["host:99999"], "'host:99999'"),
        (["[::1"], "'[::1'"),
        (["127.0.0.1", "127.0.0.1:4730"], "twice"),
        ([], "empty"),
    ],
)
def test_a_wrong_list(modules, gearman, lists, servers, word):
    before = lists()
    assert word in modules.refused("gearman_servers", servers=servers)
    assert lists() == before


def test_before_the_functions_are_registered(modules, gearman):
    modules.ok("mysql_udf", soname="libgearman_mysql_udf.so", state="absent", force=True)
    assert modules.ok("gearman_servers", check=True, servers=[gearman.address])["changed"]
    assert "mysql_udf" in modules.refused("gearman_servers", servers=[gearman.address])
    assert not modules.ok("gearman_servers", state="absent")["changed"]
