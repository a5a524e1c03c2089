"""How the pipeline is at this moment, as every server tells it: what `gearsync status` and the exporter show."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Optional

import msgspec

from gearsync.contract import DIRECT_FUNCTION, SCHEMA, drain_prefix
from gearsync.declare.configuration import Config, parse_address
from gearsync.declare.declaration import Table
from gearsync.outbox import applied
from gearsync.outbox.declarations import Declared, load
from gearsync.outbox.spans import Spans
from gearsync.outbox.sql import ranges_condition, text_literal
from gearsync.outbox.store import TRANSACTIONS, TRANSACTIONS_UNKNOWN
from gearsync.servers import gearman_admin
from gearsync.servers.gearman_admin import Queue
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import open_target
from gearsync.telemetry.metrics import CHANGES, Histogram, Report, Tally

#: Rows of the outbox that are looked at, and as many dead letters: a look must cost the database the same whatever waits there.
MOST_ROWS = 20_000
#: Ranges of ids that are looked at.
_MOST_RANGES = 10_000
#: A report of a process that is older says nothing about now; seconds.
_REPORT_VALID = 30
_TRIGGERS_PAUSE = 60.0
#: Seconds between two questions for open transactions: the server stops for each of them for a moment.
_TRANSACTIONS_PAUSE = 5.0
#: A transaction that has been open for so long is worth a hint; seconds.
LONG_SECONDS = 300.0
#: A change that has been waiting for so long is late, whatever the load; seconds.
LATE_SECONDS = 10.0


class Server(msgspec.Struct):
    """Whether a server can be used, and what it says."""

    name: str
    ok: bool
    words: str = ""


class JobServer(Server):
    """A job server and its queues of ours."""

    queues: dict[str, Queue] = msgspec.field(default_factory=dict)


class Waiting(msgspec.Struct):
    """What waits of one table: how many changes, and the age of the oldest in seconds."""

    rows: int
    oldest: float


class Lease(msgspec.Struct):
    """Who drains a shard. ``seconds_left`` is negative when the lease has run out."""

    shard: int
    owner: Optional[str]
    epoch: int
    seconds_left: Optional[float]

    @property
    def held(self) -> bool:
        return self.owner is not None and (self.seconds_left or 0.0) > 0.0


class Synced(msgspec.Struct):
    """A durable table as it was deployed: its name in the server, the checksums of its triggers by their names, and what these were made of.

    Under the empty name ``triggers`` has the types of the declared columns, as JSON.
    """

    schema: str
    name: str
    triggers: dict[str, str]
    #: None when they are of a release that did not write it down.
    declared: Optional[Declared] = None


class Verification(msgspec.Struct):
    """The result of a table's last verification; ``finished`` is in seconds since 1970."""

    finished: float
    sample: float
    rows: int
    different: dict[str, int]
    unsettled: int
    repaired: int
    error: str = ""
    """Why a later one could not tell; empty when there was none."""


def last_verification(of_kinds: dict[str, Verification]) -> Verification:
    """What is to be shown of the results of the whole table, of a sample and of those that could not tell. Pure.

    A sample that finds nothing says nothing about what was found in the whole.
    """
    full, sample, failed = of_kinds.get("full"), of_kinds.get("sample"), of_kinds.get("failed")
    later = full and sample and sample.finished > full.finished and sum(sample.different.values()) > 0
    shown = (sample if later else full) or sample
    if failed is None or (shown is not None and shown.finished > failed.finished):
        return shown or Verification(0.0, 0.0, 0, {}, 0, 0)
    if shown is None:
        return msgspec.structs.replace(failed, finished=0.0, rows=0, different={}, unsettled=0)
    return msgspec.structs.replace(shown, error=failed.error)


class Load(msgspec.Struct):
    """A table's last resync: rows so far, and when it was finished, in seconds since 1970."""

    rows: int
    finished: Optional[float]
    whole: bool
    """Whether it was of all rows."""


class Transactions(msgspec.Struct):
    """The transactions that are open in the database server."""

    writing: float
    """Seconds since the oldest began that has written; 0 when there is none."""
    reading: float
    """The same of those that have not."""
    prepared: int
    """How many XA transactions are prepared without a client."""


