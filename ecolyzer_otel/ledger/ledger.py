"""The ledger itself: closes intervals, keeps every request's account, settles.

Rules of the design that hold here: conservation (requests + process + host + idle + pending = measured at every
instant), no time travel (only overlapped intervals are charged), activity within an interval, idle as a share of
its own, unknown is not zero. Learned intensity weighs all activity equally for now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator

from ecolyzer_otel.ledger.activity import ActivityBook
from ecolyzer_otel.ledger.counter import Counter
from ecolyzer_otel.ledger.idle import IdleFloor
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.split import Fractions, cpu_fractions, gpu_fractions, idle_seconds, uses_device
from ecolyzer_otel.ledger.types import Component, Interval, Overall, Record, SensorSpec, Settlement, Shares

__all__ = ["Ledger", "SensorBook"]

#: True powers of requests that share an interval are taken to lie within this factor of each other: the bound
#: from which the uncertainty of a share follows, until intensities are learned.
_POWER_RATIO = 3.0
#: One standard uncertainty of an idle joule.
_IDLE_UNCERTAINTY = 0.05
#: Activity older than this is dropped even if a sensor has not closed its intervals.
_KEEP_NS = 60_000_000_000


class SensorBook:
    """One sensor's counter, its intervals waiting to be closed, its idle floor and where its joules went."""

    __slots__ = ("closed_ns", "counter", "floor", "last", "shares", "spec", "waiting")

    def __init__(self, spec: SensorSpec) -> None:
        self.spec = spec
        self.counter = Counter(spec)
        self.floor = IdleFloor(spec)
        self.shares = Shares()
        self.waiting: deque[Interval] = deque()
        self.closed_ns: int | None = None
        self.last: Interval | None = None


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

    def __len__(self) -> int:
        """How many requests are known and not settled."""
        return len(self._live)

    @property
    def closed_ns(self) -> int | None:
        """The latest instant up to which any sensor's intervals are closed."""
        closed = [book.closed_ns for book in self.books.values() if book.closed_ns is not None]
        return max(closed, default=None)

    def sample(self, sensor: str, t_ns: int, joules: float) -> None:
        """A reading of a sensor's cumulative counter, in joules."""
        book = self.books[sensor]
        interval = book.counter.add(t_ns, joules)
        if interval is not None:
            book.waiting.append(interval)

    def announce(self, sensor: str, kind: str) -> None:
        """An event of a sensor: ``reset``, ``lost`` or ``suspend``."""
        self.books[sensor].counter.announce(kind)

    def record(self, record: Record) -> bool:
        """A request's record, open or closed. False when it came too late: its interval is closed already."""
        live = self._live.get(record.id)
        if live is not None:
            live.update(record)
            return True
        closed = self.closed_ns
        if closed is not None and record.start_ns < closed:
            return False
        self._live[record.id] = Live.of(record)
        self.activity.owners.add(record.pid)
        self.activity.declared.update(record.device_busy)
        return True

    def abandon(self, request: Hashable) -> None:
        """A request whose worker died: what it was charged so far becomes process share."""
        live = self._live.pop(request, None)
        if live is not None:
            for shares, active in self._release(live):
                shares.process += active

    def advance(self, through_ns: int, overdue_ns: int | None = None) -> list[Settlement]:
        """Close every interval that ends by ``through_ns`` and settle what is then complete.

        Requests that ended by ``overdue_ns`` are settled with what is known, although a sensor has not passed
        their end (it is lost, or stands still).
        """
        for book in self.books.values():
            while book.waiting and book.waiting[0].end_ns <= through_ns:
                self._close(book, book.waiting.popleft())
        horizon = min((book.closed_ns or 0 for book in self.books.values()), default=through_ns)
        due = [
            live
            for live in self._live.values()
            if live.end_ns is not None
            and (live.end_ns <= horizon or (overdue_ns is not None and live.end_ns <= overdue_ns))
        ]
        # A lost sensor closes nothing more, and must not make the curves grow for ever.
        self.activity.forget_before(max(horizon, through_ns - _KEEP_NS))
        return [self._settle(live) for live in due]

    def _close(self, book: SensorBook, interval: Interval) -> None:
        start, end = interval.start_ns, interval.end_ns
        live = [one for one in self._live.values() if one.overlap(start, end)]
        if not live:
            book.floor.learn(interval)
        idle = min(interval.joules, book.floor.watts * (end - start) / 1e9)
        active = interval.joules - idle
        if book.spec.component == "gpu":
            live = uses_device(live, self.activity, book.spec.id)
        self._charge_idle(book, live, interval, idle)
        self._charge_active(book, live, self._fractions(book, live, interval), active)
        book.shares.measured += interval.joules
        book.closed_ns, book.last = end, interval

    def _fractions(self, book: SensorBook, live: list[Live], interval: Interval) -> Fractions:
        if book.spec.component == "gpu":
            return gpu_fractions(live, self.activity, book.spec.id, interval.start_ns, interval.end_ns, self.meters)
        return cpu_fractions(live, self.activity, interval.start_ns, interval.end_ns, self.meters)

    def _charge_idle(self, book: SensorBook, live: list[Live], interval: Interval, idle: float) -> None:
        book.shares.idle += idle
        if idle > 0.0 and live:
            watts = idle / ((interval.end_ns - interval.start_ns) / 1e9) / self.meters
            for one, seconds in zip(live, idle_seconds(live, interval.start_ns, interval.end_ns), strict=True):
                one.account(book.spec.id).idle += watts * seconds

    @staticmethod
    def _charge_active(book: SensorBook, live: list[Live], fractions: Fractions, active: float) -> None:
        shares = book.shares
        for one, share in zip(live, fractions.requests, strict=True):
            account = one.account(book.spec.id)
            account.active += active * share
            account.doubt += active * _share_uncertainty(share)
            shares.pending += active * share
        shares.process += active * fractions.process
        shares.host += active * fractions.host

    def _settle(self, live: Live) -> Settlement:
        del self._live[live.record.id]
        for shares, active in self._release(live):
            shares.requests += active
        return self._settlement(live)

    def _release(self, live: Live) -> Iterator[tuple[Shares, float]]:
        """Take a request's joules, no longer in flight, out of pending: (shares of the sensor, active joules)."""
        for sensor, account in live.accounts.items():
            shares = self.books[sensor].shares
            shares.pending = max(0.0, shares.pending - account.active)
            yield shares, account.active
        if not self._live:
            for book in self.books.values():
                book.shares.pending = 0.0  # nothing is pending: what is left is float noise

    def _settlement(self, live: Live) -> Settlement:
        components: dict[Component, tuple[float, float, str]] = {}
        active = idle = variance = doubt = 0.0
        for sensor, account in live.accounts.items():
            spec = self.books[sensor].spec
            so_far = components.get(spec.component, (0.0, 0.0, spec.method))
            method = spec.method if so_far[2] == spec.method else "mixed"
            components[spec.component] = so_far[0] + account.active, so_far[1] + account.idle, method
            active += account.active
            idle += account.idle
            variance += (spec.relative_uncertainty * account.active) ** 2
            variance += (_IDLE_UNCERTAINTY * account.idle) ** 2
            doubt += account.doubt
        return Settlement(
            live.record.id,
            active,
            idle,
            (variance + doubt**2) ** 0.5,
            _overall({method for _, _, method in components.values()}),
            {sensor: (account.active, account.idle) for sensor, account in live.accounts.items()},
            components,
        )


def _overall(methods: set[str]) -> Overall:
    if not methods:
        return "unsettled"
    if methods == {"measured"}:
        return "measured"
    return "modelled" if methods == {"modelled"} else "mixed"


def _share_uncertainty(share: float) -> float:
    """One standard uncertainty of a share, as half of half of its bound.

    With true powers of co-active work within a factor rho of each other, a share s computed from activity alone
    lies in [s / (s + rho (1 - s)), rho s / (rho s + 1 - s)]; the half-width of that is taken as two standard
    uncertainties.
    """
    rest = 1.0 - share
    low = share / (share + _POWER_RATIO * rest)
    high = _POWER_RATIO * share / (_POWER_RATIO * share + rest)
    return (high - low) / 4.0
