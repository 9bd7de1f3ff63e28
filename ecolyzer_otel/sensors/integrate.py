"""Joules from integrated power, and the check of an energy counter against it.

Energy counters may be wrong: NVML's has shown 187 J where power gave 327 J (zeus issue 181), AMD's has stood still
on MI100 (ROCm/amdsmi issue 38). A counter is therefore compared with the integral of the power that the same device
reports, before it is trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from ecolyzer_otel.sensors.base import SensorInfo

__all__ = ["LONGEST_GAP_SECONDS", "CheckedEnergy", "PowerIntegral"]

#: Of a longer time between two reads only this much is integrated; the joules of the rest are unknown.
LONGEST_GAP_SECONDS: Final = 12.0
_LONGEST_GAP_NS: Final = 12_000_000_000
#: Uncertainty added by integrating a sampled power that lags behind (0.1 s windows, up to 1 s of averaging).
_INTEGRATION: Final = 0.10

#: Least length and energy of a window of the comparison: many update periods, and enough joules for a result.
_WINDOW_NS: Final = 5_000_000_000
_WINDOW_JOULES: Final = 50.0
#: Between reads further apart than this, power is too uncertain for a comparison.
_COMPARE_GAP_NS: Final = 2_000_000_000
#: The counter may differ from the integral by this part of it.
_TOLERANCE: Final = 0.3
#: A counter is rejected after this many bad windows in a row. Power is a mean over up to a second and lags behind:
#: a load that starts within a window causes one bad window, not two. A counter that stands still is rejected at
#: once.
_BAD_WINDOWS: Final = 2


class PowerIntegral:
    """The integral of power over time by the trapezoidal rule: each step adds (P0 + P1) / 2 * dt.

    Of a step longer than :data:`LONGEST_GAP_SECONDS` only this much is integrated, at its mean power.

    Attributes:
        joules: the integral so far.
        gaps: number of such steps.
    """

    def __init__(self) -> None:
        self.joules = 0.0
        self.gaps = 0
        self._last: tuple[int, float] | None = None

    def add(self, t_ns: int, watts: float) -> float:
        """Add the power in watts at a time. Returns the joules so far, which never fall."""
        watts = max(0.0, watts)
        if self._last is not None:
            then, watts_then = self._last
            if t_ns <= then:
                return self.joules
            if t_ns - then > _LONGEST_GAP_NS:
                self.gaps += 1
            self.joules += (watts + watts_then) / 2.0 * min(t_ns - then, _LONGEST_GAP_NS) / 1e9
        self._last = t_ns, watts
        return self.joules


Verdict = Literal["open", "good", "counter_stuck", "counter_implausible"]


class CheckedEnergy:
    """Cumulative energy from a counter, which integrated power replaces and continues if the counter is wrong.

    Bounds: over windows of at least 5 s and 50 J of integrated power, the counter must grow by 70 to 130 % of it.
    It is rejected after one window without any growth, or after two in a row out of bounds. One window within the
    bounds ends the comparison.
    """

    def __init__(self) -> None:
        self._integral = PowerIntegral()
        self._verdict: Verdict = "open"
        self._integrating = False
        self._base = 0.0
        self._last: float | None = None
        self._window: tuple[int, float, float] | None = None
        self._seen_ns = 0
        self._bad = 0
        self._faults: dict[str, int] = {}

    @property
    def wants_counter(self) -> bool:
        """Whether the counter has to be read."""
        return not self._integrating and self._verdict in ("open", "good")

    @property
    def wants_power(self) -> bool:
        """Whether power has to be read: to check the counter, or to replace it."""
        return self._integrating or self._verdict != "good"

    def revised(self, info: SensorInfo) -> SensorInfo:
        """Returns a sensor's properties, with a larger uncertainty once its joules come from integrated power."""
        if not self._integrating or info.longest_gap_seconds is not None:
            return info
        return replace(
            info,
            longest_gap_seconds=LONGEST_GAP_SECONDS,
            relative_uncertainty=math.hypot(info.relative_uncertainty, _INTEGRATION),
        )

    def faults(self) -> Mapping[str, int]:
        """Returns the faults found, by reason: ``counter_stuck``, ``counter_implausible``, ``gap``."""
        gaps = {"gap": self._integral.gaps} if self._integrating and self._integral.gaps else {}
        return {**self._faults, **gaps}

    def add(self, t_ns: int, counter: float | None, watts: float | None) -> float | None:
        """Add a reading of both. Returns the cumulative joules, None if neither is available.

        Args:
            t_ns: time of the reading.
            counter: the counter in joules, None if there is none.
            watts: power, None if it is not available.
        """
        before = self._integral.joules
        if watts is not None:
            self._integral.add(t_ns, watts)
        if self._verdict == "open" and counter is not None and watts is not None:
            self._compare(t_ns, counter)
        if counter is not None and self.wants_counter:
            self._last = counter
            return counter
        if watts is None:
            return None
        if not self._integrating:  # from here on by power, continuing from the last value without a jump
            self._integrating = True
            self._base = (self._last or 0.0) - before
        self._last = self._base + self._integral.joules
        return self._last

    def recheck(self) -> None:
        """Compare the counter again, because the device was opened again."""
        if self._verdict == "good":
            self._verdict = "open"
        self._window = None
        self._bad = 0

    def _compare(self, t_ns: int, counter: float) -> None:
        window = self._window
        if window is None or counter < window[1] or t_ns - self._seen_ns > _COMPARE_GAP_NS:
            self._window = t_ns, counter, self._integral.joules
            self._seen_ns = t_ns
            return
        self._seen_ns = t_ns
        start_ns, counter_then, joules_then = window
        drawn, grown = self._integral.joules - joules_then, counter - counter_then
        if t_ns - start_ns < _WINDOW_NS or drawn < _WINDOW_JOULES:
            return
        self._window = t_ns, counter, self._integral.joules
        if abs(grown - drawn) <= _TOLERANCE * drawn:
            self._verdict = "good"
            return
        self._bad += 1
        if grown == 0.0 or self._bad >= _BAD_WINDOWS:
            self._verdict = "counter_stuck" if grown == 0.0 else "counter_implausible"
            self._faults[self._verdict] = 1