class InDatabase(msgspec.Struct):
    """What the schema `gearsync` says."""

    waiting: dict[str, Waiting]
    truncated: bool
    """Whether more waits than was looked at: then the numbers of rows are too small, and the oldest age is right."""
    leases: list[Lease]
    workers: int
    dead_letters: dict[str, int]
    synced: dict[str, Synced]
    verifications: dict[str, Verification]
    loads: dict[str, Load]
    reports: dict[str, Report]
    triggers: dict[str, Optional[str]]
    """For each durable table what is wrong with its triggers; None when nothing is. A table is absent when nobody could look."""
    functions: Optional[dict[str, Any]]
    """gman_stats(), or None when the database server has no such function."""
    transactions: Optional[Transactions] = None
    """None when the account that made the schema may not see transactions, or the schema is of an earlier release."""


class State(msgspec.Struct):
    """Everything. ``time`` is in seconds since 1970; ``database`` is None when MySQL does not answer, or has no schema yet."""

    time: float
    source: str
    mysql: Optional[Server]
    redis: Server
    job_servers: list[JobServer]
    database: Optional[InDatabase]


def trigger_mistake(wanted: dict[str, str], there: dict[str, str]) -> Optional[str]:
    """What is wrong with a table's triggers, given name → checksum as deployed and as they are. Pure."""
    wanted = {name: checksum for name, checksum in wanted.items() if name}
    missing = sorted(wanted.keys() - there.keys())
    if missing:
        return f"missing: {', '.join(missing)}"
    changed = sorted(name for name in wanted if wanted[name] != there[name])
    return f"not as deployed: {', '.join(changed)}" if changed else None


def column_mistake(deployed: str, there: dict[str, str]) -> Optional[str]:
    """Which columns were altered since the triggers were made; None when none was, or when the account may see none. Pure."""
    wanted = msgspec.json.decode(deployed, type=dict[str, str])
    altered = sorted(name for name in wanted if wanted[name] != there.get(name)) if there else []
    return f"of former columns: {', '.join(altered)}" if altered else None


def declaration_mistake(table: Table, synced: Optional[Synced]) -> Optional[str]:
    """How what the triggers were made of differs from the worker's configuration; None when it does not. Pure."""
    if synced is None:
        return "missing: it is declared, and was never deployed"
    there = synced.declared
    if there is None:
        return None
    different = sorted({name for name, _kind in there.columns} ^ {*table.columns})
    if different:
        return f"of another declaration: {', '.join(different)}"
    if there.write != table.write:
        return "of another declaration: other writes"
    return None if (there.transform, there.computed) == (table.transform, table.computed) else "of another declaration: another transform"


def our_functions(config: Config) -> Callable[[str], bool]:
    """Whether a Gearman function is one of this pipeline's. Pure."""
    direct = {DIRECT_FUNCTION, *(table.function for table in config.tables)}
    prefix = drain_prefix(config.source)
    # The name of another source may begin with this one's and a dot.
    return lambda name: name in direct or (name.startswith(prefix) and name[len(prefix) :].isdigit())


def _seconds(value: Any) -> Optional[float]:
    return None if value is None else float(value)


