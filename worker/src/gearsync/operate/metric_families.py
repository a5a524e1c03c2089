# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline's state and the processes' counters as metrics of Prometheus. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gearsync.operate.pipeline.state import (
    DatabaseServer,
    DatabaseState,
    JobServer,
    PipelineState,
    Transactions,
    Waiting,
)
from gearsync.servers.members import ANSWERED
from gearsync.telemetry.metrics import (
    BATCHES,
    BUCKETS,
    CHANGES,
    COMMANDS,
    ERROR_KINDS,
    ERRORS,
    JOBS,
    RESTARTS,
    Tally,
)


def gauge(
    name: str, description: str, labels: dict[str, str], *values: tuple[dict[str, str], float]
) -> Metric:
    return _family(GaugeMetricFamily, name, description, labels, values)


def _counter(
    name: str, description: str, labels: dict[str, str], *values: tuple[dict[str, str], float]
) -> Metric:
    return _family(CounterMetricFamily, name, description, labels, values)


def _family(
    kind: Any,
    name: str,
    description: str,
    labels: dict[str, str],
    values: Iterable[tuple[dict[str, str], float]],
) -> Metric:
    family: Metric = kind(name, description)
    suffix = "_total" if kind is CounterMetricFamily else ""
    for more, value in values:
        family.add_sample(name + suffix, {**labels, **more}, float(value))
    return family


def counted(
    tally: Tally, labels: dict[str, str], tables: Iterable[str], functions: Iterable[str]
) -> Iterator[Metric]:
    """What the processes have counted. All declared tables and functions are present from the beginning."""

    def by(metric: str, label: str, known: Iterable[str] = ()) -> list[tuple[dict[str, str], float]]:
        numbers = {**dict.fromkeys(known, 0), **tally.counters.get(metric, {})}
        return [({label: value}, number) for value, number in sorted(numbers.items())]

    yield _counter(
        "gearsync_changes_applied",
        "Changes of durable delivery that are in Redis",
        labels,
        *by(CHANGES, "table", tables),
    )
    yield _counter("gearsync_batches", "Batches of durable delivery", labels, ({}, tally.total(BATCHES)))
    yield _counter("gearsync_jobs", "Jobs of direct delivery", labels, *by(JOBS, "function", functions))
    yield _counter(
        "gearsync_redis_commands",
        "Commands sent to Redis",
        labels,
        *by(COMMANDS, "delivery", ("direct", "durable")),
    )
    yield _counter("gearsync_errors", "Errors, by kind", labels, *by(ERRORS, "kind", ERROR_KINDS))
    yield _counter(
        "gearsync_process_restarts",
        "Processes that died and were restarted",
        labels,
        ({}, tally.total(RESTARTS)),
    )
    lag = HistogramMetricFamily(
        "gearsync_lag_seconds",
        "Time from the statement that made a change until it was in Redis",
        labels=[*labels, "table"],
    )
    for table, histogram in sorted(tally.lags.items()):
        buckets, total = [], 0
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), histogram.counts):
            total += number
            buckets.append((bound, float(total)))
        lag.add_metric([*labels.values(), table], buckets, sum_value=histogram.total)
    yield lag


def observed(state: PipelineState, labels: dict[str, str]) -> Iterator[Metric]:
    """What the servers have answered; what is unknown is left out."""
    if state.mysql is not None:
        yield from _database_server(state.mysql, labels)
    yield gauge("gearsync_redis_up", "Whether Redis answers", labels, ({}, state.redis.ok))
    tables = {*state.lost, *(state.database.synced if state.database else ())}
    yield gauge(
        "gearsync_lost_upstream_table",
        "Whether Redis has changes of the table that the database has lost",
        labels,
        *[({"table": name}, name in state.lost) for name in sorted(tables)],
    )
    yield from _job_servers(state.job_servers, labels)
    if state.database is not None:
        yield from _in_database(state.database, labels)
        if state.database.functions is not None:
            yield from _functions(state.database.functions, labels)


def _database_server(server: DatabaseServer, labels: dict[str, str]) -> Iterator[Metric]:
    yield gauge(
        "gearsync_mysql_up",
        "Whether MySQL and the schema gearsync can be used",
        labels,
        ({}, server.ok),
    )
    yield from _members(server, labels)


def _job_servers(servers: list[JobServer], labels: dict[str, str]) -> Iterator[Metric]:
    yield gauge(
        "gearsync_job_server_up",
        "Whether the job server answers",
        labels,
        *[({"server": server.name}, server.ok) for server in servers],
    )
    queues = [
        ({"server": server.name, "function": name}, queue)
        for server in servers
        for name, queue in server.queues.items()
    ]
    yield gauge(
        "gearsync_job_server_jobs",
        "Jobs that wait or run",
        labels,
        *[(names, queue.jobs) for names, queue in queues],
    )
    yield gauge(
        "gearsync_job_server_workers",
        "Workers that offer the function",
        labels,
        *[(names, queue.workers) for names, queue in queues],
    )


def _members(mysql: DatabaseServer, labels: dict[str, str]) -> Iterator[Metric]:
    # A single one is not asked by itself.
    answers = {name: of_member in ANSWERED for name, of_member in mysql.members.items()} or {
        mysql.name: mysql.ok
    }
    yield gauge(
        "gearsync_mysql_member_up",
        "Whether the member of the source answers",
        labels,
        *[({"member": name}, answer) for name, answer in sorted(answers.items())],
    )
    yield gauge(
        "gearsync_mysql_split_brain",
        "Whether several members are writable, so that none is drained",
        labels,
        ({}, mysql.is_split),
    )


