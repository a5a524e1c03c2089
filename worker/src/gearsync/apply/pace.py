# SPDX-License-Identifier: GPL-3.0-or-later
"""When a drain reads the outbox again, and how long it holds its wakes, the jobs that wake it. Pure:
times are seconds of one monotonic clock.
"""

from __future__ import annotations

#: Seconds between two looks: at least; and at most while they go on after a change or a wake, which arrives
#: before its commit.
FIRST_GAP, LAST_GAP = 0.0003, 0.01
#: The pause after a look, as a multiple of the time of the look and its writes: looks cost the server, and
#: more changes gather meanwhile.
_DUTY = 1.0
#: Seconds after the last change or wake until wakes are answered. Until then Gearman merges further wakes
#: into them, so that a busy drain gets none.
_HOLD = 0.02
#: Seconds between two looks, at most, while no wake can arrive: no job server is connected, or a change came
#: without one.
_UNWOKEN = 0.05
#: Seconds for which the drain does not rely on wakes after a change came without one.
_DISTRUST = 2.0
#: An idle drain sweeps less often: its pause is this share of the time without a change or a wake, up to so
#: many seconds.
_IDLE_SHARE, _IDLE_SWEEP = 1 / 60, 1.0


class Pace:
    """The next look is ``due``; ``after_changes``, ``after_none`` and ``woken`` move it."""

    def __init__(self, linger: float, sweep: float) -> None:
        """Looks go on for ``linger`` seconds after a change or a wake; then there is one every ``sweep``
        seconds, and one a second after a minute without either.
        """
        self._linger, self._sweep = linger, sweep
        self.due = 0.0
        #: Whether the next look is due because of the time alone.
        self._is_sweeping = False
        self._gap = FIRST_GAP
        self._linger_until = self._hold_until = self._distrust_until = 0.0

    def woken(self, now: float) -> None:
        """A wake has arrived: look at once."""
        self.due = min(self.due, now)
        self._distrust_until = 0.0
        self._go_on(now)
        self._hold_until = now + _HOLD

    def awake(self, now: float) -> None:
        """The process is awake for another reason: the next sweep may as well be now."""
        if self._is_sweeping:
            self.due = min(self.due, now)

    def holds(self, now: float) -> bool:
        """Whether wakes are not to be answered yet."""
        return now < self._hold_until

    def released(self, now: float) -> None:
        """The wakes are answered: one that was merged into them may belong to a commit that is still to
        come.
        """
        self._linger_until = now + self._linger

    def after_changes(self, now: float, took: float, more: bool) -> None:
        """A look has found changes, and took ``took`` seconds with its writes; with ``more`` there are
        further ones.
        """
        if now >= self._linger_until:
            self._distrust_until = now + _DISTRUST
        self._go_on(now)
        self._hold_until = now + _HOLD
        self.due = now if more else now + min(max(FIRST_GAP, _DUTY * took), LAST_GAP)

    def after_none(self, now: float, took: float, connected: bool) -> None:
        """A look has found nothing. ``connected``: whether a job server is connected, so that wakes can
        arrive.
        """
        self._is_sweeping = now >= self._linger_until
        if not self._is_sweeping:
            self.due, self._gap = now + max(self._gap, _DUTY * took), min(self._gap * 1.5, LAST_GAP)
        elif connected and now >= self._distrust_until:
            # A process that has just started has not been idle.
            self._linger_until = self._linger_until or now
            idle = now - self._linger_until
            self.due = now + max(self._sweep, min(_IDLE_SHARE * idle, _IDLE_SWEEP))
        else:
            self.due = now + min(self._sweep, _UNWOKEN)

    def _go_on(self, now: float) -> None:
        self._linger_until, self._gap, self._is_sweeping = now + self._linger, FIRST_GAP, False
