"""NVIDIA GPUs through NVML, by the binding ``nvidia-ml-py`` (module ``pynvml``), which is optional.

Energy is the driver's counter (``nvmlDeviceGetTotalEnergyConsumption``, mJ since the driver was loaded, Volta and
newer) as long as power does not contradict it, else power integrated over time. The accuracy of both depends on the
part of the time that the board's power sensor samples: "Part-time Power Measurements: nvidia-smi's Lack of
Attention" (arXiv 2312.02741) found 25 ms of every 100 ms on A100 and H100.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ecolyzer_otel.common.backoff import Backoff
from ecolyzer_otel.sensors.base import Absence, Reading, Sensor, SensorError, SensorInfo, Usage
from ecolyzer_otel.sensors.integrate import CheckedEnergy
from ecolyzer_otel.sensors.nvml_info import describe
from ecolyzer_otel.sensors.nvml_session import REOPEN_WAITS_NS, NvmlError, NvmlSession, samples
from ecolyzer_otel.sensors.nvml_usage import DeviceBusy, ProcessBusy, number, read_samples
from ecolyzer_otel.sensors.pids import PidMap

__all__ = ["NvmlGpu", "open_nvml"]

_MILLI: Final = 1e-3
#: Temperature and clocks change slowly, and a query may take a millisecond if firmware answers it.
_SLOW_NS: Final = 200_000_000

#: Bits of nvmlClocksEventReasons (nvml.h) that mean throttling. Idle (0x1) and clocks set by the user (0x2) or by
#: the display (0x100) do not.
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
        info: the properties that :func:`open_nvml` found; a reload of the driver is survived by ``uuid``.
        handle: its present NVML handle.
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
        self._energy = CheckedEnergy()
        self._busy = DeviceBusy()
        self._processes = ProcessBusy(pids)
        self._unsupported: set[str] = set()
        self._details_ns: int | None = None
        self._backoff = Backoff(*REOPEN_WAITS_NS)
        self._not_before_ns = 0
        self._usage: Usage | None = None
        self._throttled: frozenset[str] | None = None
        self._celsius: float | None = None

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor; its uncertainty grows once the counter has turned out to be wrong."""
        self._info = self._energy.revised(self._info)
        return self._info

    def read(self) -> Reading:
        """Returns the joules since the driver was loaded, or those integrated since the first read.

        Raises:
            SensorError: ``permission``, ``absent`` or ``io``. If the driver has lost the GPU or was reloaded, the
                next read opens the library again.
        """
        try:
            reading = self._read()
        except NvmlError as error:
            if error.lost:
                self._drop_handle()
            raise
        self._backoff.succeed()
        self._read_details(reading.t_ns)
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
                f"{self._info.description}: NVML reports neither energy nor power",
                "no action is possible: the GPU has no power sensor",
            )
        return Reading(t_ns, joules)

    def celsius(self) -> float | None:
        """Returns the core temperature in degrees Celsius at the last read, None if unknown."""
        return self._celsius

    def usage(self) -> Usage | None:
        """Returns the busy time of the GPU and of each process; None with MIG and where NVML has neither."""
        return self._usage

    def throttled(self) -> frozenset[str] | None:
        """Returns the reasons for throttling (``power_cap``, ``hw_thermal`` …)."""
        return self._throttled

    def faults(self) -> Mapping[str, int]:
        """Returns ``counter_stuck`` or ``counter_implausible`` if power contradicts the counter; ``gap``."""
        return self._energy.faults()

    def close(self) -> None:
        """Do nothing: the library is shared and stays loaded."""

    def _reopen(self) -> None:
        self._session.reopen()
        self._handle = self._session.find(self._info)
        self._generation = self._session.generation
        self._details_ns = None
        # The timestamps of samples may restart with the driver; the sums so far are kept.
        self._busy.last_us = 0
        self._processes.last_us = 0
        self._energy.recheck()

    def _drop_handle(self) -> None:
        """Close the library, so that the next read opens it again; less often for a GPU that stays lost."""
        now = self._clock()
        if now >= self._not_before_ns:
            self._session.drop()
            self._not_before_ns = now + self._backoff.wait  # the first time without a wait
            self._backoff.fail()

    def _counter(self) -> float | None:
        millijoules = self._query("energy", "nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules * _MILLI

    def _power(self) -> float | None:
        """The instantaneous power in watts where it is available, else the driver's average."""
        nvml = self._session.nvml
        field = getattr(nvml, "NVML_FI_DEV_POWER_INSTANT", None)
        if field is not None and "instant" not in self._unsupported:
            values = self._query_optional("instant", "nvmlDeviceGetFieldValues", [field])
            if values is not None and values[0].nvmlReturn == 0:
                return number(values[0].valueType, values[0].value) * _MILLI
            if values is not None:
                self._unsupported.add("instant")
        milliwatts = self._query("power", "nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts * _MILLI

    def _query(self, feature: str, function: str, *arguments: Any) -> Any:
        """Call an NVML function. Returns None for an unsupported feature, which is not queried again.

        Raises:
            SensorError: any other error.
        """
        if feature in self._unsupported:
            return None
        try:
            return self._session.call(function, self._handle, *arguments, what=self._info.description)
        except NvmlError as error:
            if not error.unsupported:
                raise
            self._unsupported.add(feature)
            return None

    def _query_optional(self, feature: str, function: str, *arguments: Any) -> Any:
        """As :meth:`_query`, for an optional value: returns None on any error."""
        try:
            return self._query(feature, function, *arguments)
        except SensorError as error:
            if error.reason == "permission":
                self._unsupported.add(feature)
            return None

    def _read_details(self, t_ns: int) -> None:
        """Read usage, temperature and throttling. None of these fails a reading."""
        self._read_usage(t_ns)
        if self._details_ns is not None and t_ns - self._details_ns < _SLOW_NS:
            return
        self._details_ns = t_ns
        sensor = self._session.nvml.NVML_TEMPERATURE_GPU
        celsius = self._query_optional("temperature", "nvmlDeviceGetTemperature", sensor)
        self._celsius = None if celsius is None else float(celsius)
        bits = self._query_optional("reasons", "nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # drivers before 535
            bits = self._query_optional("old reasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        self._throttled = None if bits is None else frozenset(word for bit, word in _REASONS.items() if bits & bit)

    def _read_usage(self, t_ns: int) -> None:
        nvml = self._session.nvml
        if "samples" not in self._unsupported:
            new = samples(lambda: read_samples(nvml, self._handle, self._busy.last_us))
            if new is None:
                self._unsupported.add("samples")
            else:
                self._busy.add(new)
        if "samples" in self._unsupported:
            rates = self._query_optional("rates", "nvmlDeviceGetUtilizationRates")
            if rates is not None:
                self._busy.add_rate(t_ns, float(rates.gpu))
        if "processes" not in self._unsupported:
            users = samples(lambda: nvml.nvmlDeviceGetProcessUtilization(self._handle, self._processes.last_us))
            if users is None:
                self._unsupported.add("processes")
            else:
                self._processes.add((one.pid, one.timeStamp, float(one.smUtil)) for one in users)
        if self._busy.seconds is None and not self._processes.seconds:
            self._usage = None
        else:
            self._usage = Usage(self._busy.seconds, dict(self._processes.seconds))


def open_nvml(
    procfs: str | Path = "/proc", clock: Callable[[], int] = time.monotonic_ns
) -> tuple[list[NvmlGpu], list[Absence]]:
    """Returns the GPUs of NVML that can be read, and the absences of the others.

    Args:
        procfs: root of the procfs in which PIDs of the host are looked up.
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
        absences.append(Absence("NVML", "absent", "NVML shows no GPU", "no action is needed"))
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
