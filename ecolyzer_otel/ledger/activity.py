"""Activity of host, processes and devices over time, as cumulative curves."""

from __future__ import annotations

from collections.abc import Iterable

from ecolyzer_otel.common.curve import Curve
from ecolyzer_otel.ledger.pools import Pools

__all__ = ["Activity"]


class Activity:
    """Cumulative busy seconds of the host's CPUs, of devices, and of processes.

    A process has the quantities ``cpu`` (all its threads), ``pool`` (native threads that Python's ``threading``
    does not list) and one per device.

    Attributes:
        host: busy CPU seconds of the host.
        owners: the processes that own requests; all others are host.
        declared: the devices for which any request has reported its kernels.
        pools: the use of native pool threads by kind of request.
    """

    def __init__(self) -> None:
        self.host = Curve()
        self.owners: set[int] = set()
        self.declared: set[str] = set()
        self.pools = Pools()
        self._devices: dict[str, Curve] = {}
        self._processes: dict[tuple[int, str], Curve] = {}
        self._quantities: set[str] = set()
        self._hosts: dict[str, Curve] = {}
        self._placed: dict[int, frozenset[str]] = {}

    def add_device(self, device: str, t_ns: int, seconds: float) -> None:
        """Add a sample of a device: cumulative seconds during which any kernel ran, since an arbitrary start."""
        self._devices.setdefault(device, Curve()).add(t_ns, seconds)

    def add_process(self, pid: int, quantity: str, t_ns: int, seconds: float) -> None:
        """Add a sample of one quantity of one process, in cumulative seconds."""
        self._processes.setdefault((pid, quantity), Curve()).add(t_ns, seconds)
        self._quantities.add(quantity)

    def add_host_of(self, sensor: str, t_ns: int, seconds: float) -> None:
        """Add a sample of the busy CPU seconds of the processor package that a sensor measures."""
        self._hosts.setdefault(sensor, Curve()).add(t_ns, seconds)

    def place(self, pid: int, sensors: Iterable[str] | None) -> None:
        """Set the only sensors that measure a process; None if it may run anywhere."""
        if sensors is None:
            self._placed.pop(pid, None)
        else:
            self._placed[pid] = frozenset(sensors)

    @property
    def has_placements(self) -> bool:
        """Whether any process is confined to a package."""
        return bool(self._placed)

    def part_on(self, pid: int, sensor: str, start_ns: int, end_ns: int) -> float:
        """Returns the part of a process' CPU time that is attributed to the package of ``sensor``, 0 to 1.

        A placed process has 1 on its own package and 0 elsewhere. Any other process has 1 on every package, so that
        all packages divide alike. Where some processes are placed, it has the part of the unplaced CPU time that
        this package ran.
        """
        placed = self._placed.get(pid)
        here = self._package(sensor, start_ns, end_ns)
        if here is None:
            return 1.0
        if placed is not None:
            return 1.0 if sensor in placed else 0.0
        placed_here, all_placed = 0.0, 0.0
        for one, sensors in self._placed.items():
            seconds = self.process(one, "cpu", start_ns, end_ns)
            all_placed += seconds
            placed_here += seconds if sensor in sensors else 0.0
        others = self.host.growth(start_ns, end_ns) - all_placed
        return min(1.0, max(0.0, here.growth(start_ns, end_ns) - placed_here) / others) if others > 0.0 else 1.0

    def may_run_on(self, pid: int, sensor: str, start_ns: int, end_ns: int) -> bool:
        """Whether a process may have run on the package of ``sensor``; True if that is unknown in the interval."""
        placed = self._placed.get(pid)
        return placed is None or sensor in placed or self._package(sensor, start_ns, end_ns) is None

    def host_seconds(self, sensor: str, start_ns: int, end_ns: int) -> float:
        """Returns the busy CPU seconds of the sensor's package where processes are placed, else of the host."""
        return (self._package(sensor, start_ns, end_ns) or self.host).growth(start_ns, end_ns)

    def _package(self, sensor: str, start_ns: int, end_ns: int) -> Curve | None:
        """The curve of a sensor's package if any process is placed and samples cover the interval."""
        here = self._hosts.get(sensor) if self._placed else None
        return here if here is not None and here.covers(start_ns, end_ns) else None

    def device(self, device: str, start_ns: int, end_ns: int) -> float:
        """Returns the busy seconds of ``device`` in the interval; 0.0 when unknown."""
        curve = self._devices.get(device)
        return curve.growth(start_ns, end_ns) if curve else 0.0

    def process(self, pid: int, quantity: str, start_ns: int, end_ns: int) -> float:
        """Returns the seconds of one quantity of one process in the interval; 0.0 when unknown."""
        curve = self._processes.get((pid, quantity))
        return curve.growth(start_ns, end_ns) if curve else 0.0

    def curve(self, pid: int, quantity: str) -> Curve | None:
        """Returns the samples of one quantity of one process."""
        return self._processes.get((pid, quantity))

    def processes_of(self, quantity: str) -> list[int]:
        """Returns the processes that have samples of ``quantity``."""
        return [pid for pid, name in self._processes if name == quantity]

    def identifies_users(self, device: str) -> bool:
        """Whether any source reports who uses ``device``; then a request without kernels there does not use it."""
        return device in self.declared or self.has_usage(device)

    def has_usage(self, device: str) -> bool:
        """Whether a source other than the requests reports the use of ``device``."""
        return device in self._devices or device in self._quantities

    def forget_before(self, t_ns: int) -> None:
        """Drop the samples that no interval from ``t_ns`` on can need."""
        for curve in (
            self.host,
            *self._hosts.values(),
            *self._devices.values(),
            *self._processes.values(),
        ):
            curve.forget_before(t_ns)

    def forget_process(self, pid: int) -> None:
        """Drop a process that has ended and whose intervals are closed."""
        self.owners.discard(pid)
        self.pools.forget(pid)
        self._placed.pop(pid, None)
        for key in [key for key in self._processes if key[0] == pid]:
            del self._processes[key]
