# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the primary among the members of a source: each is asked in a thread of its own, so that one that
does not answer delays nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Optional, Union

import msgspec

from gearsync.contract import TRANSACTIONS
from gearsync.declare.configuration import Member, MySQLSettings
from gearsync.servers.members import Answers, Refusal, Seen, choose
from gearsync.servers.mysql import Choice, Database
from gearsync.servers.mysql_errors import DatabaseUnavailable

#: Seconds that a member may take to answer: for connecting and for each answer, and as a whole before it
#: counts as one that does not answer.
_TIMEOUT, _SILENT = 1.0, 0.5
#: Seconds between two looks at whether a session waits for an answer, and between two questions to the
#: members that are not the primary.
_LOOK, _CALM = 0.25, 1.0
#: Seconds between two questions while the primary is looked for: at first, and after ``_LONG`` seconds.
_SEARCH, _SLOW_SEARCH, _LONG = 0.1, 0.5, 30.0
#: Seconds that a new session waits for the primary to be known, at most.
_WAIT = 1.0
_NOT_ASKED = "has not been asked yet"


class NoPrimary(DatabaseUnavailable):
    """No member can be drained."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(ValueError(refusal.reason))
        self.is_split = refusal.is_split


def _replicates(database: Database) -> bool:
    """Whether a server applies the changes of another one; False also when it is not known."""
    with contextlib.suppress(DatabaseUnavailable):
        for row in database.rows(TRANSACTIONS):
            return bool(int(row[-1] or 0))
    return False


def _ask(database: Database) -> Union[Seen, str]:
    """A member's answer, or why there is none."""
    try:
        database.drop_closed()
        database.now()
        return Seen(
            database.server,
            not database.is_read_only,
            not database.is_read_only and _replicates(database),
        )
    except DatabaseUnavailable as error:
        return str(error)


def _require_alive(thread: threading.Thread) -> None:
    """Raise RuntimeError when a thread has ended: what it knows would never change."""
    if not thread.is_alive():
        raise RuntimeError(f"the thread {thread.name!r} has ended")


class _Questions:
    """Asks one member when it is due, in a thread of its own that ends with the process."""

    def __init__(self, settings: MySQLSettings, member: Member, answered: threading.Condition) -> None:
        of_member = msgspec.structs.replace(settings, members=[member])
        self._database = Database(of_member, _TIMEOUT, any_state=True)
        self._answered = answered
        self._wanted = threading.Event()
        self._closing = False
        #: When the question began that has no answer yet; 0 without one.
        self.since = 0.0
        #: The last answer, and when its question began.
        self.answer: Union[Seen, str] = _NOT_ASKED
        self.asked_at = 0.0
        self._is_silent = False
        self._thread = threading.Thread(target=self._run, name=f"member {member.name}", daemon=True)
        self._thread.start()

    def ask(self, now: float) -> None:
        """Ask, unless a question is open. Raises RuntimeError when the thread has ended."""
        _require_alive(self._thread)
        if not self.since:
            self.since = now
            self._wanted.set()

    def state(self, begun: float, now: float) -> Optional[Union[Seen, str]]:
        """The answer to a question that was asked since ``begun``; None when it may still come. One that did
        not answer the last question in time is not waited for.
        """
        if self.asked_at >= begun:
            return self.answer
        self._is_silent |= bool(self.since) and now - self.since >= _SILENT
        if self._is_silent:
            return f"does not answer ({self.answer})" if isinstance(self.answer, str) else "does not answer"
        return None

    def close(self) -> None:
        self._closing = True
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                break
            answer = _ask(self._database)
            with self._answered:
                self._is_silent = time.monotonic() - self.since >= _SILENT
                self.answer, self.asked_at, self.since = answer, self.since, 0.0
                self._answered.notify_all()
        self._database.close()


class _Asked(Choice):
    """Members that are asked for their state."""

    def __init__(self, settings: MySQLSettings) -> None:
        self._changed = threading.Condition()
        self._questions = {member: _Questions(settings, member, self._changed) for member in settings.servers}

    def _answers(self, begun: float, now: float) -> Optional[Answers]:
        """The answers to the questions since ``begun``; None while some may still come."""
        answers = {member: each.state(begun, now) for member, each in self._questions.items()}
        known = {member: answer for member, answer in answers.items() if answer is not None}
        return known if len(known) == len(answers) else None

    def close(self) -> None:
        for each in self._questions.values():
            each.close()