def _in_database(database: DatabaseState, labels: dict[str, str]) -> Iterator[Metric]:
    # A table without waiting changes is at 0, not absent.
    waiting = {
        name: database.waiting.get(name, Waiting(0, 0.0))
        for name in sorted({*database.synced, *database.waiting})
    }
    yield gauge(
        "gearsync_outbox_rows",
        "Changes that wait in the outbox",
        labels,
        *[({"table": name}, each.rows) for name, each in waiting.items()],
    )
    yield gauge(
        "gearsync_outbox_oldest_age_seconds",
        "Age of the oldest change that waits",
        labels,
        *[({"table": name}, each.oldest) for name, each in waiting.items()],
    )
    yield gauge(
        "gearsync_outbox_rows_truncated",
        "Whether more changes wait than were counted",
        labels,
        ({}, database.truncated),
    )
    yield from _leases(database, labels)
    names = sorted({*database.synced, *database.dead_letters})
    yield gauge(
        "gearsync_dead_letters",
        "Changes that could not be applied",
        labels,
        *[({"table": name}, database.dead_letters.get(name, 0)) for name in names],
    )
    yield gauge(
        "gearsync_triggers_current",
        "Whether the table's triggers are as they were deployed",
        labels,
        *[({"table": name}, problem is None) for name, problem in sorted(database.triggers.items())],
    )
    yield from _verifications(database, labels)
    if database.transactions is not None:
        yield from _transactions(database.transactions, labels)


def _leases(database: DatabaseState, labels: dict[str, str]) -> Iterator[Metric]:
    leases = [({"shard": str(lease.shard)}, lease) for lease in database.leases]
    yield gauge(
        "gearsync_lease_epoch",
        "How often the shard's lease was taken",
        labels,
        *[(shard, lease.epoch) for shard, lease in leases],
    )
    yield gauge(
        "gearsync_lease_held",
        "Whether a process drains the shard",
        labels,
        *[(shard, lease.held) for shard, lease in leases],
    )
    yield gauge(
        "gearsync_live_workers",
        "Processes on all hosts that drain the outbox",
        labels,
        ({}, database.workers),
    )


def _verifications(database: DatabaseState, labels: dict[str, str]) -> Iterator[Metric]:
    results = sorted(database.verifications.items())
    when = dict.fromkeys(database.synced, 0.0) | {name: result.finished for name, result in results}
    yield gauge(
        "gearsync_verify_last_run_timestamp_seconds",
        "When the table was verified; 0 when it never was",
        labels,
        *[({"table": name}, finished) for name, finished in sorted(when.items())],
    )
    yield gauge(
        "gearsync_verify_differences",
        "Differences that the last verification has not repaired",
        labels,
        *[
            ({"table": name, "kind": kind}, number)
            for name, result in results
            for kind, number in sorted(result.different.items())
        ],
    )
    yield gauge(
        "gearsync_verify_unsettled",
        "Rows that could not be compared",
        labels,
        *[({"table": name}, result.unsettled) for name, result in results],
    )
    yield gauge(
        "gearsync_verify_rows",
        "Rows that were compared",
        labels,
        *[({"table": name}, result.rows) for name, result in results],
    )
    yield gauge(
        "gearsync_verify_could_not_tell",
        "Whether the last verification could not compare the table, or some of its rows",
        labels,
        *[({"table": name}, bool(result.error) or result.unsettled > 0) for name, result in results],
    )


def _transactions(transactions: Transactions, labels: dict[str, str]) -> Iterator[Metric]:
    yield gauge(
        "gearsync_oldest_writer_seconds",
        "Age of the oldest open transaction that has written",
        labels,
        ({}, transactions.writing),
    )
    yield gauge(
        "gearsync_oldest_reader_seconds",
        "Age of the oldest open transaction that has not written",
        labels,
        ({}, transactions.reading),
    )
    yield gauge(
        "gearsync_prepared_transactions",
        "Prepared XA transactions without a client",
        labels,
        ({}, transactions.prepared),
    )


def _functions(stats: dict[str, Any], labels: dict[str, str]) -> Iterator[Metric]:
    # A server in two lists is listed twice, with the same counters.
    servers = {server["address"]: server for server in stats["servers"]}
    named = [({"server": name}, server) for name, server in sorted(servers.items())]
    yield gauge(
        "gearsync_udf_breaker_open",
        "Whether the database server skips the job server",
        labels,
        *[(name, server["state"] != "closed") for name, server in named],
    )
    yield _counter(
        "gearsync_udf_jobs_sent",
        "Jobs that the database server has submitted",
        labels,
        *[(name, server["jobs_sent"]) for name, server in named],
    )
    yield _counter(
        "gearsync_udf_failures",
        "Failures of the database server to use the job server",
        labels,
        *[
            ({**name, "kind": kind}, number)
            for name, server in named
            for kind, number in sorted(server["failures"].items())
        ],
    )
    wakes = [({"result": result}, number) for result, number in sorted(stats["wakes"].items())]
    yield _counter("gearsync_udf_wakes", "Wakes that triggers have sent to the workers", labels, *wakes)
