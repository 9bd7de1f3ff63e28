"""NVIDIA GPUs through NVML, by the binding ``nvidia-ml-py`` (module ``pynvml``), which is optional.

Energy is the driver's counter (``nvmlDeviceGetTotalEnergyConsumption``, mJ since the driver was loaded, Volta and
newer) as long as power does not contradict it, else power integrated over time. How good either is depends on how
much of the time the board's power sensor looks: "Part-time Power Measurements: nvidia-smi's Lack of Attention"
(arXiv 2312.02741) found 25 ms of every 100 ms on A100 and H100.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ecolyzer_otel.sensors.base import Absence, Reading, Sensor, SensorError, SensorInfo, Usage
from ecolyzer_otel.sensors.integrate import CheckedEnergy
from ecolyzer_otel.sensors.nvml_info import describe
from ecolyzer_otel.sensors.nvml_session import NvmlError, NvmlSession, samples
from ecolyzer_otel.sensors.nvml_usage import DeviceBusy, ProcessBusy, number, read_samples
from ecolyzer_otel.sensors.pids import PidMap

__all__ = ["NvmlGpu", "open_nvml"]

_MILLI: Final = 1e-3
#: Reads further apart than this leave joules unknown while power is integrated.
_LONGEST_GAP_SECONDS: Final = 12.0
#: Temperature and clocks change slowly, and each question may cost a millisecond where firmware answers it.
_SLOW_NS: Final = 200_000_000
#: A GPU that stays lost is looked for after 1, 2, 4 … seconds, and every 30 s in the end.
_FIRST_WAIT_NS: Final = 1_000_000_000
_LONGEST_WAIT_NS: Final = 30_000_000_000

#: What integrating a sampled, lagging power adds (0.1 s windows, up to 1 s of averaging).
_INTEGRATION: Final = 0.10

#: Bits of nvmlClocksEventReasons (nvml.h) that mean slower than it could be. Idle (0x1), clocks set by the user
#: (0x2) and by the display (0x100) do not.
_REASONS: Final = {
    0x004: "power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal",
    0x040: "hw_thermal",
    0x080: "power_brake",
    0x200: "board_limit",
    0x400: "reliability",
}


class NvmlGpu(Sensor):
    """One NVIDIA GPU.

    Args:
        session: the library.
        info: what :func:`open_nvml` found; ``uuid`` is how the GPU is found again after a driver reload.
        handle: what NVML calls it for now.
        pids: translates the driver's PIDs.
        clock: monotonic nanoseconds.
    """

    def __init__(
        self,
        session: NvmlSession,
        info: SensorInfo,
        handle: Any,
        pids: PidMap | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._session = session
        self._info = info
        self._handle = handle
        self._generation = session.generation
        self._clock = clock
        self._energy = CheckedEnergy(_LONGEST_GAP_SECONDS)
        self._busy = DeviceBusy()
        self._processes = ProcessBusy(pids)
        self._lacks: set[str] = set()
        self._looked_ns: int | None = None
        self._wait_ns = 0
        self._not_before_ns = 0
        self._usage: Usage | None = None
        self._throttled: frozenset[str] | None = None
        self._celsius: float | None = None

    @property
    def info(self) -> SensorInfo:
        """What does not change, except that its uncertainty grows when the counter turns out to be wrong."""
        if self._energy.integrating and self._info.longest_gap_seconds is None:
            self._info = _integrated(self._info)
        return self._info

    def read(self) -> Reading:
        """Joules since the driver was loaded, or integrated since the first read.

        Raises:
            SensorError: ``permission``, ``absent`` or ``io``. The library is opened again before the next try
                where the driver has lost the GPU or was reloaded.
        """
        try:
            reading = self._read()
        except NvmlError as error:
            if error.lost:
                self._give_up_handle()
            raise
        self._wait_ns = 0
        self._look_around(reading.t_ns)
        return replace(reading, utilization=self._busy.utilization)

    def _read(self) -> Reading:
        if self._session.generation != self._generation or not self._session.open:
            self._reopen()
        watts = self._power() if self._energy.wants_power else None
        counter = self._counter() if self._energy.wants_counter else None
        t_ns = self._clock()
        joules = self._energy.add(t_ns, counter, watts)
        if joules is None:
            raise SensorError(
                "absent",
                f"{self._info.description}: tells neither energy nor power",
                "none: it has no power sensor",
            )
        return Reading(t_ns, joules)

    def celsius(self) -> float | None:
        """Core temperature in degrees Celsius at the last read, None if unknown."""
        return self._celsius

    def usage(self) -> Usage | None:
        """Busy time of the GPU and of each process; None with MIG and where NVML tells neither."""
        return self._usage

    def throttled(self) -> frozenset[str] | None:
        """Why clocks are lower than they could be (``power_cap``, ``hw_thermal`` …)."""
        return self._throttled

    def faults(self) -> Mapping[str, int]:
        """``counter_stuck`` or ``counter_implausible`` when power contradicts the counter; ``gap``."""
        return self._energy.faults()

    def close(self) -> None:
        """Nothing to give back: the library is shared and stays."""

    def _reopen(self) -> None:
        self._session.reopen()
        self._handle = self._session.find(self._info)
        self._generation = self._session.generation
        self._looked_ns = None
        # Sample timestamps may start anew with the driver; what was integrated so far stays.
        self._busy.last_us = 0
        self._processes.last_us = 0
        self._energy.recheck()

    def _give_up_handle(self) -> None:
        """Open the library again before the next read, but not all the time for a GPU that stays away."""
        now = self._clock()
        if now >= self._not_before_ns:
            self._session.drop()
            self._not_before_ns = now + self._wait_ns
            self._wait_ns = min(_LONGEST_WAIT_NS, self._wait_ns * 2 or _FIRST_WAIT_NS)

    def _counter(self) -> float | None:
        millijoules = self._ask("energy", "nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules * _MILLI

    def _power(self) -> float | None:
        """Watts: at this instant where that is offered, else as the driver averages them."""
        nvml = self._session.nvml
        field = getattr(nvml, "NVML_FI_DEV_POWER_INSTANT", None)
        if field is not None and "instant" not in self._lacks:
            values = self._try("instant", "nvmlDeviceGetFieldValues", [field])
            if values is not None and values[0].nvmlReturn == 0:
                return number(values[0].valueType, values[0].value) * _MILLI
            if values is not None:
                self._lacks.add("instant")
        milliwatts = self._ask("power", "nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts * _MILLI

    def _ask(self, feature: str, function: str, *arguments: Any) -> Any:
        """What a function says; None for a feature that this GPU or driver does not have, asked for only once.

        Raises:
            SensorError: for whatever else is wrong.
        """
        if feature in self._lacks:
            return None
        try:
            return self._session.call(function, self._handle, *arguments, what=self._info.description)
        except NvmlError as error:
            if not error.unsupported:
                raise
            self._lacks.add(feature)
            return None

    def _try(self, feature: str, function: str, *arguments: Any) -> Any:
        """As :meth:`_ask`, for what a reading can do without."""
        try:
            return self._ask(feature, function, *arguments)
        except SensorError as error:
            if error.reason == "permission":
                self._lacks.add(feature)
            return None

    def _look_around(self, t_ns: int) -> None:
        """Everything but the joules. Nothing here fails a reading."""
        self._look_at_use(t_ns)
        if self._looked_ns is not None and t_ns - self._looked_ns < _SLOW_NS:
            return
        self._looked_ns = t_ns
        celsius = self._try("temperature", "nvmlDeviceGetTemperature", self._session.nvml.NVML_TEMPERATURE_GPU)
        self._celsius = None if celsius is None else float(celsius)
        bits = self._try("reasons", "nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # drivers before 535
            bits = self._try("old reasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        self._throttled = None if bits is None else frozenset(word for bit, word in _REASONS.items() if bits & bit)

    def _look_at_use(self, t_ns: int) -> None:
        nvml = self._session.nvml
        if "samples" not in self._lacks:
            new = samples(lambda: read_samples(nvml, self._handle, self._busy.last_us))
            if new is None:
                self._lacks.add("samples")
            else:
                self._busy.add(new)
        if "samples" in self._lacks:
            rates = self._try("rates", "nvmlDeviceGetUtilizationRates")
            if rates is not None:
                self._busy.add_rate(t_ns, float(rates.gpu))
        if "processes" not in self._lacks:
            users = samples(lambda: nvml.nvmlDeviceGetProcessUtilization(self._handle, self._processes.last_us))
            if users is None:
                self._lacks.add("processes")
            else:
                self._processes.add((one.pid, one.timeStamp, float(one.smUtil)) for one in users)
        if self._busy.seconds is None and not self._processes.seconds:
            self._usage = None
        else:
            self._usage = Usage(self._busy.seconds, dict(self._processes.seconds))


def _integrated(info: SensorInfo) -> SensorInfo:
    """The same sensor once its joules are integrated power."""
    return replace(
        info,
        longest_gap_seconds=_LONGEST_GAP_SECONDS,
        relative_uncertainty=math.hypot(info.relative_uncertainty, _INTEGRATION),
    )


def open_nvml(
    procfs: str | Path = "/proc", clock: Callable[[], int] = time.monotonic_ns
) -> tuple[list[NvmlGpu], list[Absence]]:
    """Every GPU that NVML shows and that gave a reading, and what was not to be had.

    Args:
        procfs: where PIDs of the host are looked up from a container.
        clock: monotonic nanoseconds.

    Returns:
        Sensors ``gpu0``, ``gpu1`` … by NVML's index; absences with reason and remedy.
    """
    session, absence = NvmlSession.start(clock)
    if session is None:
        return [], [absence] if absence else []
    sensors: list[NvmlGpu] = []
    absences: list[Absence] = []
    try:
        count = session.call("nvmlDeviceGetCount", what="NVML")
    except SensorError as error:
        return [], [Absence.of("NVML", error)]
    if count == 0:
        absences.append(Absence("NVML", "absent", "NVML shows no GPU", "none is needed"))
    pids = PidMap(procfs)
    for index in range(count):
        try:
            handle = session.call("nvmlDeviceGetHandleByIndex", index, what=f"NVIDIA GPU {index}")
            sensor = NvmlGpu(session, describe(session, handle, index), handle, pids, clock)
            sensor.read()
        except SensorError as error:
            absences.append(Absence.of(f"NVIDIA GPU {index}", error))
        else:
            sensors.append(sensor)
    return sensors, absences
