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
    """The properties of a sensor that the ledger uses.

    Attributes:
        id: unique name.
        component: the component that the joules belong to.
        method: ``measured`` or ``modelled``.
        idle_watts: idle power; None if it has to be learned.
        idle_prior_watts: idle power to assume until it is learned.
        wrap_joules: the counter restarts from 0 here; None if it does not wrap.
        relative_uncertainty: one standard uncertainty of the sensor's gain.
        max_watts: the highest plausible mean power of an interval.
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

    Attributes:
        sensor: id of the sensor.
        start_ns: when it begins.
        end_ns: when it ends.
        joules: growth of the counter.
        usable: False where the counter did not report all joules drawn: after a restart, a fall, an absurd jump, or
            while it stood still.
        jumped: True where the joules were drawn at another time, while the machine was suspended.
        reported: the part of the joules drawn that the counter reports, 0 to 1.
    """

    sensor: str
    start_ns: int
    end_ns: int
    joules: float
    usable: bool = True
    jumped: bool = False
    reported: float = 1.0


@dataclass(frozen=True, slots=True)
class Partition:
    """An isolated part of a device (a MIG instance): its name, and its fraction of the device."""

    name: str
    fraction: float


class Kind(NamedTuple):
    """A class of requests that are expected to draw the same watts per unit of activity."""

    model: str
    phase: str
    bucket: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One request as its worker reports it.

    Attributes:
        id: unique among the requests in flight.
        pid: the process that runs it.
        start_ns: when it began.
        end_ns: when it ended; None while it is open.
        cpu_ns: CPU time of its own thread.
        seen_ns: for an open request, the time up to which ``cpu_ns`` and ``device_busy`` are complete.
        device_busy: its kernels by sensor.
        partitions: by sensor, the partition of a divided device that these kernels ran on.
        kind: its model, phase and batch size (:func:`kind_of`).
        items: size of its batch.
        members: the requests that a batched call served, each with its weight in the batch.
        due_ns: it is settled once this time is covered; None for its end. All parts of one request have the same.
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
    """Returns the kind of a request: batches of 1, 2-3, 4-7, 8-15 … items are expected to draw the same watts."""
    return Kind(model, phase, items.bit_length() if items > 1 else 1)


class Charge(NamedTuple):
    """The joules that one request is charged on one sensor.

    Attributes:
        sensor: id of the sensor.
        component: the sensor's component.
        active: active joules.
        idle: idle joules.
        method: ``measured``, ``modelled`` or ``mixed``.
        seconds: the request's share of the device's time; each instant is divided equally among the requests in
            flight.
        period: the period of the factors (:meth:`~ecolyzer_otel.ledger.ledger.Ledger.begin_period`) that the joules
            belong to, except those in ``earlier``.
        earlier: (period, joules) that were charged in earlier periods.
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
        """Returns the sum of two charges of one sensor; each joule keeps its period."""
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
        """Returns these parts (0 to 1) of its active joules, its idle joules and its time."""
        joules = active * self.active + idle * self.idle
        scale = joules / self.joules if self.earlier and self.joules > 0.0 else 0.0
        return self._replace(
            active=active * self.active,
            idle=idle * self.idle,
            seconds=seconds * self.seconds,
            earlier=tuple((period, scale * one) for period, one in self.earlier),
        )


class Settlement(msgspec.Struct, frozen=True):
    """The final joules of one request.

    Attributes:
        id: id of the request.
        active_joules: active joules on all sensors.
        idle_joules: idle joules on all sensors.
        uncertainty_joules: one standard uncertainty of the active joules.
        method: ``measured``, ``modelled``, ``mixed`` or ``unsettled``.
        charges: one entry for each sensor that charges the request.
        basis: how active joules were split: by ``learned`` intensity, or by ``activity`` alone.
        members: (id, active, idle) of each request that a batched call served; they add up to its joules.
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
    """The joules of one sensor so far. Requests, process, host, idle and pending add up to ``measured``.

    ``modelled`` is the part of ``measured`` and of ``requests`` that no reading reported: it was estimated from the
    learned intensity while the sensor had no usable readings.
    """

    measured: float = 0.0
    requests: float = 0.0
    process: float = 0.0
    host: float = 0.0
    idle: float = 0.0
    pending: float = 0.0
    modelled: float = 0.0
