"""The figures that are known, in order of time. Pure: no clock, no thread, no I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from ecolyzer_otel.impact.live.figure import Figure

__all__ = ["History"]

_MOST: Final = 512


class History:
    """Immutable, so that one thread can put a new one in place while others read.

    A figure's age counts from its own time: its ``until_s``, or its ``from_s`` without one. It stands until a newer
    one begins, or until it is ``max_age`` seconds old.
    """

    __slots__ = ("_figures", "_fixed", "_max_age", "_starts")

    def __init__(self, figures: Sequence[Figure], max_age: float, *, fixed: bool = False) -> None:
        self._figures = tuple(figures)
        self._starts = [figure.from_s for figure in figures]
        self._max_age = max_age
        self._fixed = fixed

    def __len__(self) -> int:
        return len(self._figures)

    @property
    def newest(self) -> Figure | None:
        """The one that begins last."""
        return self._figures[-1] if self._figures else None

    @property
    def figures(self) -> Sequence[Figure]:
        """All of them, in order of time."""
        return self._figures

    def merged(self, figures: Iterable[Figure]) -> History:
        """With newer knowledge: a figure of the same time takes the place of the old one. The oldest go."""
        known = {figure.from_s: figure for figure in (*self._figures, *figures)}
        return History([known[start] for start in sorted(known)][-_MOST:], self._max_age, fixed=self._fixed)

    def at(self, unix_s: float) -> Figure | None:
        """The figure that stands at ``unix_s``, or None."""
        figure = self._last_before(unix_s)
        if figure is None or self._fixed or unix_s <= figure.own_s + self._max_age:
            return figure
        return None

    def _last_before(self, unix_s: float) -> Figure | None:
        if self._fixed:
            return self.newest
        index = bisect_right(self._starts, unix_s)
        return self._figures[index - 1] if index else None
