"""From raw counter readings to intervals: wrap, reset, backward steps, spikes, repeats, absurd jumps."""

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
#: A rise of this many times the highest power so far waits for the next reading: a spike falls back.
_SPIKE_FACTOR = 4.0
#: One that stays and is more than this power over this time is no load: the counter ran on while nobody looked.
_JUMP_WATTS = 2_000.0
_JUMP_NS = 250_000_000
#: That many intervals tell what the highest power is.
_KNOWN_INTERVALS = 8
#: The mean power is that of about this long.
_MEAN_NS = 5_000_000_000

#: Unseen rounds are thought of once the mean power would have gone through this part of one.
_WRAP_SOON = 0.75

_NONE: tuple[Interval, ...] = ()


class Counter:
    """The state of one sensor's counter. Every fault is counted by reason, none yields a negative joule.

    A reading that fell, or rose beyond anything seen, is held until the next one tells whether the counter really
    went there or only showed a wrong value once.
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
        """Take note of an event of this sensor: after ``reset`` and ``suspend`` the counter may restart."""
        self._fault(kind)
        if kind in ("reset", "suspend"):
            self._reset = True
        self._jumped = self._jumped or kind == "suspend"

    def add(self, t_ns: int, joules: float) -> tuple[Interval, ...]:
        """A reading; the intervals that it completes: none, one, or two where the one before had been held."""
        if not 0.0 <= joules < float("inf"):  # also refuses NaN
            self._fault("range")
            return _NONE
        if self._start_ns is None:
            self._start_ns, self._last_ns, self._joules, self._reset = t_ns, t_ns, joules, False
            return _NONE
        if t_ns <= self._last_ns:
            self._fault("time")
            return _NONE
        self._last_ns = t_ns
        if self._held is not None:
            held, self._held = self._held, None
            if self._was_wrong(held, t_ns, joules):
                self._fault("spike" if held[1] > self._joules else "backwards")
            else:
                self._jumped = self._jumped or self._has_jumped(held, t_ns, joules)
                before = self._complete(*held)
                return (before, *self._next(t_ns, joules))
        return self._next(t_ns, joules)

    def flush(self) -> tuple[Interval, ...]:
        """Nothing more will come: a reading that was held is taken as it is."""
        held, self._held = self._held, None
        return (self._complete(*held),) if held is not None else _NONE

    def _next(self, t_ns: int, joules: float) -> tuple[Interval, ...]:
        start = self._start_ns or 0
        if joules == self._joules and t_ns - start < STILL_NS:
            return _NONE
        if not self._reset and self._is_odd(t_ns - start, joules):
            self._held = t_ns, joules
            return _NONE
        return (self._complete(t_ns, joules),)

    def _is_odd(self, length_ns: int, joules: float) -> bool:
        delta = joules - self._joules
        if delta < 0:
            return not (self.spec.wrap_joules and 0 <= delta + self.spec.wrap_joules <= self._most(length_ns))
        return self._intervals >= _KNOWN_INTERVALS and delta > _SPIKE_FACTOR * self._peak * length_ns / 1e9

    def _was_wrong(self, held: tuple[int, float], t_ns: int, joules: float) -> bool:
        """Whether the held reading was a wrong value: the counter goes on from the one before it."""
        if held[1] > self._joules:
            return self._joules <= joules < held[1]
        if joules < self._joules:
            return False
        # It went on above where it was: from there, or did it draw that much since it fell?
        from_before = abs(joules - self._joules - self._watts * (t_ns - (self._start_ns or 0)) / 1e9)
        from_held = abs(joules - held[1] - self._watts * (t_ns - held[0]) / 1e9)
        return from_before < from_held

    def _has_jumped(self, held: tuple[int, float], t_ns: int, joules: float) -> bool:
        """Whether the counter rose by more than any device draws and went on as before: no load, but a sleep."""
        seconds = max(_JUMP_NS, held[0] - (self._start_ns or 0)) / 1e9
        rose = held[1] - self._joules > _JUMP_WATTS * seconds
        goes_on = 0.0 <= joules - held[1] <= _SPIKE_FACTOR * self._peak * (t_ns - held[0]) / 1e9
        if rose and goes_on:
            self._fault("jump")
        return rose and goes_on

    def _complete(self, t_ns: int, joules: float) -> Interval:
        start = self._start_ns or 0
        length = t_ns - start
        delta, usable = self._delta(length, joules)
        self._watts = delta / (length / 1e9)
        if usable and delta > 0.0 and not self._jumped:
            # By time: a counter read just before and after it moved shows kilowatts over a millisecond.
            weight = min(1.0, length / _MEAN_NS) if self._intervals else 1.0
            self.mean_watts += weight * (self._watts - self.mean_watts)
            self._peak = max(self._peak, self._watts)
            self._intervals += 1
        jumped, self._jumped = self._jumped, False
        self._start_ns, self._joules, self._reset = t_ns, joules, False
        return Interval(self.spec.id, start, t_ns, delta, usable and delta > 0.0 and not jumped, jumped)

    def _delta(self, length_ns: int, joules: float) -> tuple[float, bool]:
        """Joules since the reading before, and whether these are all that were drawn."""
        delta = joules - self._joules
        most = self._most(length_ns)
        if delta < 0 and not self._reset and self.spec.wrap_joules:
            unwrapped = delta + self.spec.wrap_joules
            if 0 <= unwrapped <= most:
                return self._more_wraps(unwrapped, length_ns, most), True
        if delta < 0:
            if not self._reset:
                self._fault("backwards")
                if joules > _RESTART_FACTOR * self._watts * length_ns / 1e9:
                    return 0.0, False
            # It restarted: what it shows now was drawn since. What it had counted before is not known.
            delta = joules
            if delta > most:
                self._fault("absurd")
                return 0.0, False
            return delta, False
        if delta > most:
            self._fault("absurd")
            return 0.0, False
        return self._more_wraps(delta, length_ns, most), True

    def _more_wraps(self, delta: float, length_ns: int, most: float) -> float:
        """Whole rounds that a wrapping counter may have made unseen: as many as fit its mean power best.

        Only where the gap was long enough for one at that power; never more than the sensor can have drawn.
        """
        wrap = self.spec.wrap_joules
        if not wrap or self._intervals < _KNOWN_INTERVALS or length_ns < _JUDGE_NS or self._joules > wrap:
            return delta
        expected = self.mean_watts * length_ns / 1e9
        if expected < _WRAP_SOON * wrap:
            return delta
        rounds = round((expected - delta) / wrap)
        if rounds <= 0 or delta + rounds * wrap > most:
            return delta
        self._fault("wrapped_unseen")
        return delta + rounds * wrap

    def _most(self, length_ns: int) -> float:
        return self.spec.max_watts * max(length_ns, _JUDGE_NS) / 1e9

    def note(self, fault: str) -> None:
        """Count a fault that shows elsewhere."""
        self._fault(fault)

    def _fault(self, reason: str) -> None:
        self.faults[reason] = self.faults.get(reason, 0) + 1
