"""What requests of a kind draw per second in flight: for those whose sensor told nothing."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

__all__ = ["Rates"]

_MAX_KINDS: Final = 256
#: Settled requests before their mean says anything.
_ENOUGH: Final = 10
_KEEP: Final = 0.98


class Rates:
    """Mean watts over the duration of settled requests, recent ones more than old ones."""

    __slots__ = ("_kinds", "_seen")

    def __init__(self) -> None:
        self._kinds: dict[Hashable, list[float]] = {}
        self._seen = 0

    def learn(self, kind: Hashable, joules: float, nanoseconds: float) -> None:
        """A request that readings covered from begin to end."""
        mean = self._kinds.get(kind)
        if mean is None:
            if len(self._kinds) >= _MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]  # the oldest one; it comes back when it is seen again
            mean = self._kinds[kind] = [0.0, 0.0]
        self._seen += 1
        mean[0] = _KEEP * mean[0] + joules
        mean[1] = _KEEP * mean[1] + nanoseconds

    def watts(self, kind: Hashable) -> float | None:
        """Of a kind, else of all requests; None before enough were settled."""
        if self._seen < _ENOUGH:
            return None
        known = self._kinds.get(kind)
        sums = [known] if known is not None else list(self._kinds.values())
        nanoseconds = sum([one[1] for one in sums])
        return sum([one[0] for one in sums]) / nanoseconds * 1e9 if nanoseconds > 0.0 else None
