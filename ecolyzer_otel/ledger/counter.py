"""From raw counter readings to intervals: wrap, reset, backward steps, repeats, absurd jumps."""

from __future__ import annotations

from ecolyzer_otel.ledger.types import Interval, SensorSpec

__all__ = ["STILL_NS", "Counter"]

#: A counter that does not move for this long is taken at its word: nothing was drawn. Until then its
#: repeated readings are one interval, because a counter updated every 100 ms and read every 20 ms repeats.
STILL_NS = 1_500_000_000
#: Below this length an interval's energy is not judged by its mean power: a counter that is updated every
#: 100 ms may show 100 ms worth of joules between two readings 1 ms apart.
_JUDGE_NS = 1_000_000_000
#: An unannounced fall is taken for a restart only where what the counter shows now could have been drawn since, at
#: this many times the power of the interval before. Else it stepped back, and nothing is known to have been drawn.
_RESTART_FACTOR = 2.0


class Counter:
    """The state of one sensor's counter. Every fault is counted by reason, none yields a negative joule."""

    __slots__ = ("_joules", "_last_ns", "_reset", "_start_ns", "_watts", "faults", "spec")

    def __init__(self, spec: SensorSpec) -> None:
        self.spec = spec
        self.faults: dict[str, int] = {}
        self._start_ns: int | None = None
        self._last_ns = 0
        self._joules = 0.0
        self._reset = False
        self._watts = 0.0

    def announce(self, kind: str) -> None:
        """Take note of an event of this sensor: after ``reset`` and ``suspend`` the counter may restart."""
        self._fault(kind)
        if kind in ("reset", "suspend"):
            self._reset = True

    def add(self, t_ns: int, joules: float) -> Interval | None:
        """A reading; the interval that it completes, if any."""
        if not 0.0 <= joules < float("inf"):  # also refuses NaN
            self._fault("range")
            return None
        if self._start_ns is None:
            self._start_ns, self._last_ns, self._joules, self._reset = t_ns, t_ns, joules, False
            return None
        if t_ns <= self._last_ns:
            self._fault("time")
            return None
        self._last_ns = t_ns
        if joules == self._joules and t_ns - self._start_ns < STILL_NS:
            return None
        length = t_ns - self._start_ns
        delta = self._delta(length, joules)
        interval = Interval(self.spec.id, self._start_ns, t_ns, delta)
        self._watts = delta / (length / 1e9)
        self._start_ns, self._joules, self._reset = t_ns, joules, False
        return interval

    def _delta(self, length_ns: int, joules: float) -> float:
        delta = joules - self._joules
        most = self.spec.max_watts * max(length_ns, _JUDGE_NS) / 1e9
        if delta < 0 and not self._reset and self.spec.wrap_joules:
            unwrapped = delta + self.spec.wrap_joules
            if 0 <= unwrapped <= most:
                return unwrapped
        if delta < 0:
            if not self._reset:
                self._fault("backwards")
                if joules > _RESTART_FACTOR * self._watts * length_ns / 1e9:
                    return 0.0
            # It restarted: what it shows now was drawn since. What it had counted before is not known.
            delta = joules
        if delta > most:
            self._fault("absurd")
            return 0.0
        return delta

    def _fault(self, reason: str) -> None:
        self.faults[reason] = self.faults.get(reason, 0) + 1
