"""/metrics for Prometheus, /healthz and /readyz: one process that looks at the servers and at what the other processes have counted."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gearsync import __version__
from gearsync.declare.configuration import DEFAULT_METRICS_PORT, Config, parse_address
from gearsync.operate.pipeline import InDatabase, Observer, State, Waiting
from gearsync.telemetry import logs, tallies
from gearsync.telemetry.metrics import BATCHES, BUCKETS, CHANGES, COMMANDS, ERROR_KINDS, ERRORS, JOBS, RESTARTS, Tally, merged

log = logging.getLogger(__name__)

#: A look at the servers serves all requests for so long, so that several scrapers do not cost the database more than one.
_FRESH_SECONDS = 2.0
#: What a server may take to answer, and a look at all of them; a scrape stays far below Prometheus' ten seconds, however many do not answer.
_TIMEOUT = 2.0
_BOUND = 3.0


def _gauge(name: str, words: str, labels: dict[str, str], *values: tuple[dict[str, str], float]) -> Metric:
    return _family(GaugeMetricFamily, name, words, labels, values)


def _counter(name: str, words: str, labels: dict[str, str], *values: tuple[dict[str, str], float]) -> Metric:
    return _family(CounterMetricFamily, name, words, labels, values)


def _family(kind: Any, name: str, words: str, labels: dict[str, str], values: Iterable[tuple[dict[str, str], float]]) -> Metric:
    family: Metric = kind(name, words)
    suffix = "_total" if kind is CounterMetricFamily else ""
    for more, value in values:
        family.add_sample(name + suffix, {**labels, **more}, float(value))
    return family


def counted(tally: Tally, labels: dict[str, str], tables: Iterable[str], functions: Iterable[str]) -> Iterator[Metric]:
    """What the processes have counted, as families. All declared tables and functions are there from the beginning. Pure."""
    def by(metric: str, label: str, known: Iterable[str] = ()) -> list[tuple[dict[str, str], float]]:
        numbers = {**dict.fromkeys(known, 0), **tally.counters.get(metric, {})}
        return [({label: value}, number) for value, number in sorted(numbers.items())]

    yield _counter("gearsync_changes_applied", "Changes of durable delivery that are in Redis", labels, *by(CHANGES, "table", tables))
    yield _counter("gearsync_batches", "Batches of durable delivery", labels, ({}, tally.total(BATCHES)))
    yield _counter("gearsync_jobs", "Jobs of direct delivery", labels, *by(JOBS, "function", functions))
    yield _counter("gearsync_redis_commands", "Commands sent to Redis", labels, *by(COMMANDS, "delivery", ("direct", "durable")))
    yield _counter("gearsync_errors", "What went wrong, by kind", labels, *by(ERRORS, "kind", ERROR_KINDS))
    yield _counter("gearsync_process_restarts", "Processes that died and were started again", labels, ({}, tally.total(RESTARTS)))
    lag = HistogramMetricFamily("gearsync_lag_seconds", "From the statement that made a change until Redis had it", labels=[*labels, "table"])
    for table, histogram in sorted(tally.lags.items()):
        buckets, total = [], 0
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), histogram.counts):
            total += number
            buckets.append((bound, float(total)))
        lag.add_metric([*labels.values(), table], buckets, sum_value=histogram.total)
    yield lag


def seen(state: State, labels: dict[str, str]) -> Iterator[Metric]:
    """What the servers say, as families; what nobody knows is left out. Pure."""
    if state.mysql is not None:
        yield _gauge("gearsync_mysql_up", "Whether MySQL and the schema gearsync can be used", labels, ({}, state.mysql.ok))
    yield _gauge("gearsync_redis_up", "Whether Redis answers", labels, ({}, state.redis.ok))
    yield _gauge("gearsync_job_server_up", "Whether the job server answers", labels, *[({"server": server.name}, server.ok) for server in state.job_servers])
    queues = [({"server": server.name, "function": name}, queue) for server in state.job_servers for name, queue in server.queues.items()]
    yield _gauge("gearsync_job_server_jobs", "Jobs that wait or run", labels, *[(names, queue.jobs) for names, queue in queues])
    yield _gauge("gearsync_job_server_workers", "Workers that offer the function", labels, *[(names, queue.workers) for names, queue in queues])
    if state.database is not None:
        yield from _in_database(state.database, labels)
        if state.database.functions is not None:
            yield from _functions(state.database.functions, labels)


def _in_database(database: InDatabase, labels: dict[str, str]) -> Iterator[Metric]:
    # A table without anything that waits is at 0, not absent.
    waiting = {name: database.waiting.get(name, Waiting(0, 0.0)) for name in sorted({*database.synced, *database.waiting})}
    yield _gauge("gearsync_outbox_rows", "Changes that wait in the outbox", labels, *[({"table": name}, found.rows) for name, found in waiting.items()])
    yield _gauge(
        "gearsync_outbox_oldest_age_seconds", "Age of the oldest change that waits", labels,
        *[({"table": name}, found.oldest) for name, found in waiting.items()])
    yield _gauge("gearsync_outbox_rows_truncated", "Whether more waits than was counted", labels, ({}, database.truncated))
    leases = [({"shard": str(lease.shard)}, lease) for lease in database.leases]
    yield _gauge("gearsync_lease_epoch", "How often the shard's lease was taken", labels, *[(shard, lease.epoch) for shard, lease in leases])
    yield _gauge("gearsync_lease_held", "Whether a process drains the shard", labels, *[(shard, lease.held) for shard, lease in leases])
    yield _gauge("gearsync_live_workers", "Processes on all hosts that drain the outbox", labels, ({}, database.workers))
    names = sorted({*database.synced, *database.dead_letters})
    yield _gauge("gearsync_dead_letters", "Changes that cannot be applied", labels, *[({"table": name}, database.dead_letters.get(name, 0)) for name in names])
    yield _gauge(
        "gearsync_triggers_current", "Whether the table's triggers are there as they were deployed", labels,
        *[({"table": name}, words is None) for name, words in sorted(database.triggers.items())])
    results = sorted(database.verifications.items())
    when = dict.fromkeys(database.synced, 0.0) | {name: result.finished for name, result in results}
    yield _gauge(
        "gearsync_verify_last_run_timestamp_seconds", "When the table was verified; 0 when it never was", labels,
        *[({"table": name}, finished) for name, finished in sorted(when.items())])
    yield _gauge(
        "gearsync_verify_differences", "What the last verification found, and did not mend", labels,
        *[({"table": name, "kind": kind}, number) for name, result in results for kind, number in sorted(result.different.items())])
    yield _gauge("gearsync_verify_unsettled", "Rows that could not be compared", labels, *[({"table": name}, result.unsettled) for name, result in results])
    yield _gauge("gearsync_verify_rows", "Rows that were compared", labels, *[({"table": name}, result.rows) for name, result in results])
    yield _gauge(
        "gearsync_verify_could_not_tell", "Whether the last verification could not look at the table, or at some of its rows", labels,
        *[({"table": name}, bool(result.error) or result.unsettled > 0) for name, result in results])
    there = database.transactions
    if there is not None:
        yield _gauge("gearsync_oldest_writer_seconds", "Since the oldest open transaction that has written began", labels, ({}, there.writing))
        yield _gauge("gearsync_oldest_reader_seconds", "Since the oldest open transaction that has not written began", labels, ({}, there.reading))
        yield _gauge("gearsync_prepared_transactions", "XA transactions that are prepared, without a client", labels, ({}, there.prepared))


def _functions(stats: dict[str, Any], labels: dict[str, str]) -> Iterator[Metric]:
    # A server that stands in two lists is there twice, with the same counters.
    servers = {server["address"]: server for server in stats["servers"]}
    named = [({"server": name}, server) for name, server in sorted(servers.items())]
    yield _gauge(
        "gearsync_udf_breaker_open", "Whether the database server passes by the job server", labels,
        *[(name, server["state"] != "closed") for name, server in named])
    yield _counter("gearsync_udf_jobs_sent", "Jobs that the database server has submitted", labels, *[(name, server["jobs_sent"]) for name, server in named])
    yield _counter(
        "gearsync_udf_failures", "Failures of the database server with the job server", labels,
        *[({**name, "kind": kind}, number) for name, server in named for kind, number in sorted(server["failures"].items())])
    wakes = [({"result": result}, number) for result, number in sorted(stats["wakes"].items())]
    yield _counter("gearsync_udf_wakes", "Wakes of the workers by triggers", labels, *wakes)


class Health:
    """Whether the processes of this service make progress."""

    def __init__(self, steps: dict[str, Any], stuck: float) -> None:
        """``steps`` are the shared doubles with the time of each process' last step; a process without one for ``stuck`` seconds is stuck."""
        self._steps = steps
        self._stuck = stuck

    def ages(self) -> dict[str, float]:
        now = time.monotonic()
        return {name: max(0.0, now - step.value) for name, step in self._steps.items()}

    def stuck(self) -> list[str]:
        return [name for name, age in self.ages().items() if age >= self._stuck]


