# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs that ask for a barrier, until each is answered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

import msgspec

from gearsync.contract import barrier_functions
from gearsync.outbox.barrier import Barrier
from gearsync.servers.gearman import Job, JobServers

Answer = Mapping[str, Any]


class _Question(NamedTuple):
    job: Job
    barrier: Barrier


class BarrierDesk:
    """Takes the jobs of ``functions``, and answers each once."""

    def __init__(
        self, source: str, servers: JobServers, new: Callable[[], Barrier], *, is_alone: bool = True
    ) -> None:
        """``new`` returns a barrier for ``source`` that begins now. ``is_alone``: no other source has workers
        at the job servers.
        """
        self.functions = barrier_functions(source, is_alone=is_alone)
        self._source = source
        self._servers = servers
        self._new = new
        self._questions: list[_Question] = []

    @property
    def looks(self) -> list[float]:
        """The times of the next look of each open barrier, by the monotonic clock."""
        return [question.barrier.next_look for question in self._questions]

    def ask(self, job: Job) -> bool:
        """Take a job. Returns False when it is answered at once, since it names another source."""
        wanted = job.data.decode(errors="replace")
        if wanted not in ("", self._source):
            self._reply(
                job, {"ok": False, "error": f"this worker's source is {self._source!r}, not {wanted!r}"}
            )
            return False
        self._questions.append(_Question(job, self._new()))
        return True

    def answer(self, look: Callable[[Barrier], Optional[Answer]]) -> None:
        """Answer the jobs whose barriers have ended. ``look`` is called with each barrier that is due,
        and returns its answer or None.
        """
        now = time.monotonic()
        open_questions = []
        for question in self._questions:
            answer = look(question.barrier) if now >= question.barrier.next_look else None
            if answer is None:
                open_questions.append(question)
            else:
                self._reply(question.job, answer)
        self._questions = open_questions

    def _reply(self, job: Job, answer: Answer) -> None:
        self._servers.answer(job, b"", msgspec.json.encode(answer))
