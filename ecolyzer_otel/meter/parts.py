"""The phases of a request as records of their own in the ledger, and their settlements as one.

A phase is to the ledger what a request is: it has its own time, CPU time, kernels and kind, so that watts of
prefill and of decode are learned apart. All parts of a request are settled together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ecolyzer_otel.ledger import Charge, Record, SensorSpec, Settlement, overall

__all__ = ["Joint", "Told", "add_shares", "merge", "part_id", "split"]

Phase = tuple[str, int, int]
#: Of one request: its phase, CPU time before it, and its begin.
_Part = tuple[str, int, int]


@dataclass(slots=True)
class Told:
    """How the parts of a request were told to the ledger.

    ``phases``: how many of its worker's phases they hold. ``seen_ns``: how far the last one reached.
    """

    parts: list[_Part] = field(default_factory=list)
    phases: int = 0
    seen_ns: int = 0

    def ids(self, request: tuple[int, int]) -> list[Hashable]:
        """The ledger's names of all parts."""
        return [part_id(request, number) for number in range(max(1, len(self.parts)))]

    def cut(self, number: int) -> None:
        """The ledger takes no part of this number: the one before goes on to the end."""
        del self.parts[number:]


def part_id(request: tuple[int, int], number: int) -> Hashable:
    """The ledger's name of the how manyth part of a request."""
    return (*request, number) if number else request


def split(whole: Record, phases: Sequence[Phase], told: Told) -> list[tuple[Record, str]]:
    """The parts of a request, each with its phase's name.

    Args:
        whole: the record of the request, open or closed; its id a pair.
        phases: what its worker told of them.
        told: what the ledger knows of its parts; brought up to date. What it was told before stays as it was told.
    """
    end_ns = whole.end_ns if whole.end_ns is not None else whole.seen_ns or whole.start_ns
    if not told.parts:
        told.parts.append(("", 0, whole.start_ns))
    for name, start_ns, cpu_ns in phases[told.phases :]:
        begin = min(max(start_ns, told.seen_ns, told.parts[-1][2]), end_ns)
        if begin == told.parts[-1][2] and told.seen_ns <= begin:
            told.parts[-1] = name, told.parts[-1][1], begin  # the part before it is empty
        else:
            told.parts.append((name, min(cpu_ns, whole.cpu_ns), begin))
    told.phases = max(told.phases, len(phases))
    told.seen_ns = max(told.seen_ns, end_ns)
    return [(_part(whole, told.parts, number, end_ns), part[0]) for number, part in enumerate(told.parts)]


def _part(whole: Record, parts: Sequence[_Part], number: int, end_ns: int) -> Record:
    name, cpu_ns, start_ns = parts[number]
    last = number == len(parts) - 1
    until_ns, cpu_until = (end_ns, whole.cpu_ns) if last else (parts[number + 1][2], parts[number + 1][1])
    spent = max(0, cpu_until - cpu_ns)
    kind = whole.kind
    if kind is not None and name:
        kind = kind._replace(phase=f"{kind.phase} {name}")
    busy = {
        device: [
            (max(low, start_ns), min(high, until_ns)) for low, high in spans if low < until_ns and high > start_ns
        ]
        for device, spans in whole.device_busy.items()
    }
    closed = whole.end_ns is not None
    return replace(
        whole,
        id=part_id(whole.id, number),  # type: ignore[arg-type]
        start_ns=start_ns,
        end_ns=until_ns if closed else None,
        seen_ns=None if closed else until_ns,
        cpu_ns=spent,
        device_busy=busy,
        kind=kind,
        due_ns=whole.end_ns,
    )


def merge(
    parts: Sequence[tuple[str, Settlement]], specs: Mapping[str, SensorSpec]
) -> tuple[Settlement, dict[str, float]]:
    """The settlement of a request from those of its parts, and the joules of each phase by name.

    The gain of a sensor errs in all parts alike, so that its uncertainty adds up linearly; the rest in quadrature.
    """
    first = parts[0][1]
    phases: dict[str, float] = {}
    for name, one in parts:
        if name:
            phases[name] = phases.get(name, 0.0) + one.joules
    if len(parts) == 1:
        return first, phases
    charges = _by_sensor(charge for _, one in parts for charge in one.charges)
    gain = sum((_gain(specs, one) * one.active) ** 2 for one in charges)
    rest = 0.0
    for _, one in parts:
        own = sum((_gain(specs, charge) * charge.active) ** 2 for charge in one.charges)
        rest += max(0.0, one.uncertainty_joules**2 - own)
    whole = Settlement(
        id=first.id,
        active_joules=sum(one.active_joules for _, one in parts),
        idle_joules=sum(one.idle_joules for _, one in parts),
        uncertainty_joules=(gain + rest) ** 0.5,
        method=overall(charges),
        charges=charges,
        basis="learned" if any(one.basis == "learned" for _, one in parts) else "activity",
    )
    return whole, phases


def _gain(specs: Mapping[str, SensorSpec], charge: Charge) -> float:
    spec = specs.get(charge.sensor)
    return 0.0 if spec is None else spec.relative_uncertainty


def _by_sensor(charges: Iterable[Charge]) -> list[Charge]:
    """One charge per sensor, with the joules of all of its."""
    sums: dict[str, Charge] = {}
    for one in charges:
        known = sums.get(one.sensor)
        sums[one.sensor] = one if known is None else known.plus(one)
    return list(sums.values())


@dataclass(slots=True)
class Joint:
    """What one request has of calls that served it together with others.

    ``calls``: how many such calls were settled; ``since``: when the last was, on the meter's monotonic clock in
    seconds. ``labels``: those of the last, for a share that finds no request any more.
    """

    calls: int = 0
    since: float = 0.0
    charges: list[Charge] = field(default_factory=list)
    variance: float = 0.0
    learned: bool = False
    labels: tuple[str, ...] = ()

    def add(self, settlement: Settlement, active: float, idle: float) -> None:
        """A share of ``settlement``: so much of its active and of its idle joules."""
        self.calls += 1
        by_active = active / settlement.active_joules if settlement.active_joules > 0.0 else 0.0
        by_idle = idle / settlement.idle_joules if settlement.idle_joules > 0.0 else 0.0
        by_time = 1.0 / max(1, len(settlement.members))
        self.charges += [one.part(by_active, by_idle, by_time) for one in settlement.charges]
        self.variance += (by_active * settlement.uncertainty_joules) ** 2
        self.learned = self.learned or settlement.basis == "learned"


def add_shares(own: Settlement, joint: Joint) -> Settlement:
    """A request's own settlement with its shares of the calls that served it."""
    found = _by_sensor((*own.charges, *joint.charges))
    return Settlement(
        id=own.id,
        active_joules=sum(one.active for one in found),
        idle_joules=sum(one.idle for one in found),
        uncertainty_joules=(own.uncertainty_joules**2 + joint.variance) ** 0.5,
        method=overall(found),
        charges=found,
        basis="learned" if joint.learned else own.basis,
    )
