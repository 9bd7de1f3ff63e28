"""The ledger itself: closes intervals, keeps the accounts of requests, and settles them.

Invariants: conservation (requests + process + host + idle + pending = measured at every
instant), no time travel (only overlapped intervals are charged), division by activity within an interval, with
learned intensity as its weight, idle as a separate share, and unknown is not zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, cast

from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.activity import Activity
from ecolyzer_otel.ledger.batches import BatchCosts, batch_shares
from ecolyzer_otel.ledger.idle import State
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.periods import Periods
from ecolyzer_otel.ledger.sensor_ledger import SensorLedger
from ecolyzer_otel.ledger.split import cpu_work, gpu_work, learn_pools, uses_device
from ecolyzer_otel.ledger.types import Basis, Charge, Interval, Overall, Record, SensorSpec, Settlement

__all__ = ["Ledger", "overall"]

#: Activity older than this is dropped even if a sensor has not closed its intervals.
_KEEP_NS: Final = 60_000_000_000


class Ledger:
    """Joules in, settlements out.

    Add samples, activity and records as they arrive. :meth:`advance` closes the intervals that are complete and
    returns the settlements that are due.

    Attributes:
        sensors: the ledger of each sensor by its id.
        activity: busy time of host, processes and devices; the caller adds its samples there.
        meters: how many meters measure the same hardware, each without the requests of the others; at least 1.
        closed_ns: the latest time up to which the intervals of any sensor are closed; None before the first.
    """

    def __init__(self, sensors: Iterable[SensorSpec]) -> None:
        self.sensors: dict[str, SensorLedger] = {spec.id: SensorLedger(spec) for spec in sensors}
        self.activity = Activity()
        self.meters = 1
        self._live: dict[Hashable, Live] = {}
        self.closed_ns: int | None = None
        self._periods = Periods(self.sensors)
        self._batches = BatchCosts()
        self._used: set[str] = set()
        #: The use of native threads is learned from the intervals of this sensor only, so that time counts once.
        self._first_cpu = next((name for name, one in self.sensors.items() if one.spec.component != "gpu"), None)

    def __len__(self) -> int:
        """The number of requests that are not settled."""
        return len(self._live)

    def sample(self, sensor: str, t_ns: int, joules: float) -> None:
        """Add a reading of a sensor's cumulative counter, in joules."""
        own = self.sensors[sensor]
        own.waiting.extend(own.counter.add(t_ns, joules))

    def announce(self, sensor: str, kind: str) -> None:
        """Report an event of a sensor: ``reset``, ``lost`` or ``suspend``."""
        self.sensors[sensor].counter.announce(kind)

    def revise(self, spec: SensorSpec) -> None:
        """Replace the properties of a sensor: its uncertainty or a limit has changed."""
        sensor = self.sensors[spec.id]
        sensor.spec = sensor.counter.spec = spec

    def begin_period(self, t_ns: int) -> int:
        """Begin a period: from ``t_ns`` on other factors apply. Charges state the period of their joules.

        Args:
            t_ns: later than the period before. Intervals that are closed already keep their period.

        Returns:
            The number of the period that begins.
        """
        return self._periods.begin_period(t_ns)

    def flush(self) -> None:
        """Accept readings that are held until the next one: no more readings follow."""
        for sensor in self.sensors.values():
            sensor.waiting.extend(sensor.counter.flush())

    def record(self, record: Record) -> bool:
        """Add a record, open or closed. Returns False if it is late: an interval that it overlaps is closed."""
        live = self._live.get(record.id)
        if live is not None:
            live.update(record)
            return True
        if self.closed_ns is not None and record.start_ns < self.closed_ns:
            return False
        self._live[record.id] = Live(record)
        self.activity.owners.add(record.pid)
        if record.device_busy:
            self.activity.declared.update(record.device_busy)
        return True

    def abandon(self, request: Hashable) -> None:
        """Drop a request whose worker died: its joules so far become process share."""
        live = self._live.pop(request, None)
        if live is not None:
            for name, account in live.accounts.items():
                sensor = self.sensors[name]
                sensor.shares.process += sensor.release(account)
            self._clear_pending()

    def advance(self, through_ns: int, overdue_ns: int | None = None) -> list[Settlement]:
        """Close every interval that ends by ``through_ns`` and settle the requests that are complete then.

        Requests that ended by ``overdue_ns`` are settled although the readings of a sensor have not reached their
        end (it is lost, or stands still).
        """
        for sensor in self.sensors.values():
            if sensor.waiting and sensor.waiting[0].end_ns <= through_ns:
                for interval, live in self._closing(sensor, through_ns):
                    self._close(sensor, interval, live)
        closed = horizon = min([sensor.closed_ns or 0 for sensor in self.sensors.values()], default=through_ns)
        if overdue_ns is not None:
            horizon = max(horizon, overdue_ns)
        due = [live for live in self._live.values() if live.due_ns is not None and live.due_ns <= horizon]
        # A lost sensor closes no more intervals; the curves must not grow without bound.
        self._forget_before(max(closed, through_ns - _KEEP_NS))
        for one in due:
            del self._live[one.record.id]
        settlements = [self._settle(one) for one in due]
        self._clear_pending()
        return settlements

    def _forget_before(self, t_ns: int) -> None:
        self.activity.forget_before(t_ns)
        for live in self._live.values():
            live.forget_before(t_ns)

    # Closing.

    def _closing(self, sensor: SensorLedger, through_ns: int) -> Iterator[tuple[Interval, list[Live]]]:
        """The intervals to close, each with the requests that overlap it.

        Adjacent intervals are merged if no request begins or ends between them: the division is the same.
        """
        coming = [one for one in self._live.values() if one.start_ns < through_ns and one.seen_ns > one.start_ns]
        coming.sort(key=_start_of)
        several = len(sensor.waiting) > 1 and sensor.waiting[1].end_ns <= through_ns
        edges = sorted([edge for one in coming for edge in (one.start_ns, one.seen_ns)]) if several else ()
        present: list[Live] = []
        next_one, number = 0, len(coming)
        for interval in _merged(sensor.waiting, through_ns, edges):
            start, end = interval.start_ns, interval.end_ns
            if present:
                present = [one for one in present if one.seen_ns > start]
            while next_one < number and coming[next_one].start_ns < end:
                if coming[next_one].seen_ns > start:
                    present.append(coming[next_one])
                next_one += 1
            yield interval, present

    def _close(self, sensor: SensorLedger, interval: Interval, live: Sequence[Live]) -> None:
        start, end, name = interval.start_ns, interval.end_ns, sensor.spec.id
        if self._periods.changed:
            self._periods.enter(sensor, start, self._live.values())
        state: State = "loaded" if self.activity.owners else "cold"
        if sensor.spec.component == "gpu":
            live = uses_device(live, self.activity, name)
            if live:
                self._used.add(name)
            if name not in self._used:
                state = "cold"
            work = gpu_work(live, self.activity, name, start, end, self.meters)
        else:
            if name == self._first_cpu:
                learn_pools(live, self.activity, start, end)
            if self.activity.has_placements:
                live = [one for one in live if self.activity.may_run_on(one.record.pid, name, start, end)]
            work = cpu_work(live, self.activity, name, start, end, self.meters)
        sensor.charge(interval, live, work, self.meters, state)
        self.closed_ns = end if self.closed_ns is None else max(self.closed_ns, end)

    # Settling.

    def _clear_pending(self) -> None:
        if not self._live:
            for sensor in self.sensors.values():
                sensor.shares.pending = 0.0  # what is left is rounding

    def _settle(self, live: Live) -> Settlement:
        charges: list[Charge] = []
        active = idle = variance = 0.0
        learned = False
        accounts = live.accounts
        for name, sensor in self.sensors.items():
            account = accounts.get(name)
            if account is None:
                if not self._may_draw(live, sensor):
                    continue
                account = Account()
            charge, own_variance = sensor.settle(live, account)
            if charge is not None:
                if self._periods.changed:
                    charge = self._periods.with_periods(charge, live, account)
                charges.append(charge)
                active += charge.active
                idle += charge.idle
                variance += own_variance
                learned = learned or account.activity > 0.0
        basis: Basis = "learned" if learned else "activity"
        record = live.record
        if record.kind is not None and charges:
            self._batches.learn(record.kind[:2], max(record.items, len(record.members)), active)
        members = self._members(record, active, idle) if record.members else ()
        return Settlement(record.id, active, idle, variance**0.5, overall(charges), charges, basis, members)

    def _members(self, record: Record, active: float, idle: float) -> list[tuple[Hashable, float, float]]:
        """Divide the joules of a batched call among the requests that it served; idle joules equally."""
        weights = [max(0.0, weight) for _, weight in record.members]
        family = record.kind and record.kind[:2]
        fixed = self._batches.fixed(family, max(record.items, len(weights)))
        shares = batch_shares(active, fixed, weights)
        part = idle / len(weights)
        return [(name, share, part) for (name, _), share in zip(record.members, shares, strict=True)]

    def _may_draw(self, live: Live, sensor: SensorLedger) -> bool:
        """Whether a request that no interval of a sensor overlaps can have drawn joules there."""
        if live.end_ns == live.start_ns:
            return False
        if sensor.spec.component != "gpu":
            return self.activity.may_run_on(live.record.pid, sensor.spec.id, live.start_ns, live.seen_ns)
        return bool(uses_device([live], self.activity, sensor.spec.id))


_start_of = attrgetter("start_ns")


def _merged(waiting: deque[Interval], through_ns: int, edges: Sequence[int]) -> Iterator[Interval]:
    """Take the waiting intervals that end by ``through_ns``; adjacent ones without an edge inside are merged."""
    edge = 0
    merged: Interval | None = None
    while waiting and waiting[0].end_ns <= through_ns:
        interval = waiting.popleft()
        if merged is not None:
            while edge < len(edges) and edges[edge] <= merged.start_ns:
                edge += 1
            alike = merged.usable and interval.usable and merged.end_ns == interval.start_ns
            if alike and (edge == len(edges) or edges[edge] >= interval.end_ns):
                joules = merged.joules + interval.joules
                merged = Interval(merged.sensor, merged.start_ns, interval.end_ns, joules)
                continue
            yield merged
        merged = interval
    if merged is not None:
        yield merged


def overall(charges: Sequence[Charge]) -> Overall:
    """Returns the method of several charges together."""
    if len(charges) == 1:
        return cast("Overall", charges[0].method)
    methods = {charge.method for charge in charges}
    if not methods:
        return "unsettled"
    return cast("Overall", methods.pop()) if len(methods) == 1 else "mixed"
