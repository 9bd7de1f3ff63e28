"""Sums over the trailing 300 s, in bounded memory."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["TrailingSums"]


class TrailingSums:
    """Several sums over the trailing 300 s, in a ring of 60 sums of 5 s each: they cover the last 295 to 300 s.

    Args:
        width: the number of sums.
    """

    __slots__ = ("_epochs", "_sums", "_width")

    _BUCKET_SECONDS: Final = 5.0
    _BUCKETS: Final = 60

    def __init__(self, width: int) -> None:
        self._width = width
        #: The index of the 5 s in each slot of the ring, and its sums.
        self._epochs: list[int | None] = [None] * self._BUCKETS
        self._sums: list[list[float]] = [[0.0] * width for _ in range(self._BUCKETS)]

    def add(self, t_seconds: float, *amounts: float) -> None:
        """Add to all sums, in O(1) and in any order of time; a time already overwritten is ignored.

        Args:
            t_seconds: the time, on the same clock as :meth:`totals`.
            amounts: one for each sum.
        """
        epoch = int(t_seconds // self._BUCKET_SECONDS)
        slot = epoch % self._BUCKETS
        held = self._epochs[slot]
        sums = self._sums[slot]
        if held != epoch:
            if held is not None and held > epoch:
                return
            self._epochs[slot] = epoch
            sums[:] = amounts
            return
        for place, amount in enumerate(amounts):
            sums[place] += amount

    def totals(self, now: float) -> list[float]:
        """The sums at ``now``."""
        last = int(now // self._BUCKET_SECONDS)
        inside = [
            sums
            for epoch, sums in zip(self._epochs, self._sums, strict=True)
            if epoch is not None and last - self._BUCKETS < epoch <= last
        ]
        return [math.fsum(sums[place] for sums in inside) for place in range(self._width)]
