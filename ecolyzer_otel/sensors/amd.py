"""AMD GPUs through ROCm's ``amdsmi`` where it is installed, else through the kernel's files (``amdgpu.py``).

The energy counter (``amdsmi_get_energy_count``) is a raw number times ``counter_resolution`` in uJ. It has stood
still on MI100 (ROCm/amdsmi issue 38), so it is compared with power before it is trusted.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeGuard

from ecolyzer_otel.sensors.amdgpu import open_amdgpu
from ecolyzer_otel.sensors.base import Absence, Reading, Reason, Sensor, SensorError, SensorInfo, Usage
from ecolyzer_otel.sensors.integrate import CheckedEnergy
from ecolyzer_otel.sensors.nvml_usage import DeviceBusy

__all__ = ["AmdGpu", "open_amd"]

_MICRO: Final = 1e-6
#: No comparison with an external meter is published: as for NVML without a source.
_UNCERTAINTY: Final = 0.10

_NO_DRIVER: Final = "load the module amdgpu; in a container pass /dev/kfd and /dev/dri"
_NO_PERMISSION: Final = "add this user to the groups render and video, or run the node agent (ecolyzer agent)"
_UNSUPPORTED: Final = "no action is possible: this GPU, driver or virtual machine does not report it"
_OTHER: Final = "see the kernel log (dmesg); the meter opens the GPU again"
#: amdsmi_status_t (amdsmi.h) -> reason and remedy.
_ERRORS: Final[dict[int, tuple[Reason, str]]] = {
    2: ("absent", _UNSUPPORTED),  # NOT_SUPPORTED
    3: ("absent", _UNSUPPORTED),  # NOT_YET_IMPLEMENTED
    5: ("absent", _UNSUPPORTED),  # FAIL_LOAD_SYMBOL
    10: ("permission", _NO_PERMISSION),  # NO_PERM
    34: ("absent", _NO_DRIVER),  # DRIVER_NOT_LOADED
    40: ("absent", _UNSUPPORTED),  # NO_DATA
}
_UNSUPPORTED_CODES: Final = frozenset({2, 3, 5, 40})
_CLOSED_CODES: Final = frozenset({32, 34})  # NOT_INIT, DRIVER_NOT_LOADED: opened again
#: Bits of indep_throttle_status (kernel: amdgpu/inc/amdgpu_smu.h, SMU_THROTTLER_*): power, current, temperature.
_THROTTLERS: Final = ((0xFFFF, "power_cap"), (0xFFFF << 16, "current"), (0xFFFF << 32, "thermal"))


class AmdGpu(Sensor):
    """One AMD GPU.

    Args:
        smi: the module ``amdsmi``, initialised.
        index: its index among the processor handles.
        info: the properties that :func:`open_amd` found.
        clock: monotonic nanoseconds.
    """

    def __init__(self, smi: Any, index: int, info: SensorInfo, clock: Callable[[], int]) -> None:
        self._smi = smi
        self._index = index
        self._info = info
        self._clock = clock
        self._handle: Any = None
        self._energy = CheckedEnergy()
        self._busy = DeviceBusy()
        self._unsupported: set[str] = set()
        self._celsius: float | None = None
        self._throttled: frozenset[str] | None = None

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor; its uncertainty grows once the counter has turned out to be wrong."""
        self._info = self._energy.revised(self._info)
        return self._info

    def read(self) -> Reading:
        """Returns the joules of the counter, or those integrated since the first read.

        Raises:
            SensorError: ``permission``, ``absent`` or ``io``. The next read looks up the handle again.
        """
        try:
            if self._handle is None:
                self._handle = _handles(self._smi)[self._index]
            watts = self._power() if self._energy.wants_power else None
            counter = self._counter() if self._energy.wants_counter else None
        except IndexError as error:
            raise SensorError("absent", f"{self._info.description}: not found", _NO_DRIVER) from error
        except SensorError as error:
            self._handle = None
            self._energy.recheck()
            if _code(error.__cause__) in _CLOSED_CODES:
                with contextlib.suppress(Exception):  # the driver may be unloaded
                    self._smi.amdsmi_shut_down()
                    self._smi.amdsmi_init()
            raise
        t_ns = self._clock()
        joules = self._energy.add(t_ns, counter, watts)
        if joules is None:
            problem = f"{self._info.description}: amdsmi reports neither energy nor power"
            raise SensorError("absent", problem, _UNSUPPORTED)
        self._read_details(t_ns)
        return Reading(t_ns, joules, self._busy.utilization)

    def celsius(self) -> float | None:
        """Returns the hotspot temperature in degrees Celsius at the last read, else the edge's; None if unknown."""
        return self._celsius

    def usage(self) -> Usage | None:
        """Returns the busy time of the GPU. amdsmi has no reliable busy time of compute by process."""
        return None if self._busy.seconds is None else Usage(self._busy.seconds)

    def throttled(self) -> frozenset[str] | None:
        """Returns the reasons for throttling: ``power_cap``, ``current``, ``thermal``, or only ``throttled``."""
        return self._throttled

    def faults(self) -> Mapping[str, int]:
        """Returns ``counter_stuck`` or ``counter_implausible`` if power contradicts the counter; ``gap``."""
        return self._energy.faults()

    def close(self) -> None:
        """Do nothing: the library is shared and stays loaded."""

    def _counter(self) -> float | None:
        answer = self._query("energy", "amdsmi_get_energy_count")
        if answer is None:
            return None
        raw = answer.get("energy_accumulator", answer.get("power"))  # its name before ROCm 6.1
        return None if raw is None else float(raw) * float(answer["counter_resolution"]) * _MICRO

    def _power(self) -> float | None:
        answer = self._query("power", "amdsmi_get_power_info") or {}
        # MI300 has the current socket power, MI200 and older have the average one; ROCm 7 has one key for both.
        return next(filter(None, (_watts(answer.get(key)) for key in _POWERS)), None)

    def _query(self, feature: str, function: str, *arguments: Any) -> Any:
        if feature in self._unsupported:
            return None
        try:
            return getattr(self._smi, function)(self._handle, *arguments)
        except Exception as error:  # whatever a vendor library raises
            if _code(error) in _UNSUPPORTED_CODES or isinstance(error, AttributeError):
                self._unsupported.add(feature)
                return None
            raise _map(error, self._info.description) from error

    def _query_optional(self, feature: str, function: str, *arguments: Any) -> Any:
        try:
            return self._query(feature, function, *arguments)
        except SensorError as error:
            if error.reason == "permission":
                self._unsupported.add(feature)
            return None

    def _read_details(self, t_ns: int) -> None:
        """Read temperature, utilisation and throttling. None of these fails a reading."""
        kinds, metric = self._smi.AmdSmiTemperatureType, self._smi.AmdSmiTemperatureMetric.CURRENT
        for kind in (kinds.HOTSPOT, kinds.EDGE):
            celsius = self._query_optional(f"temperature {kind}", "amdsmi_get_temp_metric", kind, metric)
            if celsius is not None:
                self._celsius = float(celsius)
                break
        busy = (self._query_optional("activity", "amdsmi_get_gpu_activity") or {}).get("gfx_activity")
        if _is_number(busy):
            self._busy.add_rate(t_ns, float(busy))
        self._throttled = _reasons(self._query_optional("metrics", "amdsmi_get_gpu_metrics_info"))


