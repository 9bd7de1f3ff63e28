"""Paired ratios with their spread, and targets with their verdicts."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: With fewer values the 95 % interval of a median is meaningless.
_MIN_VALUES = 6


@dataclass(frozen=True)
class Spread:
    """A median, its quartiles (``low``, ``high``), and its 95 % bootstrap interval."""

    median: float
    low: float
    high: float
    surely_above: float
    surely_below: float
    count: int = 0

    def at_least(self, limit: float) -> bool | None:
        """Whether the median is at least ``limit``; None with too few values, or ``limit`` in the 95 % interval."""
        if self.count < _MIN_VALUES or self.surely_above < limit <= self.surely_below:
            return None
        return self.median >= limit

    def at_most(self, limit: float) -> bool | None:
        """Whether the median is at most ``limit``; None as in :meth:`at_least`."""
        if self.count < _MIN_VALUES or self.surely_above <= limit < self.surely_below:
            return None
        return self.median <= limit

    def __str__(self) -> str:
        return f"{self.median:.4g} [{self.low:.4g} to {self.high:.4g}]"

    def percent(self) -> str:
        """As a difference from 1."""
        return f"{self.median - 1:+.1%} [{self.low - 1:+.1%} to {self.high - 1:+.1%}]"


def spread(values: Sequence[float], resamples: int = 2000) -> Spread:
    """The median of ``values`` with its quartiles and interval."""
    middle = statistics.median(values)
    if len(values) < 3:
        return Spread(middle, min(values), max(values), min(values), max(values), len(values))
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(resamples))
    return Spread(
        middle, low, high, medians[round(0.025 * resamples)], medians[round(0.975 * resamples) - 1], len(values)
    )


def paired(ours: Sequence[float], others: Sequence[float]) -> Spread:
    """The ratio of values measured in the same round."""
    return spread([one / other for one, other in zip(ours, others, strict=True)])


@dataclass(frozen=True)
class Target:
    """A figure and its target; ``met`` is None if undecided: too few values, or too much noise."""

    what: str
    figure: str
    wanted: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return "undecided" if self.met is None else ("met" if self.met else "NOT met")


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    texts = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    print(f"\n{title}")
    for row in texts:
        cells = (
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip())


def show_targets(targets: Sequence[Target]) -> None:
    """Print all targets with their verdicts."""
    rows = [(one.what, one.figure, one.wanted, one.verdict) for one in targets]
    show("Targets", ("figure", "measured", "target", ""), rows)


def as_json(targets: Sequence[Target]) -> list[dict[str, Any]]:
    return [asdict(one) for one in targets]
