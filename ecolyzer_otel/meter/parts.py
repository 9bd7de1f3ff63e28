"""The phases of a request as records of their own in the ledger, and their settlements as one.

To the ledger, a phase is like a request: it has its own time, CPU time, kernels and kind, so that the watts of
prefill and of decode are learned separately. All parts of a request are settled together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ecolyzer_otel.ledger import Charge, Record, SensorSpec, Settlement, overall
from ecolyzer_otel.meter.shares import sum_by_sensor

__all__ = ["RequestParts", "merge", "part_id", "part_index", "split"]

Phase = tuple[str, int, int]
#: Of one request: its phase, CPU time before it, and its begin.
_Part = tuple[str, int, int]


@dataclass(slots=True)
class RequestParts:
    """The parts of one request as the ledger has them.

    Attributes:
        parts: (phase, CPU time before it, begin) of each.
        phases: how many of the phases that its worker reported are in them.
        seen_ns: the time up to which the last one was reported.
    """

    parts: list[_Part] = field(default_factory=list)
    phases: int = 0
    seen_ns: int = 0

    def ids(self, request: tuple[int, int]) -> list[Hashable]:
        """Returns the ledger's ids of all parts."""
        return [part_id(request, index) for index in range(max(1, len(self.parts)))]

    def cut(self, index: int) -> None:
        """Remove the parts from ``index`` on, which the ledger does not accept; the one before lasts to the end."""
        del self.parts[index:]


def part_id(request: tuple[int, int], index: int) -> Hashable:
    """Returns the ledger's id of one part of a request."""
    return (*request, index) if index else request


def part_index(part: Sequence[int]) -> int:
    """Returns the index of a part in its request, from the ledger's id."""
    return part[2] if len(part) > 2 else 0


def split(record: Record, phases: Sequence[Phase], reported: RequestParts) -> list[tuple[Record, str]]:
    """Returns the parts of a request, each with its phase's name.

    Args:
        record: the record of the request, open or closed; its id a pair.
        phases: its phases as the worker reports them.
        reported: the parts that the ledger has; updated. A part that the ledger has stays as it was reported.
    """
    end_ns = record.end_ns if record.end_ns is not None else record.seen_ns or record.start_ns
    if not reported.parts:
        reported.parts.append(("", 0, record.start_ns))
    for name, start_ns, cpu_ns in phases[reported.phases :]:
        begin = min(max(start_ns, reported.seen_ns, reported.parts[-1][2]), end_ns)
        if begin == reported.parts[-1][2] and reported.seen_ns <= begin:
            reported.parts[-1] = name, reported.parts[-1][1], begin  # the part before it is empty
        else:
            reported.parts.append((name, min(cpu_ns, record.cpu_ns), begin))
    reported.phases = max(reported.phases, len(phases))
    reported.seen_ns = max(reported.seen_ns, end_ns)
    return [(_part(record, reported.parts, index, end_ns), part[0]) for index, part in enumerate(reported.parts)]


def _part(record: Record, parts: Sequence[_Part], index: int, end_ns: int) -> Record:
    name, cpu_ns, start_ns = parts[index]
    last = index == len(parts) - 1
    until_ns, cpu_until = (end_ns, record.cpu_ns) if last else (parts[index + 1][2], parts[index + 1][1])
    spent = max(0, cpu_until - cpu_ns)
    kind = record.kind
    if kind is not None and name:
        kind = kind._replace(phase=f"{kind.phase} {name}")
    busy = {
        device: [
            (max(low, start_ns), min(high, until_ns)) for low, high in spans if low < until_ns and high > start_ns
        ]
        for device, spans in record.device_busy.items()
    }
    closed = record.end_ns is not None
    return replace(
        record,
        id=part_id(record.id, index),  # type: ignore[arg-type]
        start_ns=start_ns,
        end_ns=until_ns if closed else None,
        seen_ns=None if closed else until_ns,
        cpu_ns=spent,
        device_busy=busy,
        kind=kind,
        due_ns=record.end_ns,
    )


def merge(
    parts: Sequence[tuple[str, Settlement]], specs: Mapping[str, SensorSpec]
) -> tuple[Settlement, dict[str, float]]:
    """Returns the settlement of a request from those of its parts, and the joules of each phase by name.

    The gain of a sensor has the same error in all parts, so that its uncertainties add up linearly; the rest adds
    up in quadrature.
    """
    first = parts[0][1]
    phases: dict[str, float] = {}
    for name, one in parts:
        if name:
            phases[name] = phases.get(name, 0.0) + one.joules
    if len(parts) == 1:
        return first, phases
    charges = sum_by_sensor(charge for _, one in parts for charge in one.charges)
    gain = sum((_gain(specs, one) * one.active) ** 2 for one in charges)
    rest = 0.0
    for _, one in parts:
        own = sum((_gain(specs, charge) * charge.active) ** 2 for charge in one.charges)
        rest += max(0.0, one.uncertainty_joules**2 - own)
    settlement = Settlement(
        id=first.id,
        active_joules=sum(one.active_joules for _, one in parts),
        idle_joules=sum(one.idle_joules for _, one in parts),
        uncertainty_joules=(gain + rest) ** 0.5,
        method=overall(charges),
        charges=charges,
        basis="learned" if any(one.basis == "learned" for _, one in parts) else "activity",
    )
    return settlement, phases


def _gain(specs: Mapping[str, SensorSpec], charge: Charge) -> float:
    spec = specs.get(charge.sensor)
    return 0.0 if spec is None else spec.relative_uncertainty
