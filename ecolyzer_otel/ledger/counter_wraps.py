"""From raw counter readings to intervals: wraps, resets, backward steps, spikes, repeats, absurd jumps."""

from __future__ import annotations

from ecolyzer_otel.ledger.types import Interval, SensorSpec

__all__ = ["Counter"]

#: A counter that stands still for this long closes an interval of 0 J. Until then its repeated readings belong to
#: one interval, because a counter that is updated every 100 ms and read every 20 ms repeats its value.
_STILL_NS = 1_500_000_000
#: The mean power of an interval shorter than this is not checked: a counter that is updated every 100 ms may show
#: the joules of 100 ms between two readings 1 ms apart.
_JUDGE_NS = 1_000_000_000
#: An unannounced fall is taken for a restart only if the new value could have been drawn since, at this many times
#: the power of the previous interval. Otherwise the counter stepped back, and the joules drawn are unknown.
_RESTART_FACTOR = 2.0
#: A rise at more than this many times the highest power so far is held until the next reading: a spike falls back.
_SPIKE_FACTOR = 4.0
#: A rise that stays and exceeds this power over this time is not a load: the machine was suspended meanwhile.
_JUMP_WATTS = 2_000.0
_JUMP_NS = 250_000_000
#: The highest power is used after this many intervals.
_KNOWN_INTERVALS = 8
#: The mean power covers about this time.
_MEAN_NS = 5_000_000_000

#: Unseen wraps are considered once the mean power would have passed through this part of the counter's range.
_WRAP_SOON = 0.75

_NONE: tuple[Interval, ...] = ()


