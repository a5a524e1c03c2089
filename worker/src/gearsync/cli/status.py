"""`gearsync status`: how the pipeline is now, for people (once, or as a screen that goes on) or for machines."""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from typing import Any, Optional

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gearsync.declare.configuration import Config
from gearsync.operate.pipeline.activity import Activity, activity
from gearsync.operate.pipeline.observer import Observer
from gearsync.operate.pipeline.problems import hints, problems
from gearsync.operate.pipeline.state import DatabaseState, PipelineState

IN_ORDER, PROBLEMS = 0, 1
#: What a server may take to answer; seconds.
_TIMEOUT = 5.0
#: What a look may take as a whole.
_BOUND = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="show it again and again, until interrupted")
    parser.add_argument("--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks of --watch (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="one JSON object; with --watch one a line")


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 when all is in order, 1 when somebody should do something."""
    if options.interval <= 0:
        print(f"--interval must be more than 0, not {options.interval:g}", file=sys.stderr)
        return PROBLEMS
    observer = Observer(config, _TIMEOUT, _BOUND)
    try:
        state = observer.observe()
        if not options.watch:
            _show(state, config, options.json)
        elif options.json:
            while True:
                print(as_json(state, config), flush=True)
                time.sleep(options.interval)
                state = observer.observe()
        else:
            with Live(screen(state, config), console=Console(), screen=True, auto_refresh=False) as live:
                while True:
                    live.update(screen(state, config), refresh=True)
                    time.sleep(options.interval)
                    state = observer.observe()
    except KeyboardInterrupt:
        pass
    finally:
        observer.close()
    return PROBLEMS if problems(state, config) else IN_ORDER


def _show(state: PipelineState, config: Config, json: bool) -> None:
    if json:
        print(as_json(state, config))
        return
    console = Console()
    if not console.is_terminal:
        # Somebody's pipe has no width: nothing is to be cut there.
        console = Console(width=200)
    console.print(screen(state, config))


def as_json(state: PipelineState, config: Config) -> str:
    """The state with its mistakes and hints, and the tables' activity."""
    found: dict[str, Any] = msgspec.to_builtins(state)
    found["mistakes"], found["hints"] = problems(state, config), hints(state)
    if state.database is not None:
        found["activity"] = msgspec.to_builtins(activity(state.database.reports.values()))
        del found["database"]["reports"]
    return msgspec.json.encode({"ok": not found["mistakes"], **found}).decode()


def screen(state: PipelineState, config: Config) -> RenderableType:
    """The state as a screen of tables. Pure."""
    found = problems(state, config)
    moment = datetime.datetime.fromtimestamp(state.time, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    head = Text.assemble((f"source {state.source}  ", "bold"), f"{moment}  ", ("in order", "green") if not found else (f"{len(found)} to look at", "bold red"))
    parts: list[RenderableType] = [head, *(Text(f"  ! {words}", style="red") for words in found)]
    parts += [*(Text(f"  - {words}", style="yellow") for words in hints(state)), Text()]
    if state.database is not None:
        parts += [_tables(state.database, config, state.time), Text(), _shards(state.database), Text()]
    parts += [_servers(state)]
    return Group(*parts)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        name = column.lstrip(">")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold")
    return table


def _tables(database: DatabaseState, config: Config, now: float) -> Table:
    found = _table("table", "delivery", ">waiting", ">oldest", ">changes/s", ">lag p50", ">lag p99", ">dead", "triggers", "loaded", "verified")
    active = activity(database.reports.values())
    direct = [table.table for table in config.tables if table.delivery == "direct"]
    for name in sorted({*database.synced, *database.waiting, *(table.table for table in config.durable_tables)}):
        waiting = database.waiting.get(name)
        done = active.get(name, Activity(0.0, None, None))
        more = "+" if database.truncated else ""
        lag = (_seconds(waiting.oldest if waiting else None), f"{done.rate:,.1f}", _seconds(done.p50), _seconds(done.p99))
        found.add_row(
            name, "durable", f"{waiting.rows:,}{more}" if waiting else "0", *lag, f"{database.dead_letters.get(name, 0):,}", _triggers(database, name),
            _loaded(database, name, now), _verified(database, name, now))
    for name in sorted(direct):
        found.add_row(name, "direct", *["-"] * 9)
    return found


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
        return f"could not tell: {result.error}"
    different = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in sorted(result.different.items()) if number) or "equal"
    share = f", {result.sample:g} % of it" if result.sample < 100 else ""
    unsettled = f", {result.unsettled:,} unsettled" if result.unsettled else ""
    failed = "; since then it could not tell" if result.error else ""
    return f"{different}{unsettled} {_ago(now - result.finished)}{share}{failed}"


def _shards(database: DatabaseState) -> Table:
    found = _table(">shard", ">epoch", "drained by", ">lease")
    for lease in database.leases:
        owner = (lease.owner or "").rpartition(":")[0] if lease.held else "nobody"
        found.add_row(str(lease.shard), str(lease.epoch), owner, _seconds(lease.seconds_left if lease.held else None))
    return found


def _servers(state: PipelineState) -> Table:
    found = _table("server", "address", "state")
    for kind, server in (("MySQL", state.mysql), ("Redis", state.redis)):
        if server is not None:
            found.add_row(kind, server.name, "up" if server.ok else server.detail)
    breakers = {}
    if state.database is not None and state.database.functions is not None:
        breakers = {server["address"]: server["state"] for server in state.database.functions["servers"]}
    for server in state.job_servers:
        waiting = sum(queue.jobs for queue in server.queues.values())
        workers = max((queue.workers for queue in server.queues.values()), default=0)
        words = f"up, {waiting:,} jobs, {workers} workers" if server.ok else server.detail
        found.add_row("job server", server.name, f"{words}, breaker {breakers[server.name]}" if server.name in breakers else words)
    return found


def _seconds(value: Optional[float]) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
