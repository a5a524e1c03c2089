# SPDX-License-Identifier: GPL-3.0-or-later
"""What the workers of a source with several members agree on in Redis: which server is drained, and which
may follow it.

A server follows another one when its data know of the other's term, because they were replicated from it
after the term began. A former primary that is cut off never gets to know of the term after its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Optional

from gearsync.apply.drain_servers import Servers
from gearsync.apply.fence import FenceMoved
from gearsync.declare.configuration import Config
from gearsync.outbox.owner import is_dead
from gearsync.outbox.terms import Known, Term, Terms, own_term
from gearsync.servers.mysql import Database
from gearsync.servers.redis_errors import Unavailable, message_of, text
from gearsync.servers.target import Script, Target
from gearsync.telemetry.metrics import ERRORS, Tally

log = logging.getLogger(__name__)

_RECORD = Script((Path(__file__).parent / "term.lua").read_text())
#: Seconds between two records of the term.
_BEAT = 1.0
#: Seconds after which a record that was not renewed is one of a server that no process drains.
_RENEWED = 3 * _BEAT
#: Microseconds of another server's term that one may lack to follow it: as long as fences remember what was
#: applied by default.
_MOST_LOST = 60_000_000


class FormerPrimary(Unavailable):
    """Redis accepts no changes of the session's server: another one is drained."""


class Recorded(NamedTuple):
    """What Redis records: the term, how far it was, and who drained which member."""

    term: Term
    beat: int
    owner: str
    member: str

    def __str__(self) -> str:
        return f"{self.term} {self.beat} {self.owner} {self.member}"


def term_key(target: Target, source: str) -> str:
    """Where the term of a source is recorded."""
    return target.fence_key(source, 0, "term")


def read_record(target: Target, source: str) -> str:
    """What Redis records, as text; empty without a record. Raises Unavailable."""
    (answer,) = target.ask([("HGET", term_key(target, source), "term")])
    if isinstance(answer, Exception):
        raise Unavailable(message_of(answer))
    return text(answer or b"")


def recorded(state: str) -> Recorded:
    """From its text, or that of a term alone. Pure."""
    number, server, beat, owner, member = [*state.split(" ", 4), "0", "", ""][:5]
    return Recorded(Term(int(number), server), int(beat), owner, member or f"the server {server}")


def obstacle(state: Recorded, server: str, known: Known) -> str:
    """Why a server may not be drained after the recorded one; empty when it may. Pure."""
    # The first term may have begun a moment ago. There is no former primary then.
    if state.term.server == server or (state.term.number == 1 and not known):
        return ""
    if state.term not in known:
        return "has no data of that term: it is a former primary, or the beginning of the term is lost"
    return "lacks the last minute of that term" if state.beat - known[state.term] > _MOST_LOST else ""


def require_drained(config: Config, database: Database, target: Target) -> None:
    """For commands: raise FormerPrimary where another server than that of the session is drained, and this
    one may not follow. Raises DatabaseUnavailable and Unavailable.
    """
    if config.mysql is None or len(config.mysql.servers) < 2:
        return
    known, server, first = Terms(database).read() or {}, database.server, read_record(target, config.source)
    was_drained = server in {each.server for each in known}
    record, deadline = first, time.monotonic() + _RENEWED
    while record and (state := recorded(record)).term.server != server:
        reason = obstacle(state, server, known)
        if reason or (was_drained and record != first):
            reason = reason or "was drained before"
            raise FormerPrimary(f"{state.member} is drained, and {database.member.name} {reason}")
        if not was_drained or time.monotonic() >= deadline:
            break
        # In a failover workers are about to follow.
        time.sleep(0.1)
        record = read_record(target, config.source)


