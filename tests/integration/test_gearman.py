import json
import socket
import threading

import pytest
from servers import Worker, free_port


def work(port, function, answer):
    """A worker that does one job in the background of the test."""
    def run():
        with Worker(port, function) as worker:
            handle, payload = worker.wait()
            for command, body in answer(payload):
                worker.send(command, *([handle] if body is None else [handle, body]))
            worker.grab()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_the_articles_reverse_job(modules, job_server):
    thread = work(job_server.port, "reverse", lambda payload: [(Worker.WORK_DATA, payload), (Worker.WORK_COMPLETE, payload[::-1])])
    result = modules.ok("gearman_job", port=job_server.port, function="reverse", data="hello world!")
    thread.join(20)
    assert result["data"] == ["hello world!"]
    assert result["result"] == "!dlrow olleh"
    assert result["handle"].startswith("H:")
    assert result["changed"]


def test_everything_that_a_worker_may_send(modules, job_server):
    long = b"x" * 3_000_000
    work(job_server.port, "talk", lambda payload: [
        (Worker.WORK_WARNING, b"careful"), (Worker.WORK_DATA, b""), (Worker.WORK_DATA, long), (Worker.WORK_DATA, b"\xff\0"), (Worker.WORK_COMPLETE, b"")])
    result = modules.ok("gearman_job", port=job_server.port, function="talk", data="ä" * 100_000, priority="high", unique="u" * 200)
    assert result["data"] == ["", long.decode(), "\ufffd\0"]
    assert result["job_warnings"] == ["careful"]
    assert result["result"] == ""


@pytest.mark.parametrize(("answer", "words"), [
    ([(Worker.WORK_FAIL, None)], "has failed"),
    ([(Worker.WORK_DATA, b"some"), (Worker.WORK_EXCEPTION, b"no such key")], "no such key"),
])
def test_a_job_that_fails(modules, job_server, answer, words):
    work(job_server.port, "failing", lambda payload: answer)
    result = modules.run("gearman_job", port=job_server.port, function="failing")
    assert result["failed"]
    assert words in result["msg"]
    assert result["handle"] in result["msg"]


def test_nobody_does_the_job(modules, job_server):
    result = modules.run("gearman_job", port=job_server.port, function="nobody", timeout=0.5)
    assert result["failed"]
    assert "nobody" in result["msg"]
    assert "not ended" in result["msg"]
    job_server.jobs("nobody")


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
def test_background_and_check_mode(modules, job_server, priority):
    arguments = {"port": job_server.port, "function": "later", "data": "x", "priority": priority, "background": True}
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
        modules.ok("gearman_job", port=job_server.port, function="merged", data=data, unique=unique, background=True)
    assert sorted(job_server.jobs("merged")) == [b"1", b"3", b"4"]


def test_info(modules, job_server):
    modules.ok("gearman_job", port=job_server.port, function="counted", background=True)
    modules.ok("gearman_job", port=job_server.port, function="counted", background=True)
    with Worker(job_server.port, "counted") as worker:
        worker.wait()
        result = modules.ok("gearman_info", port=job_server.port)
        assert [function for function in result["functions"] if function["name"] == "counted"] == [
            {"name": "counted", "queued": 1, "running": 1, "workers": 1}]
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
def test_a_server_that_is_silent_or_no_job_server(modules, name):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        arguments = {"port": silent.getsockname()[1], "timeout": 0.5, **({"function": "f"} if name == "gearman_job" else {})}
        assert f"127.0.0.1:{arguments['port']}" in modules.refused(name, **arguments)
    with socket.create_server(("127.0.0.1", 0)) as other:
        def answer():
            connection, _address = other.accept()
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()
        threading.Thread(target=answer, daemon=True).start()
        assert "no job server" in modules.refused(name, **{**arguments, "port": other.getsockname()[1], "timeout": 5})


def test_ipv6(modules):
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        def answer():
            connection, _address = listener.accept()
            connection.recv(100)
            connection.sendall(b"OK 1.2.3\n")
            connection.recv(100)
            connection.sendall(b"f\t2\t1\t3\n.\n")
            connection.recv(100)
            connection.sendall(b".\n")
            connection.close()
        threading.Thread(target=answer, daemon=True).start()
        result = modules.ok("gearman_info", host="::1", port=listener.getsockname()[1])
    assert (result["version"], result["functions"]) == ("1.2.3", [{"name": "f", "queued": 1, "running": 1, "workers": 3}])


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
    result = modules.converge("gearman_servers", lists, servers=[gearman.address, nobody], check_reachable=False)
    assert result["silent"] == [nobody]
    modules.ok("gearman_servers", servers=[gearman.address])


@pytest.mark.parametrize(("servers", "word"), [
    (["a b:4730"], "'a b:4730'"), (["host:99999"], "'host:99999'"), (["[::1"], "'[::1'"), (["127.0.0.1", "127.0.0.1:4730"], "twice"), ([], "empty"),
])
def test_a_wrong_list(modules, gearman, lists, servers, word):
    before = lists()
    assert word in modules.refused("gearman_servers", servers=servers)
    assert lists() == before


def test_before_the_functions_are_registered(modules, gearman):
    modules.ok("mysql_udf", soname="libgearman_mysql_udf.so", state="absent", force=True)
    assert modules.ok("gearman_servers", check=True, servers=[gearman.address])["changed"]
    assert "mysql_udf" in modules.refused("gearman_servers", servers=[gearman.address])
    assert not modules.ok("gearman_servers", state="absent")["changed"]
