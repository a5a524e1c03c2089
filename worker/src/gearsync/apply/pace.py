"""When a drain looks at the outbox the next time, and for how long it holds its wakes. Pure: times are seconds of one monotonic clock."""

from __future__ import annotations

#: Seconds between two looks: at least, and at most while they go on after a change or a wake, which comes before its commit.
FIRST_GAP, LAST_GAP = 0.0003, 0.01
#: After a look it rests so many times what the look and its writing took: looks cost the server, and a busy one batches by itself.
_DUTY = 1.0
#: Seconds after the last change or wake until wakes are answered. Until then Gearman merges further wakes into them, so that a busy drain gets none.
_HOLD = 0.02
#: Seconds between two looks, at most, while no wake can come: no job server is connected, or changes came without one.
_UNWOKEN = 0.05
#: Seconds for which wakes are not relied upon after a change came without one.
_DISTRUST = 2.0


class Pace:
    """The next look is ``due``; ``found``, ``none`` and ``woken`` move it."""

    def __init__(self, linger: float, sweep: float) -> None:
        """It goes on looking for ``linger`` seconds after a change or a wake, and looks at least every ``sweep`` seconds."""
        self._linger, self._sweep = linger, sweep
        self.due = 0.0
        self._gap = FIRST_GAP
        self._linger_until = self._hold_until = self._distrust_until = 0.0

    def woken(self, now: float) -> None:
        """A wake has come: look at once."""
        self.due = min(self.due, now)
        self._distrust_until = 0.0
        self._go_on(now)
        self._hold_until = now + _HOLD

    def holds(self, now: float) -> bool:
        """Whether the wakes that were given are not to be answered yet."""
        return now < self._hold_until

    def released(self, now: float) -> None:
        """The wakes are answered: another one may have been merged into them, whose commit is still to come."""
        self._linger_until = now + self._linger

    def found(self, now: float, took: float, more: bool) -> None:
        """A look has met changes, which took so many seconds to write; with ``more`` there are further ones."""
        if now >= self._linger_until:
            self._distrust_until = now + _DISTRUST
        self._go_on(now)
        self._hold_until = now + _HOLD
        self.due = now if more else now + min(max(FIRST_GAP, _DUTY * took), LAST_GAP)

    def none(self, now: float, took: float, connected: bool) -> None:
        """A look has met nothing. ``connected``: whether there is a job server, so that wakes can come."""
        if now < self._linger_until:
            self.due, self._gap = now + max(self._gap, _DUTY * took), min(self._gap * 1.5, LAST_GAP)
        else:
            self.due = now + (self._sweep if connected and now >= self._distrust_until else min(self._sweep, _UNWOKEN))

    def _go_on(self, now: float) -> None:
        self._linger_until, self._gap = now + self._linger, FIRST_GAP