class AgreedTerm:
    """The term under which this process claims fences."""

    def __init__(self, servers: Servers, config: Config, owner: str, tally: Tally) -> None:
        """``owner``: this process' name."""
        self._database, self._target = servers.database, servers.target
        self._terms = Terms(self._database)
        self._source = config.source
        self._owner, self._lease = owner, config.worker.lease
        self._tally = tally
        self._session = 0
        self._due = 0.0
        self._own: Optional[Term] = None
        #: Terms that fences may have, beside this one, and the greatest number of a term of this process.
        self._former: list[str] = []
        self._greatest = 0
        #: A state that the server could not follow: Redis may have lost it, and it counts nevertheless.
        self._refused: Optional[Recorded] = None
        self._logged = ""
        #: Why nothing is written to the session's server; empty when it is drained, or may be.
        self.refusal = ""
        #: The state that was seen last, and since when; the term whose end is waited for.
        self._seen, self._seen_at = "", 0.0
        self._waits_for: Optional[Term] = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """What a claim names: the term, and those that it follows."""
        return (str(self._own), *self._former) if self._own else ()

    def check(self, now: float) -> str:
        """Why nothing may be written to the session's server, the ``refusal`` from now on: another one is
        drained. While Redis does not answer, its last answer counts. Raises DatabaseUnavailable.
        """
        self._follow_session()
        if self._own and now < self._due:
            return ""
        try:
            before = self._read(now)
        except Unavailable:
            if self.refusal:
                return self.refusal
            before = ""
        self.refusal, state = "", recorded(before) if before else None
        if any(each.term.server != self._database.server for each in (state, self._refused) if each):
            try:
                self._require(state, self._terms.read() or {}, now)
            except FormerPrimary as refused:
                self.refusal = str(refused)
        return self.refusal

    def hold(self, now: float) -> None:
        """Record the term, each second and in each new session.

        Raises DatabaseUnavailable, Unavailable, Denied, FormerPrimary, and FenceMoved when another server is
        recorded by now.
        """
        self._follow_session()
        if now < self._due:
            return
        is_held, before = bool(self._own), "" if self._own else self._begin(now)
        if self._own:
            state = Recorded(self._own, self._terms.beat(self._own), self._owner, self._database.member.name)
            try:
                self._record(state, before)
            except Unavailable:
                # Other nodes of a cluster may accept writes, and their fences have the term.
                if not (is_held and self._target.is_parted):
                    raise
            self._greatest, self._waits_for = self._own.number, None
            if self._logged:
                log.info("%s is drained", state.member, extra={"action": "term_begun"})
                self._logged = ""
        self._due = now + min(_BEAT, self._lease / 3)

    def _follow_session(self) -> None:
        if self._session != self._database.sessions:
            self._session, self._own, self._due, self.refusal = self._database.sessions, None, 0.0, ""

    def _record(self, state: Recorded, before: str) -> None:
        key = term_key(self._target, self._source)
        (answer,) = self._target.run(_RECORD, [(0, (1, key, str(state.term), str(state), before))])
        if isinstance(answer, Exception):
            raise answer
        if answer[0] == b"later":
            raise Unavailable(message_of(answer[1]))
        if answer[0] == b"elsewhere":
            self._own, self._due = None, 0.0
            raise FenceMoved

    def _read(self, now: float) -> str:
        """The recorded state; empty without one. Raises Unavailable."""
        state = read_record(self._target, self._source)
        if state != self._seen:
            self._seen, self._seen_at = state, now
        return state

    def _begin(self, now: float) -> str:
        """Find the server's term, if it has one or may begin one. Returns the recorded state."""
        before, known = self._read(now), self._terms.read()
        server, state, least = self._database.server, recorded(before) if before else None, 1
        self._require(state, known or {}, now)
        if state:
            least = state.term.number + (state.term.server != server)
        self._refused, self._former = None, []
        if known is not None:
            if state and not known and state.term.server != server:
                # Fences may have it.
                self._terms.beat(state.term)
            self._own = own_term(server, known, least)
        return before

    def follow(self, terms: Iterable[str]) -> None:
        """Fences have other ``terms``: claims may replace them from now on, or all wait. Raises
        DatabaseUnavailable.
        """
        known = self._terms.read() or {}
        for term in terms:
            if obstacle(recorded(term), self._database.server, known):
                self._refused, self._own, self._due = recorded(term), None, 0.0
            self._former.append(term)

    def _require(self, state: Optional[Recorded], known: Known, now: float) -> None:
        """Raise FormerPrimary when the server may not follow the recorded one, or one that refused it
        before.
        """
        for each in filter(None, (state, self._refused)):
            if reason := obstacle(each, self._database.server, known):
                self._refused, (number, server) = each, each.term
                raise self._refusal(
                    each,
                    f"{reason}. If it is the primary, execute there: REPLACE INTO gearsync.term VALUES "
                    f"({number}, '{server}', 1000000 * UNIX_TIMESTAMP())",
                )
        if state:
            self._require_ended(state, known, now)

    def _require_ended(self, state: Recorded, known: Known, now: float) -> None:
        """A server that was drained before may be a replica that should be read-only: it waits until the
        recorded one is drained no more.
        """
        if (
            state.term.server != self._database.server
            and (
                not known or any(each.server == self._database.server and each < state.term for each in known)
            )
            and state.term.number >= self._greatest
            and state.owner != self._owner
            and not is_dead(state.owner)
            and now - self._seen_at < self._lease
        ):
            # In a failover the other process may be about to move as well.
            is_renewed = self._waits_for == state.term and self._seen_at == now
            self._waits_for = state.term
            reason = f"was drained before: {state.owner} must have left the other one first"
            raise self._refusal(state, reason) if is_renewed else FormerPrimary(reason)

    def _refusal(self, state: Recorded, reason: str) -> FormerPrimary:
        self._own, self._due = None, 0.0
        message = (
            f"{state.member} is drained (term {state.term.number}), and {self._database.member.name} {reason}"
        )
        self._tally.count(ERRORS, "former_primary")
        if message != self._logged:
            self._logged = message
            log.error("nothing is drained: %s", message, extra={"action": "former_primary"})
        return FormerPrimary(message)
