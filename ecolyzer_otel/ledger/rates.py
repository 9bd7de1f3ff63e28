"""Mean watts in flight by kind of request: the model for requests that no reading covers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

__all__ = ["Rates"]

_MAX_KINDS: Final = 256
#: Settled requests before a mean is used.
_ENOUGH: Final = 10
_KEEP: Final = 0.98


class Rates:
    """Mean watts over the duration of settled requests, where recent requests weigh more."""

    __slots__ = ("_kinds", "_settled")

    def __init__(self) -> None:
        self._kinds: dict[Hashable, list[float]] = {}
        self._settled = 0

    def learn(self, kind: Hashable, joules: float, nanoseconds: float) -> None:
        """Add a settled request that readings covered from begin to end."""
        mean = self._kinds.get(kind)
        if mean is None:
            if len(self._kinds) >= _MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]  # the oldest one; it is added again with its next request
            mean = self._kinds[kind] = [0.0, 0.0]
        self._settled += 1
        mean[0] = _KEEP * mean[0] + joules
        mean[1] = _KEEP * mean[1] + nanoseconds

    def watts(self, kind: Hashable) -> float | None:
        """Returns the mean watts of a kind, or of all requests for a new kind; None before enough were settled."""
        if self._settled < _ENOUGH:
            return None
        own = self._kinds.get(kind)
        sums = [own] if own is not None else list(self._kinds.values())
        nanoseconds = sum([one[1] for one in sums])
        return sum([one[0] for one in sums]) / nanoseconds * 1e9 if nanoseconds > 0.0 else None
