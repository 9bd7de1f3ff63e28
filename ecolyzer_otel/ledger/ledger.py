"""The ledger itself: closes intervals, keeps every request's account, settles.

Rules of the design that hold here: conservation (requests + process + host + idle + pending = measured at every
instant), no time travel (only overlapped intervals are charged), activity within an interval, learned intensity as
its weight, idle as a share of its own, unknown is not zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, cast

from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.activity import ActivityBook
from ecolyzer_otel.ledger.batches import BatchCosts, batch_shares
from ecolyzer_otel.ledger.book import SensorBook
from ecolyzer_otel.ledger.idle import State
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.periods import Periods
from ecolyzer_otel.ledger.split import cpu_work, gpu_work, learn_pools, uses_device
from ecolyzer_otel.ledger.types import Basis, Charge, Interval, Overall, Record, SensorSpec, Settlement

__all__ = ["Ledger", "overall"]

#: Activity older than this is dropped even if a sensor has not closed its intervals.
_KEEP_NS: Final = 60_000_000_000


class Ledger:
    """Joules in, settlements out.

    Feed samples, activity and records as they come; :meth:`advance` closes the intervals that nothing can change
    any more and returns the settlements that became due.
    """

    def __init__(self, sensors: Iterable[SensorSpec]) -> None:
        self.books: dict[str, SensorBook] = {spec.id: SensorBook(spec) for spec in sensors}
        self.activity = ActivityBook()
        #: Meters that measure the same hardware and know nothing of each other's requests, this one included.
        self.meters = 1
        self._live: dict[Hashable, Live] = {}
        #: The latest instant up to which any sensor's intervals are closed.
        self.closed_ns: int | None = None
        self._periods = Periods(self.books)
        self._batches = BatchCosts()
        self._used: set[str] = set()
        #: Its intervals tell for whom native threads work: each second once.
        self._first_cpu = next((name for name, book in self.books.items() if book.spec.component != "gpu"), None)

    def __len__(self) -> int:
        """How many requests are known and not settled."""
        return len(self._live)

    def sample(self, sensor: str, t_ns: int, joules: float) -> None:
        """A reading of a sensor's cumulative counter, in joules."""
        book = self.books[sensor]
        book.waiting.extend(book.counter.add(t_ns, joules))

    def announce(self, sensor: str, kind: str) -> None:
        """An event of a sensor: ``reset``, ``lost`` or ``suspend``."""
        self.books[sensor].counter.announce(kind)

    def revise(self, spec: SensorSpec) -> None:
        """What is known of a sensor has changed: its gain is less certain, its limit another."""
        book = self.books[spec.id]
        book.spec = book.counter.spec = spec

    def turn(self, t_ns: int) -> int:
        """From ``t_ns`` on other factors hold: another period. What is charged tells which joules are of which.

        Args:
            t_ns: later than the turn before; an instant up to which intervals are closed counts from there on.

        Returns:
            The number of the period that begins.
        """
        return self._periods.turn(t_ns)

    def flush(self) -> None:
        """No more readings will come: those held back to be confirmed are taken as they are."""
        for book in self.books.values():
            book.waiting.extend(book.counter.flush())

    def record(self, record: Record) -> bool:
        """A request's record, open or closed. False when it came too late: its interval is closed already."""
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
        """A request whose worker died: what it was charged so far becomes process share."""
        live = self._live.pop(request, None)
        if live is not None:
            for sensor, account in live.accounts.items():
                book = self.books[sensor]
                book.shares.process += book.release(account)
            self._clear_pending()

    def advance(self, through_ns: int, overdue_ns: int | None = None) -> list[Settlement]:
        """Close every interval that ends by ``through_ns`` and settle what is then complete.

        Requests that ended by ``overdue_ns`` are settled with what is known, although a sensor has not passed
        their end (it is lost, or stands still).
        """
        for book in self.books.values():
            if book.waiting and book.waiting[0].end_ns <= through_ns:
                for interval, live in self._closing(book, through_ns):
                    self._close(book, interval, live)
        closed = horizon = min([book.closed_ns or 0 for book in self.books.values()], default=through_ns)
        if overdue_ns is not None:
            horizon = max(horizon, overdue_ns)
        due = [live for live in self._live.values() if live.due_ns is not None and live.due_ns <= horizon]
        # A lost sensor closes nothing more, and must not make the curves grow for ever.
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

    def _closing(self, book: SensorBook, through_ns: int) -> Iterator[tuple[Interval, list[Live]]]:
        """The intervals to close, each with the requests that overlap it.

        Intervals in a row between which no request comes or goes are one: they tell the same of all that matters.
        """
        coming = [one for one in self._live.values() if one.start_ns < through_ns and one.seen_ns > one.start_ns]
        coming.sort(key=_start_of)
        several = len(book.waiting) > 1 and book.waiting[1].end_ns <= through_ns
        edges = sorted([edge for one in coming for edge in (one.start_ns, one.seen_ns)]) if several else ()
        present: list[Live] = []
        next_one, number = 0, len(coming)
        for interval in _merged(book.waiting, through_ns, edges):
            start, end = interval.start_ns, interval.end_ns
            if present:
                present = [one for one in present if one.seen_ns > start]
            while next_one < number and coming[next_one].start_ns < end:
                if coming[next_one].seen_ns > start:
                    present.append(coming[next_one])
                next_one += 1
            yield interval, present

    def _close(self, book: SensorBook, interval: Interval, live: Sequence[Live]) -> None:
        start, end, sensor = interval.start_ns, interval.end_ns, book.spec.id
        if self._periods.turned:
            self._periods.begin(book, start, self._live.values())
        state: State = "loaded" if self.activity.owners else "cold"
        if book.spec.component == "gpu":
            live = uses_device(live, self.activity, sensor)
            if live:
                self._used.add(sensor)
            if sensor not in self._used:
                state = "cold"
            work = gpu_work(live, self.activity, sensor, start, end, self.meters)
        else:
            if sensor == self._first_cpu:
                learn_pools(live, self.activity, start, end)
            if self.activity.knows_places:
                live = [one for one in live if self.activity.may_run_on(one.record.pid, sensor, start, end)]
            work = cpu_work(live, self.activity, sensor, start, end, self.meters)
        book.charge(interval, live, work, self.meters, state)
        self.closed_ns = end if self.closed_ns is None else max(self.closed_ns, end)

    # Settling.

    def _clear_pending(self) -> None:
        if not self._live:
            for book in self.books.values():
                book.shares.pending = 0.0  # nothing is pending: what is left is float noise

    def _settle(self, live: Live) -> Settlement:
        charges: list[Charge] = []
        active = idle = variance = 0.0
        learned = False
        accounts = live.accounts
        for sensor, book in self.books.items():
            account = accounts.get(sensor)
            if account is None:
                if not self._may_draw(live, book):
                    continue
                account = Account()
            charge, doubt = book.settle(live, account)
            if charge is not None:
                if self._periods.turned:
                    charge = self._periods.date(charge, live, account)
                charges.append(charge)
                active += charge.active
                idle += charge.idle
                variance += doubt
                learned = learned or account.activity > 0.0
        basis: Basis = "learned" if learned else "activity"
        record = live.record
        if record.kind is not None and charges:
            self._batches.learn(record.kind[:2], max(record.items, len(record.members)), active)
        members = self._members(record, active, idle) if record.members else ()
        return Settlement(record.id, active, idle, variance**0.5, overall(charges), charges, basis, members)

    def _members(self, record: Record, active: float, idle: float) -> list[tuple[Hashable, float, float]]:
        """What a batched call was charged, divided among the requests that it served; idle joules equally."""
        weights = [max(0.0, weight) for _, weight in record.members]
        family = record.kind and record.kind[:2]
        fixed = self._batches.fixed(family, max(record.items, len(weights)))
        shares = batch_shares(active, fixed, weights)
        part = idle / len(weights)
        return [(name, share, part) for (name, _), share in zip(record.members, shares, strict=True)]

    def _may_draw(self, live: Live, book: SensorBook) -> bool:
        """Whether a request that no interval of a sensor overlapped can have drawn from it."""
        if live.end_ns == live.start_ns:
            return False
        if book.spec.component != "gpu":
            return self.activity.may_run_on(live.record.pid, book.spec.id, live.start_ns, live.seen_ns)
        return bool(uses_device([live], self.activity, book.spec.id))


_start_of = attrgetter("start_ns")


def _merged(waiting: deque[Interval], through_ns: int, edges: Sequence[int]) -> Iterator[Interval]:
    """Take the waiting intervals that end by ``through_ns``, those in a row without an edge inside as one."""
    edge = 0
    whole: Interval | None = None
    while waiting and waiting[0].end_ns <= through_ns:
        interval = waiting.popleft()
        if whole is not None:
            while edge < len(edges) and edges[edge] <= whole.start_ns:
                edge += 1
            alike = whole.usable and interval.usable and whole.end_ns == interval.start_ns
            if alike and (edge == len(edges) or edges[edge] >= interval.end_ns):
                joules = whole.joules + interval.joules
                whole = Interval(whole.sensor, whole.start_ns, interval.end_ns, joules)
                continue
            yield whole
        whole = interval
    if whole is not None:
        yield whole


def overall(charges: Sequence[Charge]) -> Overall:
    """The method of several charges together."""
    if len(charges) == 1:
        return cast("Overall", charges[0].method)
    methods = {charge.method for charge in charges}
    if not methods:
        return "unsettled"
    return cast("Overall", methods.pop()) if len(methods) == 1 else "mixed"
