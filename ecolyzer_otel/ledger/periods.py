"""Periods of the factors, and the period of each joule of a request.

The grid's carbon intensity changes while requests are in flight. Each interval of a sensor belongs to the period in
which it begins, so that each joule can be charged at the intensity of its own time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Final

from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.sensor_ledger import SensorLedger
from ecolyzer_otel.ledger.types import Charge

__all__ = ["Periods"]

#: Starts of periods that are kept. The oldest joules of a request that spans more count for the first of these.
_KEPT: Final = 256


class Periods:
    """The starts of the periods, and the present period of each sensor.

    Args:
        sensors: the sensors' ledgers by id.

    Attributes:
        changed: False until the first change: so far everything belongs to period 0.
    """

    def __init__(self, sensors: Mapping[str, SensorLedger]) -> None:
        self.changed = False
        self._starts: list[int] = []
        #: The number of the period before the first start that is kept.
        self._base = 0
        #: The period that the intervals of each sensor have reached.
        self._reached = dict.fromkeys(sensors, 0)

    def begin_period(self, t_ns: int) -> int:
        """Begin a period at ``t_ns``; returns its number."""
        if self._starts and t_ns <= self._starts[-1]:
            t_ns = self._starts[-1] + 1
        self._starts.append(t_ns)
        self.changed = True
        if len(self._starts) > _KEPT:
            del self._starts[0]
            self._base += 1
        return self._base + len(self._starts)

    def enter(self, sensor: SensorLedger, start_ns: int, in_flight: Iterable[Live]) -> None:
        """End the sensor's present period if its next interval, from ``start_ns`` on, belongs to a later one."""
        name = sensor.spec.id
        now = self._number(start_ns)
        reached = max(self._reached[name], self._base)
        if now <= reached:
            return
        self._reached[name] = now
        ended_ns = self._starts[reached - self._base]
        sensor.end_period([one for one in in_flight if one.start_ns < ended_ns], reached)

    def with_periods(self, charge: Charge, live: Live, account: Account) -> Charge:
        """Returns the charge with the periods of its joules."""
        last = self._number(live.seen_ns)
        earlier: list[tuple[int, float]] = []
        active = idle = 0.0
        for period, total_active, total_idle in account.period_totals:
            if period < last:
                earlier.append((period, total_active - active + total_idle - idle))
                active, idle = total_active, total_idle
        return charge._replace(period=last, earlier=tuple(earlier))

    def _number(self, t_ns: int) -> int:
        return self._base + bisect_right(self._starts, t_ns)
