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

    __slots__ = ("_all", "_kinds", "_seen")

    def __init__(self) -> None:
        self._kinds: dict[Hashable, list[float]] = {}
        self._all = [0.0, 0.0]
        self._seen = 0

    def learn(self, kind: Hashable, joules: float, seconds: float) -> None:
        """A request that readings covered from begin to end."""
        mean = self._kinds.pop(kind, None)
        if mean is None:
            mean = [0.0, 0.0]
            if len(self._kinds) >= _MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]
        self._kinds[kind] = mean  # at the end: the first one is the one unused for longest
        self._seen += 1
        for one in (mean, self._all):
            one[0] = _KEEP * one[0] + joules
            one[1] = _KEEP * one[1] + seconds

    def watts(self, kind: Hashable) -> float | None:
        """Of a kind, else of all requests; None before enough were settled."""
        if self._seen < _ENOUGH:
            return None
        joules, seconds = self._kinds.get(kind, self._all)
        return joules / seconds if seconds > 0.0 else None
