"""CPU time of brief calls, without reading their thread's clock each time."""

from __future__ import annotations

from typing import Final

__all__ = ["BRIEF_NS", "Pace", "learn", "paces"]

#: Calls shorter than this, in nanoseconds, need not read the clock each time.
BRIEF_NS: Final = 500_000
#: In a call shorter than this, reading the clocks is a large part of the time that they show.
_TINY_NS: Final = 20_000
#: Parts of the CPU within this of each other are alike; so many alike calls are enough to skip so many.
_ALIKE: Final = 0.1
_ENOUGH: Final = 4
_SKIPPED: Final = 7
_MAX_PACES: Final = 4096


class Pace:
    """How brief calls of one thread use the CPU, so that not each has to read the thread's clock.

    Reading that clock is a system call, and two of them are a third of the cost of measuring a call. After some
    brief calls in a row that used the CPU for the same part of their time, only one call in eight reads it; the
    others are taken to have used the CPU for that part of theirs. A call that turns out not to be brief reads the
    clock at its end; it gets at most what the thread used since the last reading.

    Attributes:
        skips: the number of next calls that do not read the clock.
        alike: calls in a row that were brief and alike.
        cpu_ns: the thread's clock as last read, plus the CPU time estimated since.
        part: the part of a brief call's time for which it uses the CPU, 0 to 1.
    """

    __slots__ = ("alike", "cpu_ns", "part", "skips")

    def __init__(self) -> None:
        self.skips = self.alike = self.cpu_ns = 0
        self.part = 1.0

    def learn(self, clock_ns: int, spent_ns: int, wall_ns: int) -> None:
        """A call has read the clock at its end: ``spent_ns`` of CPU time in ``wall_ns``."""
        part = min(1.0, spent_ns / wall_ns) if wall_ns > _TINY_NS else 1.0
        if wall_ns < BRIEF_NS and abs(part - self.part) < _ALIKE:
            self.alike += 1
            self.part += 0.25 * (part - self.part)
            if self.alike >= _ENOUGH:
                self.skips = _SKIPPED
        else:
            self.alike = self.skips = 0
            self.part = part
        self.cpu_ns = clock_ns

    def end_long_call(self, clock_ns: int, wall_ns: int) -> int:
        """Returns the CPU time of a call that did not read the clock at its begin, and was not brief."""
        known_ns = self.cpu_ns
        # A clock that went back belongs to another thread, with the identifier of one that has ended.
        spent_ns = clock_ns - known_ns if clock_ns >= known_ns else clock_ns
        self.skips = self.alike = 0
        self.cpu_ns = clock_ns
        return min(wall_ns, spent_ns)


#: By thread.
paces: Final[dict[int, Pace]] = {}


def learn(thread: int, clock_ns: int, spent_ns: int, wall_ns: int) -> None:
    """A plain call of ``thread`` has read the clock at its begin and at its end (``clock_ns``)."""
    pace = paces.get(thread)
    if pace is None:
        if wall_ns >= BRIEF_NS:
            return
        if len(paces) >= _MAX_PACES:
            paces.clear()  # a service that keeps starting threads
        pace = paces[thread] = Pace()
        pace.part = min(1.0, spent_ns / wall_ns) if wall_ns > _TINY_NS else 1.0
    pace.learn(clock_ns, spent_ns, wall_ns)
