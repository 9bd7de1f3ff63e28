"""The sensor that measures a worker's GPU, found by index, by UUID, or by the UUID of a MIG instance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ecolyzer_otel.ledger import Partition
from ecolyzer_otel.sensors import SensorInfo
from ecolyzer_otel.wire.protocol import Busy

__all__ = ["DeviceMap"]

#: No kernels, on no partition. Read only.
_NONE: Final[tuple[dict[str, list[tuple[int, int]]], dict[str, Partition]]] = {}, {}


class DeviceMap:
    """Finds the sensor of a device by the name that a worker uses.

    A MIG instance has no energy counter of its own. Its kernels count on the sensor of its GPU, in proportion to
    the instance's compute slices: an instance that keeps 3 of 7 slices busy counts as 3/7 of a busy GPU.
    """

    def __init__(self, sensors: Iterable[SensorInfo]) -> None:
        self._sensors: dict[str, tuple[str, Partition | None]] = {}
        for info in sensors:
            if info.component != "gpu":
                continue
            self._sensors[info.id] = info.id, None
            if info.uuid:
                self._sensors[info.uuid] = info.id, None
            for uuid, part in info.partitions:
                self._sensors[uuid] = info.id, Partition(uuid, part)

    def find(self, name: str) -> tuple[str, Partition | None] | None:
        """Returns sensor id and partition of the device ``name``; None if no sensor measures it."""
        return self._sensors.get(name) if name else None

    def busy(
        self, kernels: Busy, sensor: str, start_ns: int, end_ns: int
    ) -> tuple[dict[str, list[tuple[int, int]]], dict[str, Partition]]:
        """Returns busy intervals by sensor id, and the partitions that they ran on.

        Args:
            kernels: busy intervals by device, as the worker timed them.
            sensor: the worker's name of the model's device; where kernels are not timed, the request counts as busy
                there while it is in flight.
            start_ns: begin of the request.
            end_ns: its end, or the time up to which it is reported.
        """
        if not kernels and sensor not in self._sensors:
            return _NONE
        spans: dict[str, list[tuple[int, int]]] = {}
        partitions: dict[str, Partition] = {}
        for name, times in (kernels or {sensor: [(start_ns, end_ns)]}).items():
            found = self.find(name)
            if found is None:
                continue
            # Kernels of a request run while it is in flight, whatever times the worker reports.
            inside = [(max(low, start_ns), min(high, end_ns)) for low, high in times]
            spans.setdefault(found[0], []).extend(span for span in inside if span[0] < span[1])
            if found[1] is not None:
                partitions[found[0]] = found[1]
        return spans, partitions
