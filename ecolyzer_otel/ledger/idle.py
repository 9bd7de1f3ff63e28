"""Idle power where no table knows it: the lowest mean power seen while no request was in flight."""

from __future__ import annotations

from ecolyzer_otel.ledger.types import Interval, SensorSpec

__all__ = ["IdleFloor"]

#: Shorter intervals are dominated by the counter's quantum.
_LONG_ENOUGH_NS = 50_000_000


class IdleFloor:
    """The idle watts of one sensor: given, or learned causally.

    Only intervals without any request in flight teach it, so that steady load is never taken for idle, and the
    lowest of them counts, so that other work on the host is not either.
    """

    __slots__ = ("_learned", "_spec")

    def __init__(self, spec: SensorSpec) -> None:
        self._spec = spec
        self._learned: float | None = None

    @property
    def watts(self) -> float:
        """Idle power in watts; 0.0 as long as nothing is known, when all joules count as active."""
        if self._spec.idle_watts is not None:
            return self._spec.idle_watts
        return self._learned or 0.0

    def learn(self, interval: Interval) -> None:
        """Take note of an interval during which no request was in flight."""
        length = interval.end_ns - interval.start_ns
        if length >= _LONG_ENOUGH_NS and interval.joules > 0.0:
            watts = interval.joules / (length / 1e9)
            self._learned = watts if self._learned is None else min(self._learned, watts)
