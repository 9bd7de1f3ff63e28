"""Who kept an NVIDIA GPU busy: NVML's utilisation samples, integrated over their own microsecond timestamps.

NVML keeps a ring of samples and gives those since a timestamp. The last one alone, or the largest, would make a
process that was busy for one sample busy for the whole time between two reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ecolyzer_otel.sensors.pids import PidMap

__all__ = ["DeviceBusy", "ProcessBusy", "number", "read_samples"]

__all__ = ["DeviceBusy", "ProcessBusy"]

#: NVML's sample period is 1/6 to 1 s, by product (nvml.h, nvmlUtilization_t).
_LONGEST_SAMPLE_US: Final = 1_000_000
_SHORTEST_SAMPLE_US: Final = 10_000
#: A process without a sample for this long, and gone, is forgotten.
_FORGET_US: Final = 600_000_000


class DeviceBusy:
    """Cumulative seconds during which anything ran on the device: the sum of utilisation times sample length."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        #: Mean utilisation of the samples of the last :meth:`add` that had any, 0 to 1.
        self.utilization: float | None = None
        self.last_us = 0
        self._last_rate: int | None = None

    def add(self, samples: Iterable[tuple[int, float]]) -> None:
        """New samples as (timestamp in us, percent), each of them for the time since the one before.

        The ring holds what happened before anybody looked: of the first look nothing counts.
        """
        first = self.last_us == 0
        covered = busy = 0.0
        for stamp, percent in sorted(samples):
            if stamp <= self.last_us:
                continue
            if self.last_us:
                length = min(stamp - self.last_us, _LONGEST_SAMPLE_US) / 1e6
                covered += length
                busy += length * min(100.0, max(0.0, percent)) / 100.0
            self.last_us = stamp
        if self.last_us:
            self.seconds = (self.seconds or 0.0) + (0.0 if first else busy)
        if covered > 0.0:
            self.utilization = busy / covered

    def add_rate(self, t_ns: int, percent: float) -> None:
        """A utilisation rate over the last sample period, where there are no samples: it stands since the last."""
        share = min(100.0, max(0.0, percent)) / 100.0
        if self._last_rate is not None and t_ns > self._last_rate:
            self.seconds = (self.seconds or 0.0) + share * (t_ns - self._last_rate) / 1e9
        self.seconds = self.seconds or 0.0
        self._last_rate = t_ns
        self.utilization = share


class ProcessBusy:
    """Cumulative busy seconds by PID.

    A sample is one process' utilisation of the SMs over the sample period that ends at its timestamp. Processes
    with nothing to do have no sample, so the time since the last one may be a pause: a sample then stands for the
    shortest distance of one process' samples seen so far, and never for longer than a second.
    """

    def __init__(self, pids: PidMap | None = None) -> None:
        self._pids = pids or PidMap()
        self._seconds: dict[int, float] = {}
        self._seen: dict[int, int] = {}
        self._period_us = _LONGEST_SAMPLE_US
        self._known = True
        self.last_us = 0

    @property
    def seconds(self) -> Mapping[int, float]:
        """Busy seconds by PID as this process sees PIDs; empty where they cannot be told apart."""
        return self._seconds if self._known else {}

    def add(self, samples: Iterable[tuple[int, int, float]]) -> None:
        """New samples as (PID of the host, timestamp in us, percent of the SMs)."""
        new = sorted((stamp, pid, percent) for pid, stamp, percent in samples if stamp > self.last_us)
        looked_us = self.last_us
        for stamp, pid, percent in new:
            length = self._length(stamp, self._seen.get(pid), looked_us)
            self._count(pid, length / 1e6 * min(100.0, max(0.0, percent)) / 100.0)
            self._seen[pid] = self.last_us = stamp
        self._forget()

    def _length(self, stamp: int, before: int | None, looked_us: int) -> int:
        """How long a sample stands for, in microseconds."""
        if not looked_us:  # the ring holds what happened before we looked: of the first look nothing counts
            return 0
        if before is None:
            return min(stamp - looked_us, self._period_us)
        gap = stamp - before
        if gap >= _SHORTEST_SAMPLE_US:
            self._period_us = min(self._period_us, gap)
        return gap if gap <= self._period_us * 3 // 2 else self._period_us

    def _count(self, pid: int, busy: float) -> None:
        local = self._pids.local(pid)
        if local is None:
            self._known = False
        else:
            self._seconds[local] = self._seconds.get(local, 0.0) + busy

    def _forget(self) -> None:
        for pid in [pid for pid, seen in self._seen.items() if self.last_us - seen > _FORGET_US]:
            local = self._pids.local(pid)
            if local is None or not _alive(local):
                del self._seen[pid]
                self._seconds.pop(local or 0, None)


def _alive(pid: int) -> bool:
    return pid < 1 << 31 and os.path.exists(f"/proc/{pid}")


def read_samples(nvml: Any, handle: Any, since_us: int) -> list[tuple[int, float]]:
    """Utilisation samples of the device since a timestamp, as :meth:`DeviceBusy.add` takes them.

    Raises:
        NVMLError: as the binding raises it.
    """
    kind, samples = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_GPU_UTILIZATION_SAMPLES, since_us)
    return [(sample.timeStamp, number(kind, sample.sampleValue)) for sample in samples]


#: By NVML_VALUE_TYPE_*.
_VALUES: Final[Mapping[int, Callable[[Any], float]]] = {
    0: lambda value: float(value.dVal),
    1: lambda value: float(value.uiVal),
    2: lambda value: float(value.ulVal),
    3: lambda value: float(value.ullVal),
    4: lambda value: float(value.sllVal),
    5: lambda value: float(value.siVal),
    6: lambda value: float(value.usVal),
}


def number(value_type: int, value: Any) -> float:
    """What an ``nvmlValue_t`` union holds."""
    return _VALUES.get(value_type, _VALUES[1])(value)
