# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator should act on, and what is only worth knowing. Pure."""

from __future__ import annotations

from typing import Optional

from gearsync.declare.configuration import Config
from gearsync.declare.declaration import Table
from gearsync.operate.pipeline.state import DatabaseState, PipelineState, Server, Synced, Verification

#: A transaction that has been open for longer is worth a hint; seconds.
_LONG_TRANSACTION = 300.0
#: A change that has waited for longer is late, whatever the load; seconds.
_LATE_CHANGE = 10.0


def trigger_problem(wanted: dict[str, str], actual: dict[str, str]) -> Optional[str]:
    """The problem with a table's triggers, given their checksums by name as deployed and as they are."""
    wanted = {name: checksum for name, checksum in wanted.items() if name}
    missing = sorted(wanted.keys() - actual.keys())
    if missing:
        return f"missing: {', '.join(missing)}"
    changed = sorted(name for name in wanted if wanted[name] != actual[name])
    return f"not as deployed: {', '.join(changed)}" if changed else None


def column_problem(wanted: dict[str, str], actual: dict[str, str]) -> Optional[str]:
    """Which columns were altered after the triggers were made; None when none was, or when the account
    cannot see the columns.
    """
    altered = sorted(name for name in wanted if wanted[name] != actual.get(name)) if actual else []
    return f"made for other column types: {', '.join(altered)}" if altered else None


def declaration_problem(table: Table, synced: Optional[Synced]) -> Optional[str]:
    """How the declaration that the triggers were made from differs from the worker's configuration; None
    when it does not.
    """
    if synced is None:
        return "missing: the table is declared and was never deployed"
    deployed = synced.declared
    if deployed is None:
        return None
    different = sorted({name for name, _kind in deployed.columns} ^ {*table.columns})
    if different:
        return f"made from another declaration: {', '.join(different)}"
    if deployed.write != table.write:
        return "made from another declaration: other writes"
    return (
        None
        if (deployed.transform, deployed.computed) == (table.transform, table.computed)
        else "made from another declaration: another transform"
    )


def problems(state: PipelineState, config: Config) -> list[str]:
    """What an operator should act on, a sentence each; empty when the pipeline is in order."""
    servers: list[tuple[str, Optional[Server]]] = [("MySQL", state.mysql), ("Redis", state.redis)]
    servers += [("job server", server) for server in state.job_servers]
    sentences = [
        f"{kind} {server.name} cannot be used: {server.detail}"
        for kind, server in servers
        if server is not None and not server.ok
    ]
    for table, lost in state.lost.items():
        changes = f"{lost.changes} changes" if lost.changes else "changes"
        sentences.append(
            f"{table}: Redis has {changes} that the database has lost; run gearsync verify --repair --prune "
            f"--table {table}"
        )
    if state.database is not None:
        sentences += _in_database(state.database, [table.table for table in config.durable_tables])
    return sentences


def hints(state: PipelineState) -> list[str]:
    """What is worth knowing and is not a problem of the pipeline, a sentence each."""
    sentences, transactions = [], state.database and state.database.transactions
    if transactions and transactions.writing > _LONG_TRANSACTION:
        prepared = (
            f", and {transactions.prepared} prepared without a client: see XA RECOVER"
            if transactions.prepared
            else ""
        )
        sentences.append(
            f"a transaction that has written has been open for {transactions.writing / 60:.0f} min{prepared}"
        )
    if transactions and transactions.reading > _LONG_TRANSACTION:
        sentences.append(
            f"a transaction that only reads has been open for {transactions.reading / 60:.0f} min"
        )
    return sentences


def _in_database(database: DatabaseState, declared: list[str]) -> list[str]:
    sentences = [
        f"{name} is declared and has no triggers yet: run site.yml"
        for name in declared
        if name not in database.synced
    ]
    sentences += [
        f"{name}: triggers {problem}; run site.yml, then verify"
        for name, problem in database.triggers.items()
        if problem and name in database.synced
    ]
    if database.drained:
        sentences.append(
            "this host reaches a former primary, or a server that no worker has followed to yet: Redis has "
            f"{database.drained} as the one that is drained; see the worker's log, action=former_primary"
        )
    elif declared or database.waiting:
        if not database.workers:
            sentences.append("no worker process is running: start gearsync-worker on a worker host")
        free = [str(lease.shard) for lease in database.leases if not lease.held]
        if free and database.workers:
            sentences.append(f"no worker process drains shard {', '.join(free)}")
    late = {
        name: waiting.oldest for name, waiting in database.waiting.items() if waiting.oldest > _LATE_CHANGE
    }
    sentences += [f"{name}: a change has been waiting for {seconds:.0f} s" for name, seconds in late.items()]
    sentences += [
        f"{name}: {number} dead letters; see gearsync dead-letter list"
        for name, number in database.dead_letters.items()
    ]
    for name, result in database.verifications.items():
        sentences += _of_verification(name, result)
    for server in (database.functions or {}).get("servers", []):
        if server["state"] != "closed":
            sentences.append(
                f"the database server skips the job server {server['address']}: "
                f"{server.get('last_error') or 'its breaker is open'}"
            )
    return sentences


def _of_verification(name: str, result: Verification) -> list[str]:
    sentences = []
    different = sum(result.different.values())
    if different > 0:
        sentences.append(f"{name}: the last verification found {different} differences; see gearsync verify")
    if result.error:
        sentences.append(f"{name}: the last verification failed: {result.error}")
    elif result.unsettled:
        sentences.append(
            f"{name}: the last verification could not compare {result.unsettled} rows; see gearsync verify"
        )
    return sentences
