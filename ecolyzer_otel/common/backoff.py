"""The wait between attempts, which doubles with each failure."""

from __future__ import annotations

__all__ = ["Backoff"]


class Backoff:
    """A wait that doubles with each failure, in any unit of time.

    Args:
        first: the wait after the first failure.
        longest: the longest wait.

    Attributes:
        wait: the present wait; 0 before a failure and after a success.
    """

    __slots__ = ("_first", "_longest", "wait")

    def __init__(self, first: int, longest: int) -> None:
        self._first = first
        self._longest = longest
        self.wait = 0

    def fail(self) -> int:
        """Count a failure and return the new wait."""
        self.wait = min(self._longest, self.wait * 2 or self._first)
        return self.wait

    def succeed(self) -> None:
        """Reset the wait."""
        self.wait = 0
