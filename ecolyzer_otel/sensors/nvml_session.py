"""The NVML library: loaded lazily, its errors mapped, opened again after a driver reload."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ecolyzer_otel.common.backoff import Backoff
from ecolyzer_otel.sensors.base import Absence, Reason, SensorError, SensorInfo

__all__ = ["REOPEN_WAITS_NS", "NvmlError", "NvmlSession", "samples"]

_NO_BINDING: Final = "on a machine with an NVIDIA GPU, pip install nvidia-ml-py (or ecolyzer-otel[nvidia])"
_NO_DRIVER: Final = (
    "no action is needed without an NVIDIA GPU; start a container with --gpus (NVIDIA Container Toolkit)"
)
_NO_PERMISSION: Final = (
    "give this user access to /dev/nvidiactl and /dev/nvidia*, or run the node agent (ecolyzer agent)"
)
_UNSUPPORTED: Final = "no action is possible: this GPU or driver does not report it"
_MISMATCH: Final = "the driver was updated while it was loaded: reload the nvidia module or reboot"
_LOST: Final = "see the kernel log (dmesg, Xid); the meter opens the GPU again"

#: nvmlReturn_t (nvml.h) -> reason and remedy.
_ERRORS: Final[dict[int, tuple[Reason, str]]] = {
    3: ("absent", _UNSUPPORTED),  # NOT_SUPPORTED
    4: ("permission", _NO_PERMISSION),  # NO_PERMISSION
    6: ("absent", _UNSUPPORTED),  # NOT_FOUND
    9: ("absent", _NO_DRIVER),  # DRIVER_NOT_LOADED
    12: ("absent", _NO_DRIVER),  # LIBRARY_NOT_FOUND
    13: ("absent", _UNSUPPORTED),  # FUNCTION_NOT_FOUND
    18: ("io", _MISMATCH),  # LIB_RM_VERSION_MISMATCH
    28: ("absent", _LOST),  # GPU_NOT_FOUND
}
#: The handle or the library is no longer valid: UNINITIALIZED, INVALID_ARGUMENT (an old handle), NOT_FOUND (by its
#: UUID), DRIVER_NOT_LOADED, GPU_IS_LOST, RESET_REQUIRED, LIB_RM_VERSION_MISMATCH, GPU_NOT_FOUND, UNKNOWN.
_LOST_CODES: Final = frozenset({1, 2, 6, 9, 15, 16, 18, 28, 999})
_UNSUPPORTED_CODES: Final = frozenset({3, 13})
#: First and longest wait before the library is opened again: with a broken driver this may take long.
REOPEN_WAITS_NS: Final = (1_000_000_000, 30_000_000_000)


class NvmlError(SensorError):
    """An error of NVML; ``code`` is its nvmlReturn_t, None for anything else that the binding raised."""

    code: int | None = None

    @property
    def lost(self) -> bool:
        """Whether opening the library again may help."""
        return self.code in _LOST_CODES

    @property
    def unsupported(self) -> bool:
        """Whether this GPU or driver does not support the function at all."""
        return self.code in _UNSUPPORTED_CODES


class NvmlSession:
    """One opened NVML, shared by the sensors of all its GPUs.

    Attributes:
        nvml: the module ``pynvml``.
        open: False when it has to be opened again.
        generation: increases each time that it is opened; handles of an earlier generation are invalid.
    """

    def __init__(self, nvml: Any, clock: Callable[[], int]) -> None:
        self.nvml = nvml
        self.open = False
        self.generation = 0
        self._clock = clock
        self._backoff = Backoff(*REOPEN_WAITS_NS)
        self._not_before_ns = 0
        self._last_error: SensorError | None = None

    @classmethod
    def start(cls, clock: Callable[[], int]) -> tuple[NvmlSession | None, Absence | None]:
        """Returns the opened library, or the absence that explains why there is none."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the older package of this name warns that it is deprecated
                nvml = importlib.import_module("pynvml")
        except Exception as error:  # noqa: BLE001 - a broken package must not stop the meter
            missing = isinstance(error, ModuleNotFoundError)
            problem = "the Python package nvidia-ml-py is not installed" if missing else f"pynvml: {error}"
            return None, Absence("NVML", "absent" if missing else "io", problem, _NO_BINDING)
        session = cls(nvml, clock)
        try:
            session.reopen()
        except SensorError as error:
            return None, Absence.of("NVML", error)
        return session, None

    def reopen(self) -> None:
        """Open the library if it is not.

        Raises:
            SensorError: it cannot be opened, or the last try was too recent.
        """
        if self.open:
            return
        if self._last_error is not None and self._clock() < self._not_before_ns:
            raise self._last_error
        try:
            self.nvml.nvmlInit()
        except Exception as error:
            self._not_before_ns = self._clock() + self._backoff.fail()
            self._last_error = _map(error, "nvmlInit", reopening=self.generation > 0)
            raise self._last_error from error
        self.open = True
        self.generation += 1
        self._backoff.succeed()
        self._last_error = None

    def drop(self) -> None:
        """Close the library; the next :meth:`reopen` opens it again."""
        if self.open:
            self.open = False
            with suppress(Exception):  # it may be lost already
                self.nvml.nvmlShutdown()

    def find(self, info: SensorInfo) -> Any:
        """Returns the present handle of a GPU: by UUID, because a reload of the driver may renumber GPUs.

        Raises:
            SensorError: the GPU is not found.
        """
        if info.uuid:
            return self.call("nvmlDeviceGetHandleByUUID", info.uuid.encode(), what=info.description)
        index = int(info.id.removeprefix("gpu"))
        return self.call("nvmlDeviceGetHandleByIndex", index, what=info.description)

    def call(self, function: str, *arguments: Any, what: str) -> Any:
        """Call a function of the binding.

        Raises:
            NvmlError: any error of the binding, mapped; its text begins with ``what``, the name of the device.
        """
        try:
            return getattr(self.nvml, function)(*arguments)
        except Exception as error:
            raise _map(error, f"{what}: {function.removeprefix('nvml')}") from error

    def call_or_none(self, function: str, *arguments: Any) -> Any:
        """As :meth:`call`, but returns None on any error."""
        try:
            return self.call(function, *arguments, what="NVML")
        except SensorError:
            return None


def samples(query: Callable[[], list[Any]]) -> list[Any] | None:
    """Returns the samples of a query: empty if there is no new one, None if samples are not supported.

    NVML returns NOT_FOUND if nothing happened since the timestamp, and the binding raises an error with the code of
    *success* if no process uses the GPU (it expects INSUFFICIENT_SIZE from its first call).
    """
    try:
        return query()
    except Exception as error:  # noqa: BLE001 - whatever a vendor library raises
        mapped = _map(error, "NVML")
        return None if mapped.unsupported or mapped.reason == "permission" else []


def _map(error: Exception, what: str, *, reopening: bool = False) -> NvmlError:
    """The error with reason and remedy; ``reopening`` is True if the driver had been loaded before."""
    value = getattr(error, "value", None)
    code = value if isinstance(value, int) else None
    reason, remedy = _ERRORS.get(-1 if code is None else code, ("io", _LOST))
    if reopening and remedy is _NO_DRIVER:
        remedy = _LOST
    mapped = NvmlError(reason, f"{what}: {' '.join(str(error).split()) or type(error).__name__}", remedy)
    mapped.code = code
    return mapped
