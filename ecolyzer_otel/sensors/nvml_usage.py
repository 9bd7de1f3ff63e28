"""Busy time of an NVIDIA GPU and of its processes: NVML's utilisation samples, integrated over their timestamps.

NVML keeps a ring of samples and returns those since a timestamp. The last or the largest sample alone would count a
process that was busy for one sample as busy for all the time between two reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ecolyzer_otel.sensors.pids import PidMap

__all__ = ["DeviceBusy", "ProcessBusy", "number", "read_samples"]

#: NVML's sample period is 1/6 to 1 s, by product (nvml.h, nvmlUtilization_t).
_LONGEST_SAMPLE_US: Final = 1_000_000
_SHORTEST_SAMPLE_US: Final = 10_000
#: An ended process is dropped after this long without a sample.
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
        """Add new samples (timestamp in us, percent), each for the time since the previous one.

        The samples of the first call do not count: they may be older than this meter.
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
        """Add a utilisation rate, where there are no samples: it counts for the time since the previous rate."""
        share = min(100.0, max(0.0, percent)) / 100.0
        if self._last_rate is not None and t_ns > self._last_rate:
            self.seconds = (self.seconds or 0.0) + share * (t_ns - self._last_rate) / 1e9
        self.seconds = self.seconds or 0.0
        self._last_rate = t_ns
        self.utilization = share


class ProcessBusy:
    """Cumulative busy seconds by PID.

    A sample is one process' utilisation of the SMs over the sample period that ends at its timestamp. An idle
    process has no samples, so that the time since its last sample may be a pause. A sample then counts for the
    shortest distance between two samples of one process so far, and never for more than a second.
    """

    def __init__(self, pids: PidMap | None = None) -> None:
        self._pids = pids or PidMap()
        self._seconds: dict[int, float] = {}
        self._seen: dict[int, int] = {}
        self._period_us = _LONGEST_SAMPLE_US
        self._translated = True
        self.last_us = 0

    @property
    def seconds(self) -> Mapping[int, float]:
        """Busy seconds by PID in the namespace of this process; empty if a PID cannot be translated."""
        return self._seconds if self._translated else {}

    def add(self, samples: Iterable[tuple[int, int, float]]) -> None:
        """Add new samples: (PID of the host, timestamp in us, percent of the SMs)."""
        new = sorted((stamp, pid, percent) for pid, stamp, percent in samples if stamp > self.last_us)
        since_us = self.last_us
        for stamp, pid, percent in new:
            length = self._length(stamp, self._seen.get(pid), since_us)
            self._count(pid, length / 1e6 * min(100.0, max(0.0, percent)) / 100.0)
            self._seen[pid] = self.last_us = stamp
        self._forget()

    def _length(self, stamp: int, before: int | None, since_us: int) -> int:
        """The time that a sample covers, in microseconds."""
        if not since_us:  # samples of the first call may be older than this meter
            return 0
        if before is None:
            return min(stamp - since_us, self._period_us)
        gap = stamp - before
        if gap >= _SHORTEST_SAMPLE_US:
            self._period_us = min(self._period_us, gap)
        return gap if gap <= self._period_us * 3 // 2 else self._period_us

    def _count(self, pid: int, busy: float) -> None:
        local = self._pids.local(pid)
        if local is None:
            self._translated = False
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
    """Returns the utilisation samples of the device since a timestamp, for :meth:`DeviceBusy.add`.

    Raises:
        NVMLError: the error of the binding.
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
    """Returns the value of an ``nvmlValue_t`` union."""
    return _VALUES.get(value_type, _VALUES[1])(value)
