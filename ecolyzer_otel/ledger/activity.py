"""Who was busy when: host, processes and devices as cumulative curves."""

from __future__ import annotations

from collections.abc import Iterable

from ecolyzer_otel.common.curve import Curve
from ecolyzer_otel.ledger.pools import Pools

__all__ = ["ActivityBook"]


class ActivityBook:
    """Cumulative busy seconds of the host's CPUs, of devices, and of processes.

    A process has the quantities ``cpu`` (all its threads), ``pool`` (native threads that Python's ``threading``
    does not know) and one per device. ``owners`` are the processes that own requests; all others are host.
    ``declared`` are the devices that any request ever told its kernels of.
    """

    def __init__(self) -> None:
        self.host = Curve()
        self.owners: set[int] = set()
        self.declared: set[str] = set()
        #: For whom native threads work.
        self.pools = Pools()
        self._devices: dict[str, Curve] = {}
        self._processes: dict[tuple[int, str], Curve] = {}
        self._quantities: set[str] = set()
        self._hosts: dict[str, Curve] = {}
        self._placed: dict[int, frozenset[str]] = {}

    def add_device(self, device: str, t_ns: int, seconds: float) -> None:
        """Busy seconds of ``device`` since an arbitrary start: the union of all kernels."""
        self._devices.setdefault(device, Curve()).add(t_ns, seconds)

    def add_process(self, pid: int, quantity: str, t_ns: int, seconds: float) -> None:
        """Cumulative seconds of one quantity of one process."""
        self._processes.setdefault((pid, quantity), Curve()).add(t_ns, seconds)
        self._quantities.add(quantity)

    def add_host_of(self, sensor: str, t_ns: int, seconds: float) -> None:
        """Busy CPU seconds of the part of the host that one sensor measures: a processor package."""
        self._hosts.setdefault(sensor, Curve()).add(t_ns, seconds)

    def place(self, pid: int, sensors: Iterable[str] | None) -> None:
        """A process runs only where these sensors measure; None: it may run anywhere."""
        if sensors is None:
            self._placed.pop(pid, None)
        else:
            self._placed[pid] = frozenset(sensors)

    @property
    def knows_places(self) -> bool:
        """Whether any process is known to be confined to a package."""
        return bool(self._placed)

    def part_on(self, pid: int, sensor: str, start_ns: int, end_ns: int) -> float:
        """Part of a process' CPU time that is taken to have run where ``sensor`` measures, 0 to 1.

        Of one that is placed all or nothing. Of others 1: several packages divide alike; but where some are placed,
        as much as this package did of all that those did not.
        """
        placed = self._placed.get(pid)
        here = self._package(sensor, start_ns, end_ns)
        if here is None:
            return 1.0
        if placed is not None:
            return 1.0 if sensor in placed else 0.0
        ours, all_placed = 0.0, 0.0
        for one, sensors in self._placed.items():
            seconds = self.process(one, "cpu", start_ns, end_ns)
            all_placed += seconds
            ours += seconds if sensor in sensors else 0.0
        others = self.host.growth(start_ns, end_ns) - all_placed
        return min(1.0, max(0.0, here.growth(start_ns, end_ns) - ours) / others) if others > 0.0 else 1.0

    def may_run_on(self, pid: int, sensor: str, start_ns: int, end_ns: int) -> bool:
        """Whether a process may run where ``sensor`` measures, as far as that is known over the interval."""
        placed = self._placed.get(pid)
        return placed is None or sensor in placed or self._package(sensor, start_ns, end_ns) is None

    def host_seconds(self, sensor: str, start_ns: int, end_ns: int) -> float:
        """Busy CPU seconds where ``sensor`` measures: of its package where that matters and is known, else all."""
        return (self._package(sensor, start_ns, end_ns) or self.host).growth(start_ns, end_ns)

    def _package(self, sensor: str, start_ns: int, end_ns: int) -> Curve | None:
        """The clock of a sensor's package, if anybody is confined to one and it is known over the interval."""
        here = self._hosts.get(sensor) if self._placed else None
        return here if here is not None and here.covers(start_ns, end_ns) else None

    def device(self, device: str, start_ns: int, end_ns: int) -> float:
        """Busy seconds of ``device`` in the interval; 0.0 when unknown."""
        curve = self._devices.get(device)
        return curve.growth(start_ns, end_ns) if curve else 0.0

    def process(self, pid: int, quantity: str, start_ns: int, end_ns: int) -> float:
        """Seconds of one quantity of one process in the interval; 0.0 when unknown."""
        curve = self._processes.get((pid, quantity))
        return curve.growth(start_ns, end_ns) if curve else 0.0

    def curve(self, pid: int, quantity: str) -> Curve | None:
        """The samples of one quantity of one process."""
        return self._processes.get((pid, quantity))

    def processes_of(self, quantity: str) -> list[int]:
        """The processes of which ``quantity`` is known."""
        return [pid for pid, name in self._processes if name == quantity]

    def knows_device(self, device: str) -> bool:
        """Whether anything tells who uses ``device``, so that silence means that a request does not."""
        return device in self.declared or self.knows_others(device)

    def knows_others(self, device: str) -> bool:
        """Whether anything but requests tells who uses ``device``."""
        return device in self._devices or device in self._quantities

    def forget_before(self, t_ns: int) -> None:
        """Drop what no interval from ``t_ns`` on can need."""
        for curve in (
            self.host,
            *self._hosts.values(),
            *self._devices.values(),
            *self._processes.values(),
        ):
            curve.forget_before(t_ns)

    def forget_process(self, pid: int) -> None:
        """Drop a process that is gone and whose intervals are closed."""
        self.owners.discard(pid)
        self.pools.forget(pid)
        self._placed.pop(pid, None)
        for key in [key for key in self._processes if key[0] == pid]:
            del self._processes[key]
