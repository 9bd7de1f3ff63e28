"""The shares that one request has of calls that served several requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ecolyzer_otel.ledger import Charge, Settlement, overall

__all__ = ["JointShares", "add_shares", "sum_by_sensor"]


@dataclass(slots=True)
class JointShares:
    """The shares of one request.

    Attributes:
        calls: number of joint calls that were settled.
        since: when the last of them was settled, on the meter's monotonic clock in seconds.
        charges: the request's part of each charge.
        variance: of the active joules.
        learned: whether any call was split by learned intensity.
        labels: those of the last call; used for shares whose request is no longer there.
    """

    calls: int = 0
    since: float = 0.0
    charges: list[Charge] = field(default_factory=list)
    variance: float = 0.0
    learned: bool = False
    labels: tuple[str, ...] = ()

    def add(self, settlement: Settlement, active: float, idle: float) -> None:
        """Add a share of ``settlement``: so many of its active and of its idle joules."""
        self.calls += 1
        by_active = active / settlement.active_joules if settlement.active_joules > 0.0 else 0.0
        by_idle = idle / settlement.idle_joules if settlement.idle_joules > 0.0 else 0.0
        by_time = 1.0 / max(1, len(settlement.members))
        self.charges += [one.part(by_active, by_idle, by_time) for one in settlement.charges]
        self.variance += (by_active * settlement.uncertainty_joules) ** 2
        self.learned = self.learned or settlement.basis == "learned"


def add_shares(own: Settlement, shares: JointShares) -> Settlement:
    """Returns a request's own settlement with its shares of joint calls added."""
    charges = sum_by_sensor((*own.charges, *shares.charges))
    return Settlement(
        id=own.id,
        active_joules=sum(one.active for one in charges),
        idle_joules=sum(one.idle for one in charges),
        uncertainty_joules=(own.uncertainty_joules**2 + shares.variance) ** 0.5,
        method=overall(charges),
        charges=charges,
        basis="learned" if shares.learned else own.basis,
    )


def sum_by_sensor(charges: Iterable[Charge]) -> list[Charge]:
    """Returns one charge per sensor: the sum of its charges."""
    sums: dict[str, Charge] = {}
    for one in charges:
        before = sums.get(one.sensor)
        sums[one.sensor] = one if before is None else before.plus(one)
    return list(sums.values())
