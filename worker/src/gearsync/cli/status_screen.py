# SPDX-License-Identifier: GPL-3.0-or-later
"""The screen of `gearsync status`. Pure."""

from __future__ import annotations

import datetime
from typing import Optional

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gearsync.declare.configuration import Config
from gearsync.operate.pipeline.activity import Activity, activity
from gearsync.operate.pipeline.problems import hints, problems
from gearsync.operate.pipeline.state import DatabaseServer, DatabaseState, PipelineState


def screen(state: PipelineState, config: Config) -> RenderableType:
    """The state as a screen of tables."""
    current = problems(state, config)
    moment = datetime.datetime.fromtimestamp(state.time, datetime.timezone.utc).strftime(
        "%Y-%m-%d %H:%M:%S UTC"
    )
    head = Text.assemble((f"source {state.source}  ", "bold"), f"{moment}  ", _summary(len(current)))
    parts: list[RenderableType] = [head, *(Text(f"  ! {problem}", style="red") for problem in current)]
    parts += [*(Text(f"  - {hint}", style="yellow") for hint in hints(state)), Text()]
    if state.database is not None:
        parts += [_tables(state.database, config, state.time), Text(), _shards(state.database), Text()]
    parts += [_servers(state)]
    return Group(*parts)


def failed_screen(source: str, error: str) -> RenderableType:
    """A source whose configuration cannot be used, so that it has no state."""
    return Group(Text(f"source {source}", style="bold"), Text(f"  ! {error}", style="red"))


def _summary(number: int) -> tuple[str, str]:
    return (f"{number} problem{'' if number == 1 else 's'}", "bold red") if number else ("in order", "green")


def _table(*columns: str) -> Table:
    """An empty table; columns with ``>`` are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        name = column.lstrip(">")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold")
    return table


def _tables(database: DatabaseState, config: Config, now: float) -> Table:
    rows = _table(
        "table",
        "delivery",
        ">waiting",
        ">oldest",
        ">changes/s",
        ">lag p50",
        ">lag p99",
        ">dead",
        "triggers",
        "loaded",
        "verified",
    )
    active = activity(database.reports.values())
    direct = [table.table for table in config.tables if table.delivery == "direct"]
    for name in sorted(
        {*database.synced, *database.waiting, *(table.table for table in config.durable_tables)}
    ):
        waiting = database.waiting.get(name)
        done = active.get(name, Activity(0.0, None, None))
        more = "+" if database.truncated else ""
        lag = (
            _seconds(waiting.oldest if waiting else None),
            f"{done.rate:,.1f}",
            _seconds(done.p50),
            _seconds(done.p99),
        )
        rows.add_row(
            name,
            "durable",
            f"{waiting.rows:,}{more}" if waiting else "0",
            *lag,
            f"{database.dead_letters.get(name, 0):,}",
            _triggers(database, name),
            _loaded(database, name, now),
            _verified(database, name, now),
        )
    for name in sorted(direct):
        rows.add_row(name, "direct", *["-"] * 9)
    return rows


def _triggers(database: DatabaseState, name: str) -> str:
    if name not in database.synced:
        return "not deployed"
    return database.triggers.get(name) or "current"


def _loaded(database: DatabaseState, name: str, now: float) -> str:
    load = database.loads.get(name)
    if load is None:
        return "never"
    if load.finished is None:
        return f"{load.rows:,} rows so far"
    return f"{_ago(now - load.finished)}{'' if load.whole else ' (part)'}"


def _verified(database: DatabaseState, name: str, now: float) -> str:
    result = database.verifications.get(name)
    if result is None:
        return "never"
    if not result.finished:
        return f"could not be compared: {result.error}"
    different = (
        ", ".join(
            f"{number:,} {kind.replace('_', ' ')}"
            for kind, number in sorted(result.different.items())
            if number
        )
        or "equal"
    )
    share = f", of a {result.sample:g} % sample" if result.sample < 100 else ""
    unsettled = f", {result.unsettled:,} not compared" if result.unsettled else ""
    failed = "; a later one failed" if result.error else ""
    return f"{different}{unsettled} {_ago(now - result.finished)}{share}{failed}"


def _shards(database: DatabaseState) -> Table:
    rows = _table(">shard", ">epoch", "drained by", ">lease")
    for lease in database.leases:
        owner = (lease.owner or "").rpartition(":")[0] if lease.held else "-"
        rows.add_row(
            str(lease.shard), str(lease.epoch), owner, _seconds(lease.seconds_left if lease.held else None)
        )
    return rows


def _servers(state: PipelineState) -> Table:
    rows = _table("server", "address", "state")
    for kind, server in (("MySQL", state.mysql), ("Redis", state.redis)):
        if server is not None:
            rows.add_row(kind, server.name, "up" if server.ok else server.detail)
            if isinstance(server, DatabaseServer):
                for member, member_state in server.members.items():
                    rows.add_row("", member, member_state)
    breakers = {}
    if state.database is not None and state.database.functions is not None:
        breakers = {server["address"]: server["state"] for server in state.database.functions["servers"]}
    for server in state.job_servers:
        waiting = sum(queue.jobs for queue in server.queues.values())
        workers = max((queue.workers for queue in server.queues.values()), default=0)
        status = f"up, {waiting:,} jobs, {workers} workers" if server.ok else server.detail
        rows.add_row(
            "job server",
            server.name,
            f"{status}, breaker {breakers[server.name]}" if server.name in breakers else status,
        )
    return rows


def _seconds(value: Optional[float]) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
