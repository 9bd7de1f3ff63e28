"""The sensor interface: a cumulative counter of joules for one hardware component.

A sensor returns its counter as it is, neither unwrapped nor smoothed; the ledger does the arithmetic. Errors of
vendor libraries and of the operating system are mapped to one :class:`SensorError`. Its ``reason`` separates
``permission`` from ``absent``, and its ``remedy`` states what to do.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ecolyzer_otel.common.errors import EcolyzerError

__all__ = ["Absence", "Component", "Method", "Reading", "Reason", "Sensor", "SensorError", "SensorInfo", "Usage"]

Component = Literal["cpu", "gpu", "dram"]
Method = Literal["measured", "modelled"]
#: ``range``: the counter gave a value that it cannot hold; ``ended``: a recording is over.
Reason = Literal["permission", "absent", "io", "range", "ended"]

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO)


class SensorError(EcolyzerError):
    """A failed reading. ``str()`` is one line: the problem, then the remedy.

    Attributes:
        reason: ``permission``, ``absent``, ``io``, ``range`` or ``ended``.
        problem: what failed.
        remedy: what the user can do about it.
    """

    def __init__(self, reason: Reason, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.reason: Reason = reason
        self.problem = problem
        self.remedy = remedy

    @classmethod
    def from_os(cls, error: OSError, path: object, *, permission: str, absent: str) -> SensorError:
        """Returns the operating system's ``error`` on ``path``, with the remedy for its reason."""
        if isinstance(error, PermissionError):
            return cls("permission", f"{path}: permission denied", permission)
        if error.errno in _ABSENT:
            return cls("absent", f"{path}: not found", absent)
        return cls("io", f"{path}: cannot be read ({error.strerror or error})", "see the kernel log (dmesg)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorInfo:
    """The properties of a sensor.

    Attributes:
        id: unique; the label ``device`` or ``sensor`` (``package-0``, ``dram-0``, ``cpu``, ``gpu0``).
        component: the component that the joules belong to.
        method: ``measured`` by a counter or ``modelled`` from utilisation.
        description: human-readable name (``RAPL package-0``).
        idle_watts: idle power; None if it has to be learned.
        idle_prior_watts: idle power according to tables, used until it is learned; None if unknown.
        wrap_joules: the counter restarts from 0 here; None if it does not wrap.
        power_limit_watts: the sustained power limit, None if unknown.
        peak_watts: the highest power for seconds, or after the limit is raised; None if unknown.
        temperature_limit_celsius: the temperature at which the component protects itself, None if unknown.
        update_period_seconds: how often the counter is updated.
        relative_uncertainty: one standard uncertainty of the gain (0.03 = 3 %).
        longest_gap_seconds: joules between two reads further apart than this are unknown, because power is
            integrated; None for a real counter, which keeps them.
        uuid: the device's name in CUDA (``GPU-…``), None if unknown.
        partitions: UUID of each MIG instance of the device, and its fraction of the device's compute slices.
    """

    id: str
    component: Component
    method: Method
    description: str
    idle_watts: float | None = None
    idle_prior_watts: float | None = None
    wrap_joules: float | None = None
    power_limit_watts: float | None = None
    peak_watts: float | None = None
    temperature_limit_celsius: float | None = None
    update_period_seconds: float
    relative_uncertainty: float
    longest_gap_seconds: float | None = None
    uuid: str | None = None
    partitions: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a counter.

    Attributes:
        t_ns: ``time.monotonic_ns`` at the time of the read.
        joules: the cumulative counter as it is, wraps and resets included.
        utilization: busy part of the component since the last read, 0 to 1, None if unknown.
    """

    t_ns: int
    joules: float
    utilization: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of a device so far.

    Attributes:
        busy_seconds: cumulative seconds during which anything ran on it, None if unknown.
        processes: cumulative busy seconds by PID, in the PID namespace of this process; empty if unknown.
    """

    busy_seconds: float | None = None
    processes: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absence:
    """A sensor that is not used, and the reason.

    Attributes:
        name: the sensor or family (``RAPL``, ``RAPL package-1``).
        reason: as in :class:`SensorError`; ``absent`` is not a fault.
        message: the problem, without the remedy.
        remedy: what the user can do about it.
        expected: True if the user named it, or its hardware is present.
    """

    name: str
    reason: Reason
    message: str
    remedy: str
    expected: bool = False

    @classmethod
    def of(cls, name: str, error: SensorError) -> Absence:
        """Returns the absence of ``name`` because of ``error``."""
        return cls(name, error.reason, error.problem, error.remedy)

    @property
    def worth_reporting(self) -> bool:
        """Whether it is reported to the user. A sensor that this machine simply does not have is not."""
        return self.expected or self.reason != "absent"

    def __str__(self) -> str:
        return f"{self.name}: {self.message}; {self.remedy}"


class Sensor(ABC):
    """A source of cumulative joules. Not thread-safe: one thread reads it."""

    @property
    @abstractmethod
    def info(self) -> SensorInfo:
        """The properties of the sensor."""

    @abstractmethod
    def read(self) -> Reading:
        """Returns the counter now.

        Raises:
            SensorError: the reading failed. Nothing else is raised, and the next call tries again.
        """

    def celsius(self) -> float | None:
        """Returns the component's temperature in degrees Celsius, None if unknown. Never raises."""
        return None

    def usage(self) -> Usage | None:
        """Returns the component's use up to the last :meth:`read`, None if unknown. Never raises."""
        return None

    def throttled(self) -> frozenset[str] | None:
        """Returns why the component was throttled at the last :meth:`read` (``power_cap``).

        Empty if it was not throttled, None if unknown. Never raises.
        """
        return None

    def faults(self) -> Mapping[str, int]:
        """Returns the faults so far that did not fail a read: counts by reason, which only grow. Never raises."""
        return {}

    def close(self) -> None:  # noqa: B027 - most sensors hold nothing
        """Close the descriptors. The next read opens them again."""
