# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter: one thread that serves /metrics for Prometheus, /healthz and /readyz."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gearsync import __version__
from gearsync.declare.configuration import DEFAULT_METRICS_PORT, Config, parse_address
from gearsync.operate.metric_families import counted, gauge, observed
from gearsync.operate.metrics_tls import Renewed
from gearsync.operate.pipeline.observer import Observer
from gearsync.operate.pipeline.state import PipelineState
from gearsync.telemetry import tallies
from gearsync.telemetry.metrics import merged

log = logging.getLogger(__name__)

#: An observation serves all requests for so long: several scrapers cost the database no more than one.
_VALID_SECONDS = 2.0
#: How long one server may take to answer, and all of them together: below Prometheus' scrape timeout of ten
#: seconds, however many do not answer.
_TIMEOUT = 2.0
_BOUND = 3.0
#: Between two attempts to listen.
_RETRY_SECONDS = 2.0
#: Connections at the same time; more are closed at once: descriptors and threads are the supervisor's, too.
_CONNECTIONS = 32


class Health:
    """Whether the processes of this service make progress."""

    def __init__(self, steps: dict[str, Any], stuck: float) -> None:
        """``steps`` are the shared doubles with the time of each process' last step; a process without
        one for ``stuck`` seconds is stuck.
        """
        self._steps = steps
        self._stuck = stuck

    def ages(self) -> dict[str, float]:
        now = time.monotonic()
        return {name: max(0.0, now - step.value) for name, step in self._steps.items()}

    def stuck(self) -> list[str]:
        return [name for name, age in self.ages().items() if age >= self._stuck]


class ObservationCache:
    """The last observed state, renewed when it is too old."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._state: Optional[PipelineState] = None
        self._valid_until = 0.0

    def state(self) -> PipelineState:
        with self._lock:
            if self._state is None or time.monotonic() >= self._valid_until:
                self._state = self._observer.observe()
                self._valid_until = time.monotonic() + _VALID_SECONDS
            return self._state


class _Families(Collector):
    def __init__(
        self, config: Config, counted_in: pathlib.Path, health: Health, observations: ObservationCache
    ) -> None:
        self._config, self._counted_in, self._health, self._observations = (
            config,
            counted_in,
            health,
            observations,
        )

    def collect(self) -> Iterator[Metric]:
        labels = {"source": self._config.source}
        yield gauge("gearsync_build_info", "The version that runs", labels, ({"version": __version__}, 1))
        functions = {table.function for table in self._config.tables if table.delivery == "direct"}
        yield from counted(
            merged(tallies.load_all(self._counted_in).values()),
            labels,
            [table.table for table in self._config.durable_tables],
            functions,
        )
        yield gauge(
            "gearsync_process_last_step_age_seconds",
            "Time since a process last made progress",
            labels,
            *[({"process": name}, age) for name, age in self._health.ages().items()],
        )
        yield from observed(self._observations.state(), labels)


def readiness(state: PipelineState) -> list[str]:
    """Why changes cannot be applied now; empty when they can. Pure."""
    reasons = [
        f"{kind}: {server.detail}"
        for kind, server in (("mysql", state.mysql), ("redis", state.redis))
        if server is not None and not server.ok
    ]
    if not any(server.ok for server in state.job_servers):
        reasons += [f"job server {server.name}: {server.detail}" for server in state.job_servers]
    return reasons


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server
    server_version = "gearsync"
    sys_version = ""
    #: A client that sends nothing does not keep its thread for ever.
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            try:
                body = encode(self.server.registry)
            except Exception as error:  # whatever it is, log it, and not at each scrape
                log.log(
                    logging.DEBUG if self.server.failing else logging.WARNING,
                    "metrics cannot be collected: %s: %s",
                    type(error).__name__,
                    error,
                    exc_info=True,
                    extra={"action": "metrics_failed"},
                )
                self.server.failing = True
                self._answer(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    "text/plain",
                    b"metrics cannot be collected, see the worker's log\n",
                )
                return
            self.server.failing = False
            self._answer(HTTPStatus.OK, kind, body)
        elif path == "/healthz":
            self._checked([f"{name} makes no progress" for name in self.server.health.stuck()])
        elif path == "/readyz":
            self._checked(readiness(self.server.observations.state()))
        else:
            self._answer(
                HTTPStatus.NOT_FOUND, "text/plain", b"not found: use /metrics, /healthz or /readyz\n"
            )

    do_HEAD = do_GET  # noqa: N815  # the base class names them so

    def _checked(self, problems: list[str]) -> None:
        body = msgspec.json.encode({"ok": not problems, "mistakes": problems}) + b"\n"
        self._answer(HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK, "application/json", body)

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

    def __init__(
        self, config: Config, counted_in: pathlib.Path, health: Health, observations: ObservationCache
    ) -> None:
        host, port = parse_address(str(config.worker.metrics_listen), DEFAULT_METRICS_PORT)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.health, self.observations = health, observations
        #: Whether the last metrics could not be collected.
        self.failing = False
        self.registry = CollectorRegistry()
        self.registry.register(_Families(config, counted_in, health, observations))
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        tls = config.worker.metrics_tls
        self._tls = Renewed(tls) if tls else None
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        # In the thread of the request: a client that is silent keeps no other waiting.
        request.settimeout(_Handler.timeout)
        secure = self._tls.accept(request)
        try:
            super().finish_request(secure, client_address)
        finally:
            self.shutdown_request(secure)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is not an error of the exporter.
        log.debug(
            "a request of %s was not answered", client_address, exc_info=True, extra={"action": "request"}
        )


def _listening(config: Config, server: Callable[[], _Server]) -> _Server:
    """What ``server`` makes, as soon as the address is free and the certificate can be used: neither keeps
    the changes from Redis meanwhile.
    """
    logged = None
    while True:
        try:
            return server()
        except OSError as error:
            reason = error.strerror or str(error)
            if reason != logged:
                log.error(
                    "cannot serve the metrics on %s: %s",
                    config.worker.metrics_listen,
                    reason,
                    extra={"action": "metrics_failed"},
                )
            logged = reason
            time.sleep(_RETRY_SECONDS)


def serve(config: Config, counted_in: pathlib.Path, steps: dict[str, Any], stuck: float) -> None:
    """Serve until the process ends. ``counted_in`` is the directory of the processes' tallies."""
    observations = ObservationCache(Observer(config, _TIMEOUT, _BOUND))
    server = _listening(config, lambda: _Server(config, counted_in, Health(steps, stuck), observations))
    with contextlib.closing(server.socket):
        scheme = "https" if config.worker.metrics_tls else "http"
        log.info(
            "metrics at %s://%s/metrics", scheme, config.worker.metrics_listen, extra={"action": "metrics"}
        )
        server.serve_forever()
