"""What every sensor is: a cumulative counter of joules for one hardware component.

A sensor hands on what its counter says, not unwrapped and not smoothed; the ledger does the arithmetic.
Whatever a vendor library or the operating system raises is mapped to one :class:`SensorError` whose
``reason`` tells "no permission" from "not there", and whose ``remedy`` says what to do.
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

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO)


class SensorError(EcolyzerError):
    """A reading that could not be had. ``str()`` is one line: what failed, and the remedy.

    Attributes:
        reason: ``permission``, ``absent``, ``io``, ``range`` or ``ended``.
        remedy: what the user can do about it.
    """

    def __init__(self, reason: Reason, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.reason: Reason = reason
        self.problem = problem
        self.remedy = remedy

    @classmethod
    def from_os(cls, error: OSError, path: object, *, permission: str, absent: str) -> SensorError:
        """The operating system's ``error`` on ``path``, with the remedy that belongs to its reason."""
        if isinstance(error, PermissionError):
            return cls("permission", f"{path}: no permission to read it", permission)
        if error.errno in _GONE:
            return cls("absent", f"{path}: is not there", absent)
        return cls("io", f"{path}: cannot be read ({error.strerror or error})", "see the kernel log (dmesg)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorInfo:
    """What does not change while a sensor lives.

    Attributes:
        id: unique; the label ``device`` or ``sensor`` (``package-0``, ``dram-0``, ``cpu``, ``gpu0``).
        component: what the joules belong to.
        method: ``measured`` by a counter or ``modelled`` from utilisation.
        description: for people (``RAPL package-0``).
        idle_watts: power with nothing to do, None when it has to be learned.
        idle_prior_watts: what tables say of it: taken until it is learned.
        wrap_joules: the counter starts again from 0 here; None if it does not.
        power_limit_watts: what the component may draw for long, None if unknown.
        peak_watts: what it may draw for seconds or be set to, None if unknown.
        temperature_limit_celsius: where the component protects itself, None if unknown.
        update_period_seconds: how often the counter moves.
        relative_uncertainty: one standard uncertainty of the gain (0.03 = 3 %).
        longest_gap_seconds: joules between two reads further apart than this are not known (a power that is
            integrated); None where the counter remembers, wraps aside.
        uuid: what CUDA calls the device (``GPU-…``), None if unknown.
        partitions: UUID of each MIG instance of the device, and its part of the device's compute slices.
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
    """One look at a counter.

    Attributes:
        t_ns: ``time.monotonic_ns`` taken next to the read.
        joules: the cumulative counter as it stands, wraps and resets included.
        utilization: busy part of the component since the last read, 0 to 1, None if unknown.
    """

    t_ns: int
    joules: float
    utilization: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Who used a device so far.

    Attributes:
        busy_seconds: cumulative seconds during which anything ran on it, None if unknown.
        processes: cumulative busy seconds by PID, as this process sees PIDs; empty where it may not be seen.
    """

    busy_seconds: float | None = None
    processes: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absence:
    """A sensor that is not used, and why: the null object of this package.

    Attributes:
        name: what was looked for (``RAPL``, ``RAPL package-1``).
        reason: as in :class:`SensorError`; ``absent`` is no fault, ``permission`` is worth a line.
        message: one sentence without the remedy.
        remedy: what the user can do about it.
        expected: it was asked for by name, or its hardware is there.
    """

    name: str
    reason: Reason
    message: str
    remedy: str
    expected: bool = False

    @classmethod
    def of(cls, name: str, error: SensorError) -> Absence:
        """The absence of ``name`` because of ``error``."""
        return cls(name, error.reason, error.problem, error.remedy)

    @property
    def worth_a_line(self) -> bool:
        """Whether the user should be told: that a machine has no such sensor is no fault."""
        return self.expected or self.reason != "absent"

    def __str__(self) -> str:
        return f"{self.name}: {self.message}; {self.remedy}"


class Sensor(ABC):
    """A source of cumulative joules. Not thread-safe: one poller reads it."""

    @property
    @abstractmethod
    def info(self) -> SensorInfo:
        """What does not change."""

    @abstractmethod
    def read(self) -> Reading:
        """The counter now.

        Raises:
            SensorError: and nothing else; the next call tries afresh.
        """

    def celsius(self) -> float | None:
        """Temperature of the component in degrees Celsius, None if unknown. Never raises."""
        return None

    def usage(self) -> Usage | None:
        """Who used the component, at the time of the last :meth:`read`; None where nothing tells. Never raises."""
        return None

    def throttled(self) -> frozenset[str] | None:
        """Why the component runs slower than it could at the last :meth:`read`, in words (``power_cap``).

        Empty if it does not, None where nothing tells. Never raises.
        """
        return None

    def faults(self) -> Mapping[str, int]:
        """What went wrong so far without failing a read, by reason: counts that only grow. Never raises."""
        return {}

    def close(self) -> None:  # noqa: B027 - most sensors hold nothing
        """Give descriptors back. A closed sensor may be read again: it opens afresh."""
