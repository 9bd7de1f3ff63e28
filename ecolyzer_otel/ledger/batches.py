"""The division of a batch among its requests: the fixed part equally, the marginal part by weight.

A batch of requests S on one device draws  v(S) = E0 + sum of c_i:  E0 for the work that does not depend on their
number (weights streamed from memory, kernels launched), c_i for each request's own work. The Shapley value (L. S.
Shapley, 1953) of this game is exactly  E0 / |S| + c_i:  no other division gives each request what it adds in the
mean over all orders of arrival. E0 and the cost of an item are learned from settled batches of different sizes, by
model and phase. Both are scaled so that the shares add up to the measured joules.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

__all__ = ["BatchCosts", "batch_shares"]

_MAX_FAMILIES: Final = 256
_KEEP: Final = 0.995
#: Batches before their costs are used, and the least variance of their sizes, relative to the square of the mean.
_ENOUGH: Final = 10.0
_VARIED: Final = 0.01


def batch_shares(joules: float, fixed: float, weights: Sequence[float]) -> list[float]:
    """Returns the share of each request of a batch, in joules; the shares add up to ``joules``.

    Args:
        joules: joules of the batch.
        fixed: part of them, 0 to 1, that does not depend on the number of requests.
        weights: weight of each request's own work (items, tokens), at least 0. If all are 0, shares are equal.
    """
    number = len(weights)
    total = sum(weights)
    if not number:
        return []
    if total <= 0.0:
        return [joules / number] * number
    return [joules * (fixed / number + (1.0 - fixed) * (weight / total)) for weight in weights]


class _Family:
    """Decayed sums of a line through joules over items."""

    __slots__ = ("e", "n", "ne", "nn", "number")

    def __init__(self) -> None:
        self.number = self.n = self.nn = self.e = self.ne = 0.0

    def add(self, items: float, joules: float) -> None:
        self.number = _KEEP * self.number + 1.0
        self.n = _KEEP * self.n + items
        self.nn = _KEEP * self.nn + items * items
        self.e = _KEEP * self.e + joules
        self.ne = _KEEP * self.ne + items * joules

    def line(self) -> tuple[float, float] | None:
        """(E0, joules per item); None while sizes have not varied enough."""
        spread = self.number * self.nn - self.n * self.n
        if self.number < _ENOUGH or spread <= _VARIED * self.n * self.n:
            return None
        slope = max(0.0, (self.number * self.ne - self.n * self.e) / spread)
        return max(0.0, (self.e - slope * self.n) / self.number), slope


class BatchCosts:
    """Fixed and marginal joules of batches, by family: a model and phase."""

    __slots__ = ("_families",)

    def __init__(self) -> None:
        self._families: dict[Hashable, _Family] = {}

    def learn(self, family: Hashable, items: int, joules: float) -> None:
        """Add a settled request of ``items`` items. A family is kept from its first batch on."""
        costs = self._families.get(family)
        if costs is None:
            if items <= 1:
                return
            if len(self._families) >= _MAX_FAMILIES:
                del self._families[next(iter(self._families))]
            costs = self._families[family] = _Family()
        costs.add(float(items), joules)

    def fixed(self, family: Hashable, items: float) -> float:
        """Returns the fixed part of the joules of a batch of ``items``; 0 until it is learned."""
        costs = self._families.get(family)
        line = costs.line() if costs is not None else None
        if line is None:
            return 0.0
        total = line[0] + line[1] * items
        return line[0] / total if total > 0.0 else 0.0
