"""Processor energy without a counter: modelled from utilisation and the hardware table.

Two curves, from the same public data (621 instances measured or rated by Teads):

* Of a processor's design power (TDP) at 0, 10, 50, 100 % load: 0.12, 0.32, 0.75, 1.02 (Boavizta, ``boaviztapi``
  consumption profiles). Straight lines between the published points need no fit.
* Of a hardware thread's range from idle to full: the dynamic part is 0.22 at 10 % and 0.69 at 50 % (median of the
  621). The straight line of Cloud Carbon Footprint is 24-34 % too low there: the first active core also wakes
  caches, mesh and memory controllers, so that power rises steeply at first.

The declared uncertainty is 40 % or more for two standard uncertainties (published figures: 30-50 %).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from ecolyzer_otel.sensors.base import Reading, Sensor, SensorInfo
from ecolyzer_otel.sensors.cpuinfo import CpuInfo
from ecolyzer_otel.sensors.hardware import CpuRow, HardwareTable, ThreadRow
from ecolyzer_otel.sensors.hostcpu import HostCpu
from ecolyzer_otel.sensors.thermal import CpuThermal

__all__ = ["DYNAMIC_POINTS", "TDP_POINTS", "ModelledCpu", "PowerModel", "power_model"]

_Points = tuple[tuple[float, float], ...]

#: Utilisation -> part of the design power (Boavizta).
TDP_POINTS: _Points = ((0.0, 0.12), (0.1, 0.32), (0.5, 0.75), (1.0, 1.02))
#: Utilisation -> part of the way from idle to full power (median of the Teads instances).
DYNAMIC_POINTS: _Points = ((0.0, 0.0), (0.1, 0.22), (0.5, 0.69), (1.0, 1.0))

# One standard uncertainty of the gain: half of the published 30-50 %, and more for less similar processors.
_EXACT, _SIMILAR, _PROXY, _GENERIC = 0.2, 0.25, 0.35, 0.4
#: CPU time is counted in ticks of 10 ms: in a shorter step utilisation would be 0 or clipped at 1, which loses
#: ticks.
_SHORTEST_STEP_NS = 20_000_000
_UPDATE_PERIOD_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerModel:
    """Watts of a scope's CPUs by utilisation: straight lines between ``points`` (utilisation 0..1, watts)."""

    points: _Points
    description: str
    relative_uncertainty: float

    def watts(self, utilization: float) -> float:
        """Returns the power in watts at a utilisation, which is clipped to 0..1."""
        u = min(1.0, max(0.0, utilization))
        for (u0, w0), (u1, w1) in pairwise(self.points):
            if u <= u1:
                return w0 + (w1 - w0) * (u - u0) / (u1 - u0)
        return self.points[-1][1]


def power_model(cpu: CpuInfo, host: HostCpu, table: HardwareTable, provider: str | None = None) -> PowerModel:
    """Returns the best model in the hardware table for the CPUs of ``host``.

    In order: the processor's own design power (or that of a public sibling), the per-thread figures of its
    architecture, the mean of all per-thread figures. A virtual machine or control group gets the share of the
    processor that its CPUs are; a vCPU counts as one hardware thread, and a core has two.
    """
    row, uncertainty = table.cpu(cpu.name), _EXACT
    if row is None:
        row, uncertainty = table.sibling(cpu.name), _SIMILAR
    if row is not None:
        watts = _share_of_tdp(row, cpu, host)
        if watts is not None:
            return _describe(
                tuple((u, part * watts) for u, part in TDP_POINTS),
                f"{row.model}, TDP {row.tdp_watts:g} W",
                cpu,
                host,
                uncertainty,
            )
    thread = table.per_thread(cpu, provider)
    if thread is not None:
        name = f"AMD {thread.architecture}" if thread.vendor == "amd" else thread.architecture
        return _describe(_of_threads(thread, host), name, cpu, host, _PROXY if thread.proxy else _SIMILAR)
    unknown = f"a generic server (unknown processor {cpu.name or 'without a name'!r})"
    return _describe(_of_threads(table.generic(), host), unknown, cpu, host, _GENERIC)


