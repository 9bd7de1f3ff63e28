"""When a sensor is read: never faster than its counter moves or than is configured, and seldom without requests.

Pure: the caller passes the time.
"""

from __future__ import annotations

from typing import Final, Literal

from ecolyzer_otel.sensors import PeriodEstimator, SensorInfo

__all__ = ["FLUSH_PERIOD", "REST_PERIOD", "Schedule", "Urgency"]

#: ``flush``: a worker waits for the next change of the counter; ``load``: requests are in flight or just were;
#: ``rest``: workers are connected; ``unused``: none is.
Urgency = Literal["flush", "load", "rest", "unused"]

#: Seconds between readings.
FLUSH_PERIOD: Final = 0.02
REST_PERIOD: Final = 1.0
_QUIET_PERIOD: Final = 10.0
_UNUSED_PERIOD: Final = 60.0
#: Without work for this long, sensors are read less often. A service that is starting has no workers yet.
_QUIET_AFTER: Final = 60.0
#: A sensor that fails is not read more often than this: its driver may have to be opened again each time.
_FAILED_PERIOD: Final = 1.0
#: A counter is read this many times before it can wrap at full power, so that one late reading does no harm.
_READS_PER_WRAP: Final = 4
_WATTS_IF_UNKNOWN: Final = 250.0
#: Power is read at this part of the longest gap over which it is integrated.
_PART_OF_GAP: Final = 0.75
#: A sensor that is due within this part of its period is read together with those that are due now.
_TOGETHER: Final = 0.1


class Schedule:
    """The readings of one sensor.

    Args:
        info: the sensor.
        sampling_period: seconds between readings under load, as configured; no period is shorter, except to flush.
    """

    def __init__(self, info: SensorInfo, sampling_period: float) -> None:
        self.estimator = PeriodEstimator(info.update_period_seconds)
        self._shortest = sampling_period
        self._failed = False
        self._last = float("-inf")
        self._info = info
        self._longest = _longest(info)

    def succeeded(self, now: float, t_ns: int, joules: float) -> None:
        """Note a reading, taken at ``now`` (seconds of the caller's clock)."""
        self._last = now
        self._failed = False
        self.estimator.add(t_ns, joules)

    def failed(self, now: float) -> None:
        """Note a failed reading."""
        self._last = now
        self._failed = True
        self.estimator.forget()

    def adapt(self, info: SensorInfo) -> bool:
        """Use the present properties of the sensor: its joules may have become integrated power.

        Returns whether they have changed.
        """
        if info is self._info:
            return False
        self._info = info
        self._longest = _longest(info)
        return True

    def period(self, urgency: Urgency, quiet_seconds: float = 0.0) -> float:
        """Returns the seconds from one reading to the next.

        Args:
            urgency: how urgent readings are.
            quiet_seconds: seconds since the last work or new worker.
        """
        if urgency == "flush":
            wanted = FLUSH_PERIOD
        elif urgency == "load":
            # At least once a second, however slow a counter seems to be: settlements wait for it.
            own = 0.0 if self.estimator.learning else min(self.estimator.seconds, REST_PERIOD)
            wanted = max(self._shortest, own)
        elif quiet_seconds < _QUIET_AFTER:
            wanted = max(self._shortest, REST_PERIOD)
        else:
            wanted = max(self._shortest, _QUIET_PERIOD if urgency == "rest" else _UNUSED_PERIOD)
        return max(min(wanted, self._longest), _FAILED_PERIOD if self._failed else 0.0)

    def due(self, urgency: Urgency, quiet_seconds: float = 0.0) -> float:
        """Returns when the next reading is due."""
        return self._last + self.period(urgency, quiet_seconds)

    def is_due(self, now: float, urgency: Urgency, quiet_seconds: float = 0.0) -> bool:
        """Returns whether a reading is due, or so soon due that it is taken now."""
        early = _TOGETHER * self.period(urgency, quiet_seconds)
        return now >= self.due(urgency, quiet_seconds) - early


def _longest(info: SensorInfo) -> float:
    limits = [float("inf")]
    if info.wrap_joules is not None:
        limits.append(
            info.wrap_joules / (info.peak_watts or info.power_limit_watts or _WATTS_IF_UNKNOWN) / _READS_PER_WRAP
        )
    if info.longest_gap_seconds is not None:
        limits.append(info.longest_gap_seconds * _PART_OF_GAP)
    return min(limits)
