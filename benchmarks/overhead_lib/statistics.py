"""Medians over rounds, what lies around them, and how sure they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any

__all__ = ["interval", "low", "percentile", "ratio", "spread"]

_RESAMPLES = 2000


def percentile(values: Sequence[float], percent: float) -> float:
    """Of sorted or unsorted values, the nearest one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def low(values: Sequence[float]) -> float:
    """The lower quartile: what disturbs a call only ever adds to it.

    On a busy machine two equal blocks differ by a third to a fifth of what they do in their means.
    """
    return sorted(values)[len(values) // 4]


def _bootstrap(rounds: int, figure: Callable[[list[int]], float], seed: int) -> tuple[float, float]:
    """95 % interval of a figure when rounds are drawn anew."""
    chance = random.Random(seed)
    numbers = range(rounds)
    found = sorted(figure(chance.choices(numbers, k=rounds)) for _ in range(_RESAMPLES))
    return found[int(0.025 * _RESAMPLES)], found[int(0.975 * _RESAMPLES)]


def interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    return _bootstrap(len(values), lambda chosen: median(values[index] for index in chosen), seed)


def spread(values: Sequence[float], seed: int) -> dict[str, Any]:
    """Median, quartiles, and the 95 % interval of the median."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"median": median(values), "quartiles": [low, high], "interval": list(interval(values, seed))}


def ratio(values: Sequence[float], others: Sequence[float], seed: int) -> dict[str, Any] | None:
    """The ratio of two medians over the same rounds; the interval draws both of a round together.

    Not the median of ratios: a bare span around a long call drowns in the noise of single rounds. None where the
    span itself is not told from nothing.
    """
    if median(others) <= 0 or interval(others, seed)[0] <= 0:
        return None

    def figure(chosen: list[int]) -> float:
        below = median(others[index] for index in chosen)
        return median(values[index] for index in chosen) / below if below > 0 else float("inf")

    return {"ratio": figure(list(range(len(values)))), "interval": list(_bootstrap(len(values), figure, seed))}
