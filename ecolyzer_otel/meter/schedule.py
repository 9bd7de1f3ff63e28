"""When to read which sensor: never faster than it moves or than is allowed, and seldom when nobody needs it.

Pure: its clock is whatever the caller counts in.
"""

from __future__ import annotations

from typing import Final, Literal

from ecolyzer_otel.sensors import PeriodEstimator, SensorInfo

__all__ = ["FLUSH_PERIOD", "REST_PERIOD", "Pace", "Schedule"]

#: ``flush``: somebody waits for the next change of the counter; ``load``: requests are in flight or just were;
#: ``rest``: workers are there; ``alone``: none is.
Pace = Literal["flush", "load", "rest", "alone"]

#: Seconds between readings.
FLUSH_PERIOD: Final = 0.02
REST_PERIOD: Final = 1.0
_QUIET_PERIOD: Final = 10.0
_ALONE_PERIOD: Final = 60.0
#: Without work for this long, rest is quiet. A service that is starting has no workers yet, and will.
_QUIET_AFTER: Final = 60.0
#: A sensor that fails is not asked more often than this: its driver may have to be opened again each time.
_FAILED_PERIOD: Final = 1.0
#: A counter is read this many times before it can wrap at full power, for then one late reading does not hurt.
_READS_PER_WRAP: Final = 4
_WATTS_IF_UNKNOWN: Final = 250.0
#: Power has to be read well within the time over which it is integrated.
_PART_OF_GAP: Final = 0.75
#: What is due within this part of its period is read along with what is due now.
_ALONG: Final = 0.1


class Schedule:
    """The readings of one sensor.

    Args:
        info: what is known of the sensor.
        sampling_period: seconds between readings under load, as configured: the shortest that is allowed.
    """

    def __init__(self, info: SensorInfo, sampling_period: float) -> None:
        self.estimator = PeriodEstimator(info.update_period_seconds)
        self._shortest = sampling_period
        self._failed = False
        self._last = float("-inf")
        self._info = info
        self._longest = _longest(info)

    def noted(self, now: float, t_ns: int, joules: float) -> None:
        """A reading was had at ``now`` (seconds of the scheduler's clock)."""
        self._last = now
        self._failed = False
        self.estimator.add(t_ns, joules)

    def failed(self, now: float) -> None:
        """A reading failed."""
        self._last = now
        self._failed = True
        self.estimator.forget()

    def adapt(self, info: SensorInfo) -> bool:
        """What is known of the sensor now: its joules may have become integrated power. Whether that is new."""
        if info is self._info:
            return False
        self._info = info
        self._longest = _longest(info)
        return True

    def period(self, pace: Pace, quiet: float = 0.0) -> float:
        """Seconds from one reading to the next; ``quiet`` are the seconds since there was work or a new worker."""
        if pace == "flush":
            wanted = FLUSH_PERIOD
        elif pace == "load":
            # Slower than a second would keep settlements waiting, however slow a counter seems to be.
            own = 0.0 if self.estimator.learning else min(self.estimator.seconds, REST_PERIOD)
            wanted = max(self._shortest, own)
        elif quiet < _QUIET_AFTER:
            wanted = max(self._shortest, REST_PERIOD)
        else:
            wanted = max(self._shortest, _QUIET_PERIOD if pace == "rest" else _ALONE_PERIOD)
        return max(min(wanted, self._longest), _FAILED_PERIOD if self._failed else 0.0)

    def due(self, pace: Pace, quiet: float = 0.0) -> float:
        """When the next reading is due."""
        return self._last + self.period(pace, quiet)

    def is_due(self, now: float, pace: Pace, quiet: float = 0.0) -> bool:
        """Whether it is due, or so soon that it may as well be read now."""
        return now >= self.due(pace, quiet) - _ALONG * self.period(pace, quiet)


def _longest(info: SensorInfo) -> float:
    limits = [float("inf")]
    if info.wrap_joules is not None:
        limits.append(
            info.wrap_joules / (info.peak_watts or info.power_limit_watts or _WATTS_IF_UNKNOWN) / _READS_PER_WRAP
        )
    if info.longest_gap_seconds is not None:
        limits.append(info.longest_gap_seconds * _PART_OF_GAP)
    return min(limits)