class Looker:
    """The last look at the servers, made anew when it is not fresh any more."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._state: Optional[State] = None
        self._fresh_until = 0.0

    def state(self) -> State:
        with self._lock:
            if self._state is None or time.monotonic() >= self._fresh_until:
                self._state = self._observer.look()
                self._fresh_until = time.monotonic() + _FRESH_SECONDS
            return self._state


class _Families(Collector):
    def __init__(self, config: Config, counted_in: pathlib.Path, health: Health, looker: Looker) -> None:
        self._config, self._counted_in, self._health, self._looker = config, counted_in, health, looker

    def collect(self) -> Iterator[Metric]:
        labels = {"source": self._config.source}
        yield _gauge("gearsync_build_info", "The version that runs", labels, ({"version": __version__}, 1))
        functions = {table.function for table in self._config.tables if table.delivery == "direct"}
        yield from counted(merged(tallies.load_all(self._counted_in).values()), labels, [table.table for table in self._config.durable_tables], functions)
        yield _gauge(
            "gearsync_process_last_step_age_seconds", "Since a process has last made progress", labels,
            *[({"process": name}, age) for name, age in self._health.ages().items()])
        yield from seen(self._looker.state(), labels)


def readiness(state: State) -> list[str]:
    """Why changes cannot be applied now; empty when they can. Pure."""
    found = [f"{kind}: {server.words}" for kind, server in (("mysql", state.mysql), ("redis", state.redis)) if server is not None and not server.ok]
    if not any(server.ok for server in state.job_servers):
        found += [f"job server {server.name}: {server.words}" for server in state.job_servers]
    return found


class _Handler(BaseHTTPRequestHandler):
    """One request. The server has what it is answered from."""

    server: _Server
    server_version = "gearsync"
    sys_version = ""
    #: A client that says nothing does not keep its thread for ever.
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            try:
                body = encode(self.server.registry)
            except Exception as error:  # whatever it is, it must be seen, and not at each scrape
                log.log(
                    logging.DEBUG if self.server.failing else logging.WARNING, "metrics cannot be collected: %s: %s", type(error).__name__, error,
                    exc_info=True, extra={"action": "metrics_failed"})
                self.server.failing = True
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"the worker's log says why\n")
                return
            self.server.failing = False
            self._answer(HTTPStatus.OK, kind, body)
        elif path == "/healthz":
            self._checked([f"{name} makes no progress" for name in self.server.health.stuck()])
        elif path == "/readyz":
            self._checked(readiness(self.server.looker.state()))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics, /healthz and /readyz are here\n")

    do_HEAD = do_GET  # noqa: N815  # the base class names them so

    def _checked(self, mistakes: list[str]) -> None:
        body = msgspec.json.encode({"ok": not mistakes, "mistakes": mistakes}) + b"\n"
        self._answer(HTTPStatus.SERVICE_UNAVAILABLE if mistakes else HTTPStatus.OK, "application/json", body)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # the base class names it so
        log.debug(format, *arguments, extra={"action": "request"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, config: Config, counted_in: pathlib.Path, health: Health, looker: Looker) -> None:
        host, port = parse_address(str(config.worker.metrics_listen), DEFAULT_METRICS_PORT)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.health, self.looker = health, looker
        #: Whether the last metrics could not be collected.
        self.failing = False
        self.registry = CollectorRegistry()
        self.registry.register(_Families(config, counted_in, health, looker))
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is no error of ours.
        log.debug("a request of %s was not answered", client_address, exc_info=True, extra={"action": "request"})


def serve(config: Config, counted_in: pathlib.Path, steps: dict[str, Any], stuck: float) -> None:
    """Serve until a signal ends the process. ``counted_in`` is the directory of the processes' tallies."""
    # The handlers are the supervisor's, which this process was forked from, and do not end it: there is nothing to finish here.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    logs.configure(config.worker.log_level, config.worker.log_format, config.source)
    looker = Looker(Observer(config, _TIMEOUT, _BOUND))
    try:
        server = _Server(config, counted_in, Health(steps, stuck), looker)
    except OSError as error:
        log.error("cannot listen on %s: %s", config.worker.metrics_listen, error.strerror, extra={"action": "metrics_failed"})
        # It is started again; not at once, or the log would hold nothing else.
        time.sleep(_FRESH_SECONDS)
        raise SystemExit(1) from None
    with contextlib.closing(server.socket):
        log.info("metrics at http://%s/metrics", config.worker.metrics_listen, extra={"action": "metrics"})
        server.serve_forever()
