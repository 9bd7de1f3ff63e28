"""Idle power where no table has it: learned from quiet intervals, by the state of the device.

A device has two idle levels: *cold*, and *loaded* while a process that serves requests holds it (a GPU with a
context and raised clocks draws 56-137 W where a cold one draws 20-40 W). Each level is the lowest power of
intervals without any request in flight, so that other work on the host does not count as idle. A level rises only
when a long run of intervals was above it, so that a change of state that nothing reported is followed, too.
Intervals with requests do not change a level: idle power neither falls to zero nor rises with utilisation.

For a device that is never quiet, the intercept is used instead: the power that no activity explains
(:mod:`ecolyzer_otel.ledger.intensity`).
"""

from __future__ import annotations

from typing import Final, Literal

from ecolyzer_otel.ledger.intensity import IDLE, Intensity
from ecolyzer_otel.ledger.types import Interval, SensorSpec

__all__ = ["IdleLevels", "State"]

State = Literal["cold", "loaded"]

#: Shorter intervals are dominated by the counter's quantum.
_LONG_ENOUGH_NS: Final = 50_000_000
#: This many quiet intervals in a row, all above the level, raise it to the lowest of them.
_RISES_AFTER: Final = 30
#: An intercept is used once its standard deviation is below this part of it,
_USABLE: Final = 0.5
#: and preferred to quiet intervals, during which the host may have worked, once it is below this part.
_PREFERRED: Final = 0.1


class _Level:
    """The idle watts of one state."""

    __slots__ = ("_above", "_lowest", "watts")

    def __init__(self) -> None:
        self.watts: float | None = None
        self._above = 0
        self._lowest = 0.0

    def learn(self, watts: float) -> None:
        if self.watts is None or watts <= self.watts:
            self.watts = watts
            self._above = 0
            return
        self._lowest = min(self._lowest, watts) if self._above else watts
        self._above += 1
        if self._above >= _RISES_AFTER:
            self.watts = self._lowest
            self._above = 0


class IdleLevels:
    """The idle watts of one sensor: from its properties, or learned causally.

    Args:
        spec: the sensor.
        intensity: its learned intensity; the intercept is used where there was no quiet interval.
    """

    __slots__ = ("_intensity", "_levels", "_lowest", "_spec")

    def __init__(self, spec: SensorSpec, intensity: Intensity) -> None:
        self._spec = spec
        self._intensity = intensity
        self._levels: dict[State, _Level] = {"cold": _Level(), "loaded": _Level()}
        self._lowest: dict[State, float] = {"cold": float("inf"), "loaded": float("inf")}

    def watts(self, state: State) -> float:
        """Returns idle power in watts: learned, else the prior, else 0.0: then all joules are active."""
        if self._spec.idle_watts is not None:
            return self._spec.idle_watts
        intercept, deviation = self._intensity.watts_of(IDLE), self._intensity.deviation(IDLE)
        trusted = intercept is not None and self._intensity.trusted
        if intercept is not None and trusted and deviation <= _PREFERRED * intercept:
            return min(intercept, self._lowest[state])
        quiet = self._levels[state].watts
        if quiet is None:
            quiet = self._levels["cold"].watts
        if quiet is not None:
            return quiet
        if intercept is not None and trusted and deviation <= _USABLE * intercept:
            return min(intercept, self._lowest[state])
        return min(self._spec.idle_prior_watts or 0.0, self._lowest[state])

    def deviation(self, state: State) -> float:
        """Returns one standard uncertainty of the idle power in watts, without that of the sensor's gain."""
        if self._spec.idle_watts is not None or self._levels[state].watts is not None:
            return 0.0
        return min(self._intensity.deviation(IDLE), self.watts(state)) if self._intensity.trusted else 0.0

    def observe(self, interval: Interval, state: State, *, quiet: bool) -> None:
        """Add an interval, which limits idle power to its own; ``quiet`` is True for one without requests."""
        length = interval.end_ns - interval.start_ns
        if self._spec.idle_watts is not None or length < _LONG_ENOUGH_NS:
            return
        if interval.joules > 0.0 and interval.usable:
            watts = interval.joules / (length / 1e9)
            self._lowest[state] = min(self._lowest[state], watts)
            if quiet:
                self._levels[state].learn(watts)
