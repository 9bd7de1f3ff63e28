"""What workers call a GPU, and the sensor that measures it: by index, by UUID, or by the UUID of a MIG instance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ecolyzer_otel.ledger import Partition
from ecolyzer_otel.sensors import SensorInfo
from ecolyzer_otel.wire.protocol import Busy

__all__ = ["DeviceMap"]

#: No kernels, on no partition. Read only.
_NOWHERE: Final[tuple[dict[str, list[tuple[int, int]]], dict[str, Partition]]] = {}, {}


class DeviceMap:
    """Finds the sensor behind a name.

    A MIG instance has no energy counter of its own: its kernels count on the sensor of its GPU with the part of the
    GPU's compute slices that the instance has, so that one that keeps 3 of 7 slices busy is not taken for one that
    keeps the whole GPU busy.
    """

    def __init__(self, sensors: Iterable[SensorInfo]) -> None:
        self._known: dict[str, tuple[str, Partition | None]] = {}
        for info in sensors:
            if info.component != "gpu":
                continue
            self._known[info.id] = info.id, None
            if info.uuid:
                self._known[info.uuid] = info.id, None
            for uuid, part in info.partitions:
                self._known[uuid] = info.id, Partition(uuid, part)

    def find(self, name: str) -> tuple[str, Partition | None] | None:
        """Sensor id and partition behind ``name``; None when no sensor measures it."""
        return self._known.get(name) if name else None

    def busy(
        self, told: Busy, sensor: str, start_ns: int, end_ns: int
    ) -> tuple[dict[str, list[tuple[int, int]]], dict[str, Partition]]:
        """Busy intervals by sensor id, and the partitions that they ran on.

        Args:
            told: the kernels, as the worker timed them.
            sensor: what the worker calls the device of the model; where kernels were not timed, the request counts
                as busy there while it is in flight.
            start_ns: begin of the request.
            end_ns: its end, or the time up to which it is known.
        """
        if not told and sensor not in self._known:
            return _NOWHERE
        spans: dict[str, list[tuple[int, int]]] = {}
        partitions: dict[str, Partition] = {}
        for name, times in (told or {sensor: [(start_ns, end_ns)]}).items():
            found = self.find(name)
            if found is None:
                continue
            # Kernels of a request run while it is in flight, whatever a worker's clocks say.
            inside = [(max(low, start_ns), min(high, end_ns)) for low, high in times]
            spans.setdefault(found[0], []).extend(span for span in inside if span[0] < span[1])
            if found[1] is not None:
                partitions[found[0]] = found[1]
        return spans, partitions
