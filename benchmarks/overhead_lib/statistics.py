"""Medians over rounds, their quartiles and confidence intervals."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any

__all__ = ["interval", "low", "percentile", "ratio", "spread"]

_RESAMPLES = 2000


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile of values in any order, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def low(values: Sequence[float]) -> float:
    """The lower quartile, because disturbances of a call only add time.

    On a busy machine the lower quartiles of two equal blocks differ by a fifth to a third of what their means do.
    """
    return sorted(values)[len(values) // 4]


def _bootstrap(rounds: int, figure: Callable[[list[int]], float], seed: int) -> tuple[float, float]:
    """The 95 % interval of a figure over resampled rounds."""
    chance = random.Random(seed)
    numbers = range(rounds)
    found = sorted(figure(chance.choices(numbers, k=rounds)) for _ in range(_RESAMPLES))
    return found[int(0.025 * _RESAMPLES)], found[int(0.975 * _RESAMPLES)]


def interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median."""
    return _bootstrap(len(values), lambda chosen: median(values[index] for index in chosen), seed)


def spread(values: Sequence[float], seed: int) -> dict[str, Any]:
    """Median, quartiles, and the 95 % interval of the median."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"median": median(values), "quartiles": [low, high], "interval": list(interval(values, seed))}


def ratio(values: Sequence[float], others: Sequence[float], seed: int) -> dict[str, Any] | None:
    """The ratio of two medians over the same rounds, and its interval; both values of a round are drawn together.

    It is not the median of ratios, because a bare span around a long call is smaller than the noise of single
    rounds. None if the span itself is not distinguishable from zero.
    """
    if median(others) <= 0 or interval(others, seed)[0] <= 0:
        return None

    def figure(chosen: list[int]) -> float:
        below = median(others[index] for index in chosen)
        return median(values[index] for index in chosen) / below if below > 0 else float("inf")

    return {"ratio": figure(list(range(len(values)))), "interval": list(_bootstrap(len(values), figure, seed))}