class Counter:
    """The state of one sensor's counter. Every fault is counted by reason; none yields negative joules.

    A reading that fell, or that rose faster than ever before, is held. The next reading decides whether the counter
    really went there or showed a wrong value once.

    Attributes:
        spec: the sensor.
        faults: how often each fault occurred, by reason.
        mean_watts: mean power of the last seconds; 0.0 before the counter has moved.
    """

    __slots__ = (
        "_held",
        "_intervals",
        "_joules",
        "_jumped",
        "_last_ns",
        "_peak",
        "_reset",
        "_start_ns",
        "_watts",
        "faults",
        "mean_watts",
        "spec",
    )  # fmt: skip

    def __init__(self, spec: SensorSpec) -> None:
        self.spec = spec
        self.faults: dict[str, int] = {}
        self._start_ns: int | None = None
        self._last_ns = 0
        self._joules = 0.0
        self._reset = False
        self._jumped = False
        self._watts = 0.0
        self.mean_watts = 0.0
        self._peak = 0.0
        self._intervals = 0
        self._held: tuple[int, float] | None = None

    def announce(self, kind: str) -> None:
        """Count an event of this sensor. After ``reset`` and ``suspend`` the counter may restart."""
        self.count_fault(kind)
        if kind in ("reset", "suspend"):
            self._reset = True
        self._jumped = self._jumped or kind == "suspend"

    def add(self, t_ns: int, joules: float) -> tuple[Interval, ...]:
        """Add a reading and return the intervals that it completes: two if the reading before was held."""
        if not 0.0 <= joules < float("inf"):  # also refuses NaN
            self.count_fault("range")
            return _NONE
        if self._start_ns is None:
            self._start_ns, self._last_ns, self._joules, self._reset = t_ns, t_ns, joules, False
            return _NONE
        if t_ns <= self._last_ns:
            self.count_fault("time")
            return _NONE
        self._last_ns = t_ns
        if self._held is not None:
            held, self._held = self._held, None
            if self._was_spurious(held, t_ns, joules):
                self.count_fault("spike" if held[1] > self._joules else "backwards")
            else:
                self._jumped = self._jumped or self._has_jumped(held, t_ns, joules)
                before = self._complete(*held)
                return (before, *self._next(t_ns, joules))
        return self._next(t_ns, joules)

    def flush(self) -> tuple[Interval, ...]:
        """Accept a held reading as it is: no more readings follow. Returns the interval that it completes."""
        held, self._held = self._held, None
        return (self._complete(*held),) if held is not None else _NONE

    def _next(self, t_ns: int, joules: float) -> tuple[Interval, ...]:
        start = self._start_ns or 0
        if joules == self._joules and t_ns - start < _STILL_NS:
            return _NONE
        if not self._reset and self._is_suspect(t_ns - start, joules):
            self._held = t_ns, joules
            return _NONE
        return (self._complete(t_ns, joules),)

    def _is_suspect(self, length_ns: int, joules: float) -> bool:
        delta = joules - self._joules
        if delta < 0:
            return not (self.spec.wrap_joules and 0 <= delta + self.spec.wrap_joules <= self._max_joules(length_ns))
        return self._intervals >= _KNOWN_INTERVALS and delta > _SPIKE_FACTOR * self._peak * length_ns / 1e9

    def _was_spurious(self, held: tuple[int, float], t_ns: int, joules: float) -> bool:
        """Whether the held reading was a wrong value: the counter continues from the reading before it."""
        if held[1] > self._joules:
            return self._joules <= joules < held[1]
        if joules < self._joules:
            return False
        # Now above the reading before the fall. Does the mean power fit a rise from there, or from the held one?
        from_before = abs(joules - self._joules - self._watts * (t_ns - (self._start_ns or 0)) / 1e9)
        from_held = abs(joules - held[1] - self._watts * (t_ns - held[0]) / 1e9)
        return from_before < from_held

    def _has_jumped(self, held: tuple[int, float], t_ns: int, joules: float) -> bool:
        """Whether the counter rose by more than any device draws, then went on as before: the machine slept."""
        seconds = max(_JUMP_NS, held[0] - (self._start_ns or 0)) / 1e9
        rose = held[1] - self._joules > _JUMP_WATTS * seconds
        goes_on = 0.0 <= joules - held[1] <= _SPIKE_FACTOR * self._peak * (t_ns - held[0]) / 1e9
        if rose and goes_on:
            self.count_fault("jump")
        return rose and goes_on

    def _complete(self, t_ns: int, joules: float) -> Interval:
        start = self._start_ns or 0
        length = t_ns - start
        delta, usable = self._delta(length, joules)
        self._watts = delta / (length / 1e9)
        if usable and delta > 0.0 and not self._jumped:
            # Weighted by length: two readings around an update show kilowatts over a millisecond.
            weight = min(1.0, length / _MEAN_NS) if self._intervals else 1.0
            self.mean_watts += weight * (self._watts - self.mean_watts)
            self._peak = max(self._peak, self._watts)
            self._intervals += 1
        jumped, self._jumped = self._jumped, False
        self._start_ns, self._joules, self._reset = t_ns, joules, False
        return Interval(self.spec.id, start, t_ns, delta, usable and delta > 0.0 and not jumped, jumped)

    def _delta(self, length_ns: int, joules: float) -> tuple[float, bool]:
        """Joules since the previous reading, and whether these are all that were drawn."""
        delta = joules - self._joules
        max_joules = self._max_joules(length_ns)
        if delta < 0 and not self._reset and self.spec.wrap_joules:
            unwrapped = delta + self.spec.wrap_joules
            if 0 <= unwrapped <= max_joules:
                return self._add_unseen_wraps(unwrapped, length_ns, max_joules), True
        if delta < 0:
            if not self._reset:
                self.count_fault("backwards")
                if joules > _RESTART_FACTOR * self._watts * length_ns / 1e9:
                    return 0.0, False
            # It restarted: the new value was drawn since. What it had counted before the restart is unknown.
            delta = joules
            if delta > max_joules:
                self.count_fault("absurd")
                return 0.0, False
            return delta, False
        if delta > max_joules:
            self.count_fault("absurd")
            return 0.0, False
        return self._add_unseen_wraps(delta, length_ns, max_joules), True

    def _add_unseen_wraps(self, delta: float, length_ns: int, max_joules: float) -> float:
        """Add the wraps that no reading showed: as many as fit the mean power best.

        Only where the gap was long enough for one wrap at that power; never more joules than the sensor can have
        drawn.
        """
        wrap = self.spec.wrap_joules
        if not wrap or self._intervals < _KNOWN_INTERVALS or length_ns < _JUDGE_NS or self._joules > wrap:
            return delta
        expected = self.mean_watts * length_ns / 1e9
        if expected < _WRAP_SOON * wrap:
            return delta
        rounds = round((expected - delta) / wrap)
        if rounds <= 0 or delta + rounds * wrap > max_joules:
            return delta
        self.count_fault("wrapped_unseen")
        return delta + rounds * wrap

    def _max_joules(self, length_ns: int) -> float:
        return self.spec.max_watts * max(length_ns, _JUDGE_NS) / 1e9

    def count_fault(self, reason: str) -> None:
        """Count a fault by its reason."""
        self.faults[reason] = self.faults.get(reason, 0) + 1
