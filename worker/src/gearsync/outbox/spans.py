# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of outbox ids as ranges: ids are almost consecutive, so that a few ranges hold millions of them.
Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

#: A range of ids, both ends included.
Span = tuple[int, int]
#: Up to so many ids are compared one by one.
_ONE_BY_ONE = 16


def runs(ids: Sequence[int]) -> Iterator[Span]:
    """The ranges of sorted, distinct ``ids``, in order."""
    first: Optional[int] = None
    last = 0
    for low, high in _contiguous(ids, 0, len(ids) - 1) if ids else ():
        if first is not None and low == last + 1:
            last = high
            continue
        if first is not None:
            yield first, last
        first, last = low, high
    if first is not None:
        yield first, last


def _contiguous(ids: Sequence[int], low: int, high: int) -> Iterator[Span]:
    """Ranges, not merged. Only a part with gaps is halved, so that a batch without gaps costs one
    comparison.
    """
    if ids[high] - ids[low] == high - low:
        yield ids[low], ids[high]
        return
    if high - low < _ONE_BY_ONE:
        yield from zip(ids[low : high + 1], ids[low : high + 1])
        return
    middle = (low + high) // 2
    yield from _contiguous(ids, low, middle)
    yield from _contiguous(ids, middle + 1, high)


def text_of(spans: Iterable[Span]) -> str:
    """Ranges in the format of a fence: ``17-20,25``."""
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)


def from_text(text: str) -> Iterator[Span]:
    """The ranges of a text that ``text_of`` returned. Raises ValueError for any other text."""
    for part in text.split(",") if text else ():
        first, _dash, last = part.partition("-")
        yield int(first), int(last or first)


class Spans:
    """A set of ids."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in spans:
            self.add_span(first, last)

    @classmethod
    def of(cls, ids: Sequence[int]) -> Spans:
        """The set of sorted, distinct ``ids``."""
        return cls(runs(ids))

    def __contains__(self, number: int) -> bool:
        place = bisect_left(self._lasts, number)
        return place < len(self._firsts) and self._firsts[place] <= number

    def __iter__(self) -> Iterator[Span]:
        """The ranges, in order."""
        return iter(list(zip(self._firsts, self._lasts)))

    @property
    def numbers(self) -> Iterator[int]:
        """The ids, one by one, in order."""
        return (number for first, last in self for number in range(first, last + 1))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    @property
    def last(self) -> int:
        """The greatest id; 0 when there is none."""
        return self._lasts[-1] if self._lasts else 0

    @property
    def first_absent(self) -> int:
        """The smallest id, from 1 on, that is not in the set."""
        place = bisect_left(self._lasts, 1)
        return self._lasts[place] + 1 if place < len(self._lasts) and self._firsts[place] <= 1 else 1

    @property
    def ranges(self) -> int:
        """The number of ranges."""
        return len(self._firsts)

    def __len__(self) -> int:
        """The number of ids."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def add_span(self, first: int, last: int) -> None:
        """Add all ids from ``first`` to ``last``."""
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def add(self, ids: Sequence[int]) -> None:
        """Add sorted, distinct ``ids``."""
        if ids:
            low, high = bisect_left(self._lasts, ids[0] - 1), bisect_right(self._firsts, ids[-1] + 1)
            part = self._part(low, high)
            for first, last in runs(ids):
                part.add_span(first, last)
            self._replace(low, high, part)

    def remove_span(self, first: int, last: int) -> None:
        """Remove all ids from ``first`` to ``last``."""
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        if low >= high:
            return
        left, right = self._firsts[low], self._lasts[high - 1]
        kept = [span for span in ((left, first - 1), (last + 1, right)) if span[0] <= span[1]]
        self._firsts[low:high] = [span[0] for span in kept]
        self._lasts[low:high] = [span[1] for span in kept]

    def remove(self, ids: Sequence[int]) -> None:
        """Remove sorted, distinct ``ids``."""
        if ids:
            low, high = bisect_left(self._lasts, ids[0]), bisect_right(self._firsts, ids[-1])
            part = self._part(low, high)
            for first, last in runs(ids):
                part.remove_span(first, last)
            self._replace(low, high, part)

    def _part(self, low: int, high: int) -> Spans:
        """A copy of some of the ranges: each change within a long list moves all that follows, so that
        many are made in a short copy.
        """
        part = Spans()
        part._firsts, part._lasts = self._firsts[low:high], self._lasts[low:high]
        return part

    def _replace(self, low: int, high: int, part: Spans) -> None:
        self._firsts[low:high], self._lasts[low:high] = part._firsts, part._lasts

    def common(self, other: Spans) -> Spans:
        """The ids that are in both sets."""
        shared, mine, others = Spans(), iter(self), iter(other)
        one, another = next(mine, None), next(others, None)
        while one and another:
            first, last = max(one[0], another[0]), min(one[1], another[1])
            if first <= last:
                shared.add_span(first, last)
            if one[1] < another[1]:
                one = next(mine, None)
            else:
                another = next(others, None)
        return shared

    def gaps(self, most: int) -> tuple[list[tuple[int, Optional[int]]], int]:
        """The ids that are not in the set, as ranges from 0 on, of which the last has no end; and how many
        ids of the set they contain.

        Returns one to ``most`` ranges: to keep the number down, the smallest ranges of the set are treated as
        absent.
        """
        spans, left_out = list(zip(self._firsts, self._lasts)), 0
        if len(spans) > most - 1:
            largest = sorted(
                range(len(spans)), key=lambda number: spans[number][1] - spans[number][0], reverse=True
            )[: max(0, most - 1)]
            kept = [spans[number] for number in sorted(largest)]
            left_out = sum([last - first + 1 for first, last in set(spans).difference(kept)])
            spans = kept
        gaps: list[tuple[int, Optional[int]]] = []
        begin = 0
        for first, last in spans:
            if begin < first:
                gaps.append((begin, first - 1))
            begin = last + 1
        return [*gaps, (begin, None)], left_out