class Members(_Asked):
    """For sessions that are opened now and then: the members are asked for each."""

    def choose(self) -> Member:
        chosen = choose(self.ask())
        if isinstance(chosen, Refusal):
            raise NoPrimary(chosen)
        return chosen

    def ask(self) -> Answers:
        """The answers of all members, within a second."""
        begun = time.monotonic()
        with self._changed:
            while True:
                now = time.monotonic()
                for each in self._questions.values():
                    # One that was open before is of no use.
                    if each.asked_at < begun:
                        each.ask(now)
                answers = self._answers(begun, now)
                if answers is not None:
                    return answers
                self._changed.wait(_SEARCH)


class Watch(_Asked):
    """For a process that drains: it is known at any time which member is the primary.

    A session with a member that is not, or not any more, is ended, also one that waits for an answer.
    """

    def __init__(self, settings: MySQLSettings) -> None:
        super().__init__(settings)
        #: Sessions that end when their members are not the primary.
        self.sessions: list[Database] = []
        self._primary: Optional[Member] = None
        #: Why there is no primary.
        self._refusal: Optional[Refusal] = None
        #: When the search for the primary began, and since when answers count in it; 0 while it is known.
        self._searching_since = self._counts_from = 0.0
        self._ask_at = 0.0
        self._thread = threading.Thread(target=self._run, name="members", daemon=True)
        self._thread.start()

    def require_alive(self) -> None:
        """Raise RuntimeError when the members are not watched any more."""
        _require_alive(self._thread)

    @property
    def is_known(self) -> bool:
        """Whether the primary is known."""
        return self._primary is not None and not self._counts_from

    def choose(self) -> Member:
        with self._changed:
            self._changed.wait_for(lambda: self.is_known or self._refusal, timeout=_WAIT)
            if self._primary is not None and self.is_known:
                return self._primary
            raise NoPrimary(self._refusal or Refusal("the members do not answer", False))

    def doubt(self) -> None:
        with self._changed:
            self._search(time.monotonic())
            self._changed.notify_all()

    def _search(self, now: float) -> None:
        if not self._counts_from:
            self._searching_since = self._counts_from = now
            self._ask_at, self._refusal = 0.0, None

    def _run(self) -> None:
        with self._changed:
            self._search(time.monotonic())
            while True:
                now = time.monotonic()
                if self._counts_from:
                    self._go_on(now)
                else:
                    self._look(now)
                for session in self.sessions:
                    if self.is_known and session.member != self._primary:
                        session.interrupt()
                self._changed.wait(_SEARCH if self._counts_from else _LOOK)

    def _look(self, now: float) -> None:
        """While the primary is known: does it answer, and is no other member writable?"""
        others = [each for member, each in self._questions.items() if member != self._primary]
        if now >= self._ask_at:
            self._ask_at = now + _CALM
            for each in others:
                each.ask(now)
        waits = any(session.busy_since and now - session.busy_since >= _SILENT for session in self.sessions)
        if waits or any(
            isinstance(each.answer, Seen) and each.answer.is_writable and not each.answer.replicates
            for each in others
        ):
            self._search(now)

    def _go_on(self, now: float) -> None:
        """Search for the primary."""
        if now >= self._ask_at:
            is_long = now - self._searching_since >= _LONG
            self._ask_at = now + (_SLOW_SEARCH if is_long else _SEARCH)
            for each in self._questions.values():
                each.ask(now)
        answers = self._answers(self._counts_from, now)
        if answers is None:
            return
        chosen = choose(answers)
        if isinstance(chosen, Member):
            self._primary, self._refusal, self._counts_from = chosen, None, 0.0
            self._ask_at = now + _CALM
        else:
            # A session with a member that opens no others may go on.
            if chosen.is_split or isinstance(answers.get(self._primary), Seen):  # type: ignore[arg-type]
                self._primary = None
                for session in self.sessions:
                    session.interrupt()
            self._refusal, self._counts_from = chosen, now
        self._changed.notify_all()


def open_database(settings: MySQLSettings, timeout: float, idle: float = 30.0) -> Database:
    """A session with the primary, see Database. Connects at the first use."""
    choice = Members(settings) if len(settings.servers) > 1 else None
    return Database(settings, timeout, idle, choice)
