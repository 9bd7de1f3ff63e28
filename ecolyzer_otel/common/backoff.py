"""The wait between attempts, which doubles with each failure."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Backoff"]

Time = TypeVar("Time", int, float)


class Backoff(Generic[Time]):
    """A wait that doubles with each failure, in any unit of time.

    Args:
        first: the wait after the first failure.
        longest: the longest wait.
        tries_at_first: after this many failures in a row the wait begins to grow.

    Attributes:
        wait: the present wait; 0 before a failure and after a success.
    """

    __slots__ = ("_failures", "_first", "_longest", "_tries_at_first", "wait")

    def __init__(self, first: Time, longest: Time, tries_at_first: int = 1) -> None:
        self._first: Time = min(first, longest)
        self._longest: Time = longest
        self._tries_at_first = tries_at_first
        self._failures = 0
        self.wait: Time = first * 0

    def fail(self) -> Time:
        """Count a failure and return the new wait."""
        self._failures += 1
        self.wait = self._first if self._failures <= self._tries_at_first else min(self._longest, self.wait * 2)
        return self.wait

    def succeed(self) -> None:
        """Reset the wait."""
        self._failures = 0
        self.wait = self._first * 0