def _share_of_tdp(row: CpuRow, cpu: CpuInfo, host: HostCpu) -> float | None:
    """Design watts of the scope's CPUs, None if their share of the processor is unknown."""
    if not cpu.virtual:
        return row.tdp_watts * cpu.sockets * min(1.0, host.capacity_cpus / cpu.threads)
    if row.cores is None:  # a guest does not see how many threads its processor has
        return None
    return row.tdp_watts * host.capacity_cpus / (2 * row.cores)


def _of_threads(row: ThreadRow, host: HostCpu) -> _Points:
    span = row.max_watts - row.idle_watts
    return tuple((u, host.capacity_cpus * (row.idle_watts + span * part)) for u, part in DYNAMIC_POINTS)


def _describe(points: _Points, source: str, cpu: CpuInfo, host: HostCpu, uncertainty: float) -> PowerModel:
    unit = "vCPU" if cpu.virtual else "CPU" if host.capacity_cpus == 1 else "CPUs"
    low, high = points[0][1], points[-1][1]
    return PowerModel(
        points=points,
        description=(
            f"modelled from {source}, {host.capacity_cpus:g} {unit}, {low:.1f}-{high:.1f} W (hardware table), "
            f"{host.description}"
        ),
        relative_uncertainty=uncertainty,
    )


class ModelledCpu(Sensor):
    """A counter of modelled joules: the integral of power from the first read on.

    The power of each step is that of its mean utilisation. The curve is concave, so that many short steps over
    bursts give a little less than one long step with the same CPU time. The declared uncertainty includes this.
    """

    def __init__(
        self,
        host: HostCpu,
        model: PowerModel,
        thermal: CpuThermal | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._host = host
        self._model = model
        self._thermal = thermal
        self._clock = clock
        self._last: tuple[int, float] | None = None
        self._joules = 0.0
        self._info = SensorInfo(
            id="cpu",
            component="cpu",
            method="modelled",
            description=model.description,
            idle_watts=model.watts(0.0),
            temperature_limit_celsius=thermal.limit_celsius if thermal else None,
            update_period_seconds=_UPDATE_PERIOD_SECONDS,
            relative_uncertainty=model.relative_uncertainty,
        )

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor."""
        return self._info

    def begin(self, t_ns: int, busy_seconds: float) -> None:
        """Count from this earlier reading of the same CPU clock instead of the first read."""
        if self._last is None:
            self._last = (t_ns, busy_seconds)

    def read(self) -> Reading:
        """Returns the modelled joules: the sum of P(u) dt, u = busy CPU seconds / (dt * CPUs), clipped to 0..1.

        Within 20 ms of the last step the counter stands still, like a real one between its updates.

        Raises:
            SensorError: the CPU time cannot be read. The next successful read includes the time until then.
        """
        busy = self._host.busy_seconds()
        now = self._clock()
        if self._last is None:
            self._last = (now, busy)
            return Reading(now, self._joules)
        then, busy_then = self._last
        if now - then < _SHORTEST_STEP_NS:
            return Reading(now, self._joules)
        self._last = (now, busy)
        seconds = (now - then) / 1e9
        utilization = min(1.0, max(0.0, (busy - busy_then) / (seconds * self._host.capacity_cpus)))
        self._joules += self._model.watts(utilization) * seconds
        return Reading(now, self._joules, utilization)

    def celsius(self) -> float | None:
        """Returns the temperature of the first package in degrees Celsius, None if unknown."""
        return None if self._thermal is None else self._thermal.celsius()

    def close(self) -> None:
        """Close the thermometer's descriptor; the CPU clock belongs to the caller."""
        if self._thermal is not None:
            self._thermal.close()
