# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask all servers for their state at once, so that one that does not answer delays no other."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any, Optional

from gearsync.contract import DIRECT_FUNCTION, drain_prefix
from gearsync.declare.configuration import Config, parse_address
from gearsync.operate.pipeline.database_reader import DatabaseReader
from gearsync.operate.pipeline.state import DatabaseServer, DatabaseState, JobServer, PipelineState, Server
from gearsync.outbox.lost_tables import LostTable, marks, tables_of
from gearsync.servers import gearman_admin
from gearsync.servers.members import Refusal, choose, states
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid
from gearsync.servers.primary import Members, NoPrimary
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import open_target


def our_functions(config: Config) -> Callable[[str], bool]:
    """Whether a Gearman function is one of this pipeline's."""
    if config.worker.shared_job_servers:
        direct = {table.function for table in config.tables if table.delivery == "direct"}
    else:
        direct = {DIRECT_FUNCTION, *(table.function for table in config.tables)}
    prefix = drain_prefix(config.source)
    # The name of another source may begin with this one's and a dot.
    return lambda name: name in direct or (name.startswith(prefix) and name[len(prefix) :].isdigit())


class Question:
    """Something that is asked in a thread of its own."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._answer: Any = None
        self._error: Optional[BaseException] = None
        self.done = threading.Event()
        # A daemon: a server that does not answer does not keep the process from ending.
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._answer = self._ask()
        except BaseException as error:  # noqa: BLE001  # it is raised where the answer is taken
            self._error = error
        self.done.set()

    def answer(self) -> Any:
        """The answer, when it is done. Raises what asking raised."""
        if self._error is not None:
            raise self._error
        return self._answer


class Observer:
    """Observes all servers, each within ``timeout`` seconds an answer, and within ``bound`` as a whole.
    Keeps its connections in between.
    """

    def __init__(self, config: Config, timeout: float, bound: float) -> None:
        self._config = config
        self._bound = bound
        self._questions: dict[str, Question] = {}
        self._timeout = timeout
        self._members = Members(config.mysql) if config.mysql and len(config.mysql.servers) > 1 else None
        self._database = Database(config.mysql, timeout, 120.0, self._members) if config.mysql else None
        self._target = open_target(config.redis, timeout)
        # What is asked in a thread of its own has connections of its own.
        self._read_target = open_target(config.redis, timeout)
        self._reader = DatabaseReader(config, self._database, self._read_target) if self._database else None

    def observe(self) -> PipelineState:
        asks: dict[str, Callable[[], Any]] = {"mysql": self._mysql, "redis": self._redis}
        asks.update({name: functools.partial(self._job_server, name) for name in self._config.job_servers})
        # A question that was given up may still use its connection, and its answer is old by now.
        busy = {name for name, question in self._questions.items() if not question.done.is_set()}
        self._questions.update({name: Question(ask) for name, ask in asks.items() if name not in busy})
        deadline = time.monotonic() + self._bound
        answered = {
            name
            for name in asks
            if self._questions[name].done.wait(max(0.0, deadline - time.monotonic())) and name not in busy
        }
        late = f"no answer within {self._bound:g} s"
        mysql, database = (
            self._questions["mysql"].answer()
            if "mysql" in answered
            else (DatabaseServer(self._database.name, False, late) if self._database else None, None)
        )
        redis, lost = (
            self._questions["redis"].answer()
            if "redis" in answered
            else (Server(self._target.name, False, late), {})
        )
        servers = [
            self._questions[name].answer() if name in answered else JobServer(name, False, late)
            for name in self._config.job_servers
        ]
        return PipelineState(time.time(), self._config.source, mysql, redis, servers, database, lost)

    def close(self) -> None:
        self._target.close()
        self._read_target.close()
        if self._database is not None:
            self._database.close()

    def _mysql(self) -> tuple[Optional[DatabaseServer], Optional[DatabaseState]]:
        if self._database is None or self._reader is None:
            return None, None
        answers = self._members.ask() if self._members else {}
        chosen = choose(answers) if answers else None
        members, is_split = states(answers), isinstance(chosen, Refusal) and chosen.is_split
        try:
            if isinstance(chosen, Refusal):
                raise NoPrimary(chosen)
            if chosen is not None and chosen != self._database.member:
                self._database.close()
            state = self._reader.read()
        except DatabaseUnavailable as error:
            absent = (
                "the schema gearsync does not exist, or is of an earlier release (run site.yml): "
                if isinstance(error, StatementInvalid)
                else ""
            )
            return DatabaseServer(self._database.name, False, f"{absent}{error}", members, is_split), None
        return DatabaseServer(self._database.name, True, "", members), state

    def _redis(self) -> tuple[Server, dict[str, LostTable]]:
        try:
            self._target.ping()
            lost = tables_of(marks(self._target, self._config.source))
        except Unavailable as error:
            return Server(self._target.name, False, str(error)), {}
        return Server(self._target.name, True), lost

    def _job_server(self, name: str) -> JobServer:
        try:
            queues = gearman_admin.queues(parse_address(name), self._timeout, self._config.job_server_tls)
        except (OSError, ValueError) as error:
            return JobServer(name, False, str(error))
        ours = our_functions(self._config)
        return JobServer(
            name, True, "", {function: queue for function, queue in sorted(queues.items()) if ours(function)}
        )
