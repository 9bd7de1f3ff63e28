"""The figures of a source in order of time. Pure: no clock, no thread, no I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from ecolyzer_otel.impact.live.figure import Figure

__all__ = ["History"]

_MAX_FIGURES: Final = 512


class History:
    """Immutable, so that one thread can replace it while others read.

    A figure's age counts from its ``until_s``, or from its ``from_s`` without one. It is valid until a newer one
    begins, or until it is ``max_age`` seconds old. The single figure of a ``fixed`` history is always valid.
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
        """The figure that begins last, or None."""
        return self._figures[-1] if self._figures else None

    @property
    def figures(self) -> Sequence[Figure]:
        """All figures, in order of time."""
        return self._figures

    def merged(self, figures: Iterable[Figure]) -> History:
        """This history with newer figures, which replace those of the same time. The oldest are dropped."""
        merged = {figure.from_s: figure for figure in (*self._figures, *figures)}
        return History(
            [merged[start] for start in sorted(merged)][-_MAX_FIGURES:], self._max_age, fixed=self._fixed
        )

    def at(self, unix_s: float) -> Figure | None:
        """The figure that is valid at ``unix_s``, or None."""
        figure = self._last_before(unix_s)
        if figure is None or self._fixed or unix_s <= figure.age_from_s + self._max_age:
            return figure
        return None

    def _last_before(self, unix_s: float) -> Figure | None:
        if self._fixed:
            return self.newest
        index = bisect_right(self._starts, unix_s)
        return self._figures[index - 1] if index else None
