"""A request between its first word and its settlement."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecolyzer_otel.ledger.curve import Curve
from ecolyzer_otel.ledger.types import Busy, Record

__all__ = ["Account", "Live", "clipped_seconds"]


@dataclass(slots=True)
class Account:
    """What one request was charged on one sensor so far, in joules. ``doubt`` is its share's uncertainty."""

    active: float = 0.0
    idle: float = 0.0
    doubt: float = 0.0


@dataclass(slots=True)
class Live:
    """One request known to the ledger. ``end_ns`` is None while it is open."""

    record: Record
    end_ns: int | None
    seen_ns: int
    cpu: Curve = field(default_factory=Curve)
    accounts: dict[str, Account] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record) -> Live:
        """A new live request from its first record, open or closed."""
        live = cls(record, None, record.start_ns)
        live.cpu.add(record.start_ns, 0.0)
        live.update(record)
        return live

    def update(self, record: Record) -> None:
        """Take over a later record of the same request."""
        seen = record.end_ns if record.end_ns is not None else record.seen_ns
        self.record = record
        self.end_ns = record.end_ns
        self.seen_ns = max(self.seen_ns, record.start_ns if seen is None else seen)
        self.cpu.add(self.seen_ns, record.cpu_ns / 1e9)

    def overlap(self, start_ns: int, end_ns: int) -> tuple[int, int] | None:
        """The part of the interval during which the request is known to have been in flight."""
        low, high = max(start_ns, self.record.start_ns), min(end_ns, self.seen_ns)
        return (low, high) if low < high else None

    def account(self, sensor: str) -> Account:
        """This request's account on one sensor, opened at need."""
        account = self.accounts.get(sensor)
        if account is None:
            account = self.accounts[sensor] = Account()
        return account


def clipped_seconds(busy: Busy, start_ns: int, end_ns: int) -> float:
    """Seconds of ``busy`` intervals within ``[start_ns, end_ns)``."""
    total = 0
    for low, high in busy:
        total += max(0, min(high, end_ns) - max(low, start_ns))
    return total / 1e9