_POWERS: Final = ("current_socket_power", "socket_power", "average_socket_power")


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number; amdsmi returns "N/A" for unknown values."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _watts(value: Any) -> float | None:
    # Some versions return 0xFFFF and 0xFFFFFFFF for unknown values.
    return float(value) if _is_number(value) and 0 < value < 0xFFFF else None


def _reasons(metrics: Any) -> frozenset[str] | None:
    if not isinstance(metrics, dict):
        return None
    independent, status = metrics.get("indep_throttle_status"), metrics.get("throttle_status")
    if _is_number(independent) and independent != 0xFFFFFFFFFFFFFFFF:
        return frozenset(word for mask, word in _THROTTLERS if int(independent) & mask)
    values = [value for value in (independent, status) if isinstance(value, bool) or _is_number(value)]
    return (frozenset({"throttled"}) if any(values) else frozenset()) if values else None


def _code(error: BaseException | None) -> int | None:
    code = getattr(error, "err_code", None)
    return code if isinstance(code, int) else None


def _map(error: Exception, what: str) -> SensorError:
    reason, remedy = _ERRORS.get(_code(error) or -1, ("io", _OTHER))
    return SensorError(reason, f"{what}: {' '.join(str(error).split()) or type(error).__name__}", remedy)


def _handles(smi: Any) -> list[Any]:
    try:
        return list(smi.amdsmi_get_processor_handles())
    except Exception as error:
        raise _map(error, "amdsmi") from error


