"""A request between its first record and its settlement."""

from __future__ import annotations

from ecolyzer_otel.common.curve import Curve
from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.types import Record

__all__ = ["Live"]


class Live:
    """One request that is not settled.

    Attributes:
        record: its latest record.
        start_ns: when it began.
        end_ns: when it ended; None while it is open.
        due_ns: it is settled once this time is covered; None while it is open.
        seen_ns: the time up to which its activity is reported.
        accounts: its account on each sensor that it has used.
    """

    __slots__ = ("_curve", "accounts", "due_ns", "end_ns", "record", "seen_ns", "start_ns")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.start_ns = record.start_ns
        self.end_ns: int | None = None
        self.due_ns: int | None = None
        self.seen_ns = record.start_ns
        self.accounts: dict[str, Account] = {}
        self._curve: Curve | None = None
        self._update(record)

    def update(self, record: Record) -> None:
        """Replace the record by a later one of the same request."""
        if self._curve is None:
            self._curve = Curve()
            self._curve.add(self.start_ns, 0.0)
            self._curve.add(self.seen_ns, self.record.cpu_ns / 1e9)
        self._update(record)
        self._curve.add(self.seen_ns, record.cpu_ns / 1e9)

    def forget_before(self, t_ns: int) -> None:
        """Drop the samples of its CPU clock that no interval from ``t_ns`` on can need."""
        if self._curve is not None:
            self._curve.forget_before(t_ns)

    def _update(self, record: Record) -> None:
        seen = record.end_ns if record.end_ns is not None else record.seen_ns
        self.record = record
        self.end_ns = self.due_ns = record.end_ns
        if record.due_ns is not None and record.end_ns is not None:
            self.due_ns = record.due_ns
        if seen is not None and seen > self.seen_ns:
            self.seen_ns = seen

    def cpu_seconds(self, start_ns: int, end_ns: int) -> float:
        """Returns the CPU time of its own thread in the interval, interpolated linearly between records."""
        if self._curve is not None:
            return self._curve.growth(start_ns, end_ns)
        cpu = self.record.cpu_ns
        if cpu <= 0:
            return 0.0
        first, last = self.start_ns, self.seen_ns
        if start_ns <= first and last <= end_ns:
            return cpu / 1e9
        low, high = max(start_ns, first), min(end_ns, last)
        return cpu / 1e9 * (high - low) / (last - first) if low < high else 0.0

    def busy_seconds(self, device: str, start_ns: int, end_ns: int) -> float:
        """Returns the seconds of its kernels on a device in the interval, scaled to the undivided device."""
        record, total = self.record, 0
        for low, high in record.device_busy.get(device, ()):
            if low < start_ns:
                low = start_ns
            if high > end_ns:
                high = end_ns
            if low < high:
                total += high - low
        if record.partitions and device in record.partitions:
            return total / 1e9 * record.partitions[device].fraction
        return total / 1e9

    def span(self, device: str, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Returns begin and end of its activity in the interval: of its kernels if reported, else of its flight."""
        busy = self.record.device_busy.get(device)
        low = min([first for first, _ in busy]) if busy else self.start_ns
        high = max([last for _, last in busy]) if busy else self.seen_ns
        return (low if low > start_ns else start_ns), (high if high < end_ns else end_ns)

    def overlap_ns(self, start_ns: int, end_ns: int) -> int:
        """Returns the nanoseconds of the interval during which it was in flight, as far as reported."""
        return max(0, min(end_ns, self.seen_ns) - max(start_ns, self.start_ns))

    def account(self, sensor: str) -> Account:
        """Returns its account on one sensor, which is created if needed."""
        account = self.accounts.get(sensor)
        if account is None:
            account = self.accounts[sensor] = Account()
        return account
