"""The values that enter and leave the ledger. Times are integer nanoseconds of one monotonic clock."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

__all__ = [
    "Basis",
    "Busy",
    "Charge",
    "Component",
    "Interval",
    "Kind",
    "Method",
    "Overall",
    "Partition",
    "Record",
    "SensorSpec",
    "Settlement",
    "Shares",
    "kind_of",
]

Component = Literal["cpu", "gpu", "dram"]
Method = Literal["measured", "modelled"]
#: ``mixed``: measured and modelled components together; ``unsettled``: no reading covered the request.
Overall = Literal["measured", "modelled", "mixed", "unsettled"]
Basis = Literal["learned", "activity"]
#: Busy intervals ``[start_ns, end_ns)`` of one request's kernels on one device.
Busy = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorSpec:
    """What the ledger must know of a sensor.

    ``idle_watts`` is None when it has to be learned; ``idle_prior_watts`` is what is taken for it until then.
    ``relative_uncertainty`` is one standard uncertainty of the sensor's gain. ``max_watts`` bounds what one
    interval may plausibly hold.
    """

    id: str
    component: Component
    method: Method = "measured"
    idle_watts: float | None = None
    idle_prior_watts: float | None = None
    wrap_joules: float | None = None
    relative_uncertainty: float = 0.03
    max_watts: float = 10_000.0


class Interval(msgspec.Struct, frozen=True):
    """Joules between two observed changes of one sensor's counter.

    ``usable`` is False where the counter did not tell all that was drawn: after a restart, a fall, an absurd jump,
    or while it stood still; ``jumped`` is True where it shows what was drawn at another time, while the machine was
    suspended. ``told`` is the part of what was drawn that it tells.
    """

    sensor: str
    start_ns: int
    end_ns: int
    joules: float
    usable: bool = True
    jumped: bool = False
    told: float = 1.0


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a device that runs apart from its other parts (a MIG instance): name, and share of the whole."""

    name: str
    fraction: float


class Kind(NamedTuple):
    """What is expected to draw the same watts per unit of activity."""

    model: str
    phase: str
    bucket: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One request as its worker tells it.

    ``end_ns`` is None while it is open; then ``seen_ns`` is the time up to which ``cpu_ns`` and ``device_busy``
    are known. ``cpu_ns`` is the CPU time of the request's own thread. ``partitions`` names, by sensor, the part of
    a device that the kernels in ``device_busy`` ran on, where it is divided. ``kind`` is what is expected to draw
    the same watts per unit of activity: a model with its phase and the size of its batch (:func:`kind_of`).
    ``members`` are the requests that a batched call served, each with its weight in the batch. ``due_ns``: it is
    not settled before this time is covered; by default its end. The parts of one request have the same.
    """

    id: Hashable
    pid: int
    start_ns: int
    end_ns: int | None
    cpu_ns: int = 0
    seen_ns: int | None = None
    device_busy: Mapping[str, Busy] = {}
    partitions: Mapping[str, Partition] = {}
    kind: Kind | None = None
    items: int = 1
    members: Sequence[tuple[Hashable, float]] = ()
    due_ns: int | None = None


def kind_of(model: str, phase: str = "", items: int = 1) -> Kind:
    """Model, phase and batch bucket: batches of 1, 2-3, 4-7, 8-15 … items are taken to draw the same watts."""
    return Kind(model, phase, items.bit_length() if items > 1 else 1)


class Charge(NamedTuple):
    """What one sensor charges one request: active and idle joules, and how it knows.

    ``seconds``: its part of the device's time, each instant divided equally among the requests in flight.
    ``period``: the period of the factors (:meth:`~ecolyzer_otel.ledger.ledger.Ledger.turn`) that its joules belong
    to, but for those ``earlier``: (period, joules) of what was charged in periods before.
    """

    sensor: str
    component: Component
    active: float
    idle: float
    method: str
    seconds: float = 0.0
    period: int = 0
    earlier: tuple[tuple[int, float], ...] = ()

    @property
    def joules(self) -> float:
        """Active and idle together."""
        return self.active + self.idle

    def plus(self, other: Charge) -> Charge:
        """Both of one sensor together, each joule in its own period."""
        first, last = (self, other) if self.period <= other.period else (other, self)
        earlier = first.earlier + last.earlier
        if first.period != last.period:
            earlier += ((first.period, first.joules - sum(joules for _, joules in first.earlier)),)
        return self._replace(
            active=self.active + other.active,
            idle=self.idle + other.idle,
            method=self.method if self.method == other.method else "mixed",
            seconds=self.seconds + other.seconds,
            period=last.period,
            earlier=earlier,
        )

    def part(self, active: float, idle: float, seconds: float) -> Charge:
        """These parts (0 to 1) of its active and idle joules, and of its time."""
        joules = active * self.active + idle * self.idle
        scale = joules / self.joules if self.earlier and self.joules > 0.0 else 0.0
        return self._replace(
            active=active * self.active,
            idle=idle * self.idle,
            seconds=seconds * self.seconds,
            earlier=tuple((period, scale * one) for period, one in self.earlier),
        )


class Settlement(msgspec.Struct, frozen=True):
    """What the ledger owes one request, in joules.

    ``charges`` has one entry per sensor that charges it. ``basis`` is what active joules were split by: ``learned``
    intensity, or ``activity`` alone. ``uncertainty_joules`` is one standard uncertainty of the active joules.
    ``members`` has (id, active, idle) for each request that a batched call served: together what the batch was
    charged.
    """

    id: Hashable
    active_joules: float
    idle_joules: float
    uncertainty_joules: float
    method: Overall
    charges: Sequence[Charge]
    basis: Basis = "activity"
    members: Sequence[tuple[Hashable, float, float]] = ()

    @property
    def joules(self) -> float:
        """Active and idle together."""
        return self.active_joules + self.idle_joules

    @property
    def sensors(self) -> dict[str, tuple[float, float]]:
        """(active, idle) by sensor."""
        return {one.sensor: (one.active, one.idle) for one in self.charges}

    @property
    def components(self) -> dict[Component, tuple[float, float, str]]:
        """(active, idle, method) by component; ``mixed`` where its sensors differ."""
        found: dict[Component, tuple[float, float, str]] = {}
        for one in self.charges:
            active, idle, method = found.get(one.component, (0.0, 0.0, one.method))
            both = method if method == one.method else "mixed"
            found[one.component] = active + one.active, idle + one.idle, both
        return found


@dataclass(slots=True)
class Shares:
    """Where the joules of one sensor went so far. The five add up to ``measured``.

    ``modelled`` is the part of ``measured`` and of ``requests`` that no reading gave: what requests drew by the
    learned intensity while the sensor told nothing.
    """

    measured: float = 0.0
    requests: float = 0.0
    process: float = 0.0
    host: float = 0.0
    idle: float = 0.0
    pending: float = 0.0
    modelled: float = 0.0