class _Look:
    """One server asked in a thread of its own, so that one that does not answer costs no other its turn."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._found: Any = None
        self._error: Optional[BaseException] = None
        self.done = threading.Event()
        # Nobody waits at the end for a server that does not answer.
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._found = self._ask()
        except BaseException as error:  # noqa: BLE001  # it is the looker's
            self._error = error
        self.done.set()

    def result(self) -> Any:
        """What was found, when it is done; raises what was raised."""
        if self._error is not None:
            raise self._error
        return self._found


class Observer:
    """Looks at all servers at once, each within ``timeout`` seconds an answer, and within ``bound`` as a whole. Keeps its connections between looks."""

    def __init__(self, config: Config, timeout: float, bound: float) -> None:
        self._config = config
        self._bound = bound
        self._looks: dict[str, _Look] = {}
        self._timeout = timeout
        self._database = Database(config.mysql, timeout, idle=120.0) if config.mysql else None
        self._target = open_target(config.redis, timeout)
        #: Direct delivery alone has no schema, and its worker no rights on one.
        self._has_schema = bool(config.durable_tables or config.worker.drainers)
        self._triggers: dict[str, Optional[str]] = {}
        self._triggers_at = float("-inf")
        self._triggers_of: dict[str, Synced] = {}
        self._transactions: Optional[Transactions] = None
        self._transactions_at = float("-inf")

    def look(self) -> State:
        asks: dict[str, Callable[[], Any]] = {"mysql": self._mysql, "redis": self._redis}
        asks.update({name: functools.partial(self._job_server, name) for name in self._config.job_servers})
        # A look that was given up may be at its connection still, and what it has found by now is old.
        busy = {name for name, look in self._looks.items() if not look.done.is_set()}
        self._looks.update({name: _Look(ask) for name, ask in asks.items() if name not in busy})
        deadline = time.monotonic() + self._bound
        answered = {name for name in asks if self._looks[name].done.wait(max(0.0, deadline - time.monotonic())) and name not in busy}
        words = f"no answer within {self._bound:g} s"
        mysql, database = (
            self._looks["mysql"].result() if "mysql" in answered else (Server(self._database.name, False, words) if self._database else None, None))
        redis = self._looks["redis"].result() if "redis" in answered else Server(self._target.name, False, words)
        servers = [self._looks[name].result() if name in answered else JobServer(name, False, words) for name in self._config.job_servers]
        return State(time.time(), self._config.source, mysql, redis, servers, database)

    def _mysql(self) -> tuple[Optional[Server], Optional[InDatabase]]:
        if self._database is None:
            return None, None
        try:
            found = self._in_database(self._database) if self._has_schema else self._without_schema(self._database)
        except DatabaseUnavailable as error:
            absent = "the schema gearsync is not there, or of an earlier release: " if isinstance(error, StatementInvalid) else ""
            return Server(self._database.name, False, f"{absent}{error}"), None
        return Server(self._database.name, True), found

    def close(self) -> None:
        self._target.close()
        if self._database is not None:
            self._database.close()

    def _redis(self) -> Server:
        try:
            self._target.ping()
        except Unavailable as error:
            return Server(self._target.name, False, str(error))
        return Server(self._target.name, True)

    def _job_server(self, name: str) -> JobServer:
        try:
            found = gearman_admin.queues(parse_address(name), self._timeout, self._config.job_server_tls)
        except (OSError, ValueError) as error:
            return JobServer(name, False, str(error))
        ours = our_functions(self._config)
        return JobServer(name, True, "", {function: queue for function, queue in sorted(found.items()) if ours(function)})

    def _in_database(self, database: Database) -> InDatabase:
        waiting, truncated = self._waiting(database, self._applied(database))
        synced = {}
        for row in database.named_rows(f"SELECT * FROM {SCHEMA}.synced_table"):
            name, number = row[b"table_name"].decode(), int(row.get(b"number", 0))
            known = load(database, name).get(number) if number else None
            synced[name] = Synced(
                row[b"source_schema"].decode(), row[b"source_table"].decode(), msgspec.json.decode(row[b"triggers"], type=dict[str, str]),
                known)
        ((workers,),) = database.rows(f"SELECT COUNT(*) FROM {SCHEMA}.worker WHERE expires_at > NOW(6)")
        return InDatabase(
            waiting, truncated, self._leases(database), int(workers), self._dead_letters(database), synced, self._verifications(database),
            self._loads(database), self._reports(database), self._trigger_mistakes(database, synced), self._functions(database),
            self._open_transactions(database))

    def _without_schema(self, database: Database) -> InDatabase:
        """What there is to be seen where nothing is durable: the functions that submit jobs."""
        return InDatabase({}, False, [], 0, {}, {}, {}, {}, {}, {}, self._functions(database))

    def _applied(self, database: Database) -> Spans:
        """What is in Redis and still in the outbox; nothing is known to be when Redis does not answer."""
        try:
            return applied.read(self._target, self._config.source, applied.owners(database))
        except Unavailable:
            return Spans()

    def _waiting(self, database: Database, known: Spans) -> tuple[dict[str, Waiting], bool]:
        # The oldest and the newest, so that no table is hidden by another one's backlog.
        ranges, half = ranges_condition(known.gaps(_MOST_RANGES)[0]), MOST_ROWS // 2
        looks = " UNION ".join(
            f"(SELECT id, table_name, created_at FROM {SCHEMA}.outbox WHERE {ranges} ORDER BY id {order} LIMIT {half})"
            for order in ("ASC", "DESC"))
        found = {
            table.decode(): Waiting(int(rows), float(oldest))
            for table, rows, oldest in database.rows(
                "SELECT table_name, COUNT(*), UNIX_TIMESTAMP(NOW(6)) - UNIX_TIMESTAMP(MIN(created_at))"
                f" FROM ({looks}) AS looked_at GROUP BY table_name")}
        return found, sum(waiting.rows for waiting in found.values()) >= MOST_ROWS

    def _leases(self, database: Database) -> list[Lease]:
        return [
            Lease(int(shard), owner.decode() if owner else None, int(epoch), _seconds(left))
            for shard, owner, epoch, left in database.rows(
                f"SELECT shard, owner, epoch, UNIX_TIMESTAMP(expires_at) - UNIX_TIMESTAMP(NOW(6)) FROM {SCHEMA}.lease ORDER BY shard")
        ]

    def _dead_letters(self, database: Database) -> dict[str, int]:
        return {
            table.decode(): int(number) for table, number in database.rows(
                f"SELECT table_name, COUNT(*) FROM (SELECT table_name FROM {SCHEMA}.dead_letter LIMIT {MOST_ROWS}) AS looked_at GROUP BY table_name")
        }

    def _verifications(self, database: Database) -> dict[str, Verification]:
        found: dict[str, dict[str, Verification]] = {}
        for table, kind, finished, sample, rows, different, unsettled, repaired, error in database.rows(
            "SELECT table_name, kind, UNIX_TIMESTAMP(finished_at), sample, rows_seen, different, unsettled, repaired, error"
            # Of a table that is not synced any more, the last result would stand for ever.
            f" FROM {SCHEMA}.verification WHERE table_name IN (SELECT table_name FROM {SCHEMA}.synced_table)"
        ):
            found.setdefault(table.decode(), {})[kind.decode()] = Verification(
                float(finished), float(sample), int(rows), msgspec.json.decode(different, type=dict[str, int]), int(unsettled), int(repaired),
                error.decode(errors="replace"))
        return {table: last_verification(of_kinds) for table, of_kinds in found.items()}

    def _loads(self, database: Database) -> dict[str, Load]:
        return {
            table.decode(): Load(int(rows), _seconds(finished), not where)
            for table, rows, finished, where in database.rows(
                f"SELECT table_name, rows_done, UNIX_TIMESTAMP(finished_at), condition_sql FROM {SCHEMA}.resync"
                # The last one counts: what runs now, rather than what is done.
                " ORDER BY finished_at IS NULL, started_at")
        }

    def _reports(self, database: Database) -> dict[str, Report]:
        return {
            owner.decode(): msgspec.json.decode(report, type=Report)
            for owner, report in database.rows(
                f"SELECT owner, report FROM {SCHEMA}.worker_report WHERE reported_at > NOW(6) - INTERVAL {_REPORT_VALID} SECOND")
        }

    def _trigger_mistakes(self, database: Database, synced: dict[str, Synced]) -> dict[str, Optional[str]]:
        """Looked at seldom: the server opens files for it."""
        if time.monotonic() - self._triggers_at >= _TRIGGERS_PAUSE or synced != self._triggers_of:
            declared = {table.table: table for table in self._config.durable_tables}
            self._triggers = {
                name: trigger_mistake(table.triggers, self._triggers_on(database, table)) or column_mistake(
                    table.triggers.get("", "{}"), self._columns_of(database, table)) or (
                    declaration_mistake(declared[name], table) if name in declared else None)
                for name, table in synced.items()}
            self._triggers.update({name: declaration_mistake(table, None) for name, table in declared.items() if name not in synced})
            self._triggers_at, self._triggers_of = time.monotonic(), synced
        return self._triggers

    def _triggers_on(self, database: Database, table: Synced) -> dict[str, str]:
        schema, name = (text_literal(words.encode()).decode() for words in (table.schema, table.name))
        # A worker's account may not see triggers, for it could drop them then; the procedure shows their checksums with its definer's rights.
        return {trigger.decode(): checksum.decode() for trigger, checksum in database.rows(f"CALL {SCHEMA}.trigger_checksums({schema}, {name})")}

    def _columns_of(self, database: Database, table: Synced) -> dict[str, str]:
        return {name.decode(): kind.decode() for name, kind in database.rows(
            "SELECT COLUMN_NAME, CONCAT_WS(' ', COLUMN_TYPE, COLLATION_NAME) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
            (table.schema, table.name))}

    def _functions(self, database: Database) -> Optional[dict[str, Any]]:
        try:
            ((text,),) = database.rows("SELECT gman_stats()")
        except StatementInvalid:
            return None
        return None if text is None else msgspec.json.decode(text, type=dict[str, Any])

    def _open_transactions(self, database: Database) -> Optional[Transactions]:
        if time.monotonic() - self._transactions_at >= _TRANSACTIONS_PAUSE:
            self._transactions, self._transactions_at = None, time.monotonic()
            try:
                ((_own, _oldest, writing, reading, prepared, _replicates),) = database.rows(TRANSACTIONS)
            except DatabaseUnavailable as error:
                if error.code not in TRANSACTIONS_UNKNOWN:
                    raise
            else:
                # The end of summer time makes younger than nothing what is less than an hour old.
                self._transactions = Transactions(max(0.0, float(writing or 0)), max(0.0, float(reading or 0)), int(prepared or 0))
        return self._transactions


def mistakes(state: State, config: Config) -> list[str]:
    """All that somebody should do something about, a sentence each; empty when the pipeline is in order. Pure."""
    found = []
    servers: list[tuple[str, Optional[Server]]] = [("MySQL", state.mysql), ("Redis", state.redis)]
    found += [f"{kind} {server.name} cannot be used: {server.words}" for kind, server in servers if server is not None and not server.ok]
    found += [f"job server {server.name} cannot be used: {server.words}" for server in state.job_servers if not server.ok]
    if state.database is not None:
        found += _database_mistakes(state.database, [table.table for table in config.durable_tables])
    return found


def hints(state: State) -> list[str]:
    """What is worth knowing and no mistake of the pipeline's, a sentence each. Pure."""
    found, there = [], state.database and state.database.transactions
    if there and there.writing > LONG_SECONDS:
        prepared = f", and {there.prepared} prepared without a client: see XA RECOVER" if there.prepared else ""
        found.append(f"a transaction that has written has been open for {there.writing / 60:.0f} min{prepared}")
    if there and there.reading > LONG_SECONDS:
        found.append(f"a transaction that only reads has been open for {there.reading / 60:.0f} min")
    return found