def open_amd(
    sysfs: str | Path = "/sys", first: int = 0, clock: Callable[[], int] = time.monotonic_ns
) -> tuple[list[Sensor], list[Absence]]:
    """Returns the AMD GPUs that can be read, and the absences of the others.

    Args:
        sysfs: root of the sysfs tree, which is used if amdsmi is not installed.
        first: number of the first GPU; above 0 if there are GPUs of another vendor.
        clock: monotonic nanoseconds.

    Returns:
        Sensors ``gpu0`` …; absences with reason and remedy.
    """
    smi, absence = _load()
    if smi is not None:
        return _open(smi, first, clock)
    sensors, absences = open_amdgpu(sysfs, first, clock)
    # A missing amdsmi matters only if the kernel's files have no GPU either.
    return sensors, absences if sensors or absences or absence is None else [absence]


def _load() -> tuple[Any, Absence | None]:
    try:
        # Without ROCm's library the package prints to stdout before it fails.
        with contextlib.redirect_stdout(io.StringIO()):
            smi = importlib.import_module("amdsmi")
    except Exception as error:  # noqa: BLE001 - a package without its library raises KeyError
        missing = isinstance(error, ModuleNotFoundError)
        problem = (
            "the Python package amdsmi is not installed" if missing else f"amdsmi cannot be loaded ({error!r})"
        )
        remedy = "on a machine with an AMD GPU, install ROCm's amd-smi-lib and its Python package"
        return None, Absence("AMD", "absent", problem, remedy)
    try:
        smi.amdsmi_init()
    except Exception as error:  # noqa: BLE001 - whatever a vendor library raises
        return None, Absence.of("AMD", _map(error, "amdsmi"))
    return smi, None


def _open(smi: Any, first: int, clock: Callable[[], int]) -> tuple[list[Sensor], list[Absence]]:
    sensors: list[Sensor] = []
    absences: list[Absence] = []
    try:
        handles = _handles(smi)
    except SensorError as error:
        return [], [Absence.of("AMD", error)]
    if not handles:
        absences.append(Absence("AMD", "absent", "amdsmi shows no GPU", "no action is needed"))
    for index, handle in enumerate(handles):
        sensor = AmdGpu(smi, index, _describe(smi, handle, first + index), clock)
        try:
            sensor.read()
        except SensorError as error:
            absences.append(Absence.of(f"AMD GPU {index}", error))
        else:
            sensors.append(sensor)
    return sensors, absences


def _describe(smi: Any, handle: Any, number: int) -> SensorInfo:
    def ask(function: str, *arguments: Any) -> Any:
        try:
            return getattr(smi, function)(handle, *arguments)
        except Exception:  # noqa: BLE001 - a failed query means unknown
            return None

    name = (ask("amdsmi_get_gpu_asic_info") or {}).get("market_name") or "GPU"
    cap = (ask("amdsmi_get_power_cap_info") or {}).get("power_cap")
    hot = ask("amdsmi_get_temp_metric", smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CRITICAL)
    return SensorInfo(
        id=f"gpu{number}",
        component="gpu",
        method="measured",
        description=f"AMD {name} gpu{number}",
        power_limit_watts=float(cap) * _MICRO if _is_number(cap) and cap > 0 else None,
        temperature_limit_celsius=float(hot) if _is_number(hot) and hot > 0 else None,
        update_period_seconds=0.1,
        relative_uncertainty=_UNCERTAINTY,
        uuid=ask("amdsmi_get_gpu_device_uuid") or None,
    )