def _database_mistakes(database: InDatabase, declared: list[str]) -> list[str]:
    found = [f"{name} is declared, but has no triggers yet: run site.yml" for name in declared if name not in database.synced]
    found += [f"{name}: triggers {words}; run site.yml, then verify" for name, words in database.triggers.items() if words and name in database.synced]
    if declared or database.waiting:
        if not database.workers:
            found.append("no worker process is alive: start gearsync-worker on a host of its own")
        free = [str(lease.shard) for lease in database.leases if not lease.held]
        if free and database.workers:
            found.append(f"nobody drains shard {', '.join(free)}")
    late = {name: waiting.oldest for name, waiting in database.waiting.items() if waiting.oldest > LATE_SECONDS}
    found += [f"{name}: a change has been waiting for {seconds:.0f} s" for name, seconds in late.items()]
    found += [f"{name}: {number} dead letters; see gearsync dead-letter list" for name, number in database.dead_letters.items()]
    for name, result in database.verifications.items():
        different = sum(result.different.values())
        if different > 0:
            found.append(f"{name}: the last verification found {different} differences; see gearsync verify")
        if result.error:
            found.append(f"{name}: the last verification could not tell: {result.error}")
        elif result.unsettled:
            found.append(f"{name}: the last verification could not compare {result.unsettled} rows; see gearsync verify")
    for server in (database.functions or {}).get("servers", []):
        if server["state"] != "closed":
            found.append(f"the database server passes by the job server {server['address']}: {server.get('last_error') or 'its breaker is open'}")
    return found


class Activity(msgspec.Struct):
    """What was applied of one table in the last minute, by all processes: changes per second, and the lag in seconds."""

    rate: float
    p50: Optional[float]
    p99: Optional[float]


def activity(reports: Iterable[Report]) -> dict[str, Activity]:
    """The reports of all processes summed up by table. Pure."""
    rates: dict[str, float] = {}
    tally = Tally()
    for report in reports:
        tally.add(report.tally)
        for table, number in report.tally.counters.get(CHANGES, {}).items():
            rates[table] = rates.get(table, 0.0) + (number / report.seconds if report.seconds else 0.0)
    nothing = Histogram()
    return {
        table: Activity(rate, tally.lags.get(table, nothing).percentile(0.5), tally.lags.get(table, nothing).percentile(0.99))
        for table, rate in rates.items()
    }
