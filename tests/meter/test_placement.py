"""Where workers run: affinity, the packages of sysfs and the CPU lines of /proc/stat, on a host of two sockets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ecolyzer_otel.ledger import Activity
from ecolyzer_otel.meter.placement import Placement

pytestmark = pytest.mark.slow

S = 1_000_000_000
TICK = os.sysconf("SC_CLK_TCK")
SENSORS = ["package-0", "package-1", "dram-1", "gpu0"]

#: Package of each CPU, interleaved as on real machines.
CPUS = {0: 0, 1: 1, 2: 0, 3: 1}


class Host:
    """A tree of files as the kernel would show it, and the affinity of processes."""

    def __init__(self, root: Path, packages: dict[int, int]) -> None:
        self.sysfs, self.procfs = root / "sys", root / "proc"
        self.procfs.mkdir()
        for cpu, package in packages.items():
            topology = self.sysfs / f"devices/system/cpu/cpu{cpu}/topology"
            topology.mkdir(parents=True)
            (topology / "physical_package_id").write_text(f"{package}\n")
        (self.sysfs / "devices/system/cpu/cpufreq").mkdir()
        (self.sysfs / "devices/system/cpu/cpuidle").mkdir()
        self.affinity: dict[int, set[int]] = {}
        self.asked = 0
        self.busy(dict.fromkeys(packages, 0.0))

    def busy(self, seconds: dict[int, float]) -> None:
        """Busy seconds by CPU: half user, half system, beside idle and other times that do not count."""
        lines = ["cpu  9 9 9 9 9 9 9 9 9 9"]
        for cpu, busy in seconds.items():
            half = round(busy * TICK / 2)
            lines.append(f"cpu{cpu} {half} 0 {half} 777 888 0 0 0 555 0")
        (self.procfs / "stat").write_text("\n".join([*lines, "intr 1 2 3", "ctxt 4"]) + "\n")

    def getaffinity(self, pid: int) -> set[int]:
        self.asked += 1
        if pid not in self.affinity:
            raise ProcessLookupError(pid)
        return self.affinity[pid]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    one = Host(tmp_path, CPUS)
    monkeypatch.setattr(os, "sched_getaffinity", one.getaffinity)
    return one


def placement(host: Host, sensors: list[str] = SENSORS) -> Placement:
    return Placement(sensors, host.sysfs, host.procfs)


def part(book: Activity, number: int, sensor: str, end_ns: int = S) -> float:
    return book.part_on(number, sensor, 0, end_ns)


def test_busy_seconds_are_told_by_package_while_a_worker_is_confined(host: Host) -> None:
    one, book = placement(host), Activity()
    host.affinity[4242] = {1, 3}
    one.sample(0, book, [(1, 4242)])
    host.busy({0: 1.0, 1: 4.0, 2: 2.0, 3: 8.0})
    one.sample(S, book, [(1, 4242)])
    # CPUs 0 and 2, CPUs 1 and 3; memory as its package.
    assert book.host_seconds("package-0", 0, S) == pytest.approx(3.0)
    assert book.host_seconds("package-1", 0, S) == pytest.approx(12.0)
    assert book.host_seconds("dram-1", 0, S) == pytest.approx(12.0)


def test_user_nice_system_and_interrupts_are_busy_idle_waiting_stolen_and_guests_are_not(host: Host) -> None:
    one, book = placement(host), Activity()
    host.affinity[4242] = {0}
    one.sample(0, book, [(1, 4242)])
    #                          user nice system idle iowait irq softirq steal guest guest_nice
    (host.procfs / "stat").write_text(
        " ".join(["cpu0", *[str(TICK * n) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)]])
    )
    one.sample(S, book, [(1, 4242)])
    assert book.host_seconds("package-0", 0, S) == pytest.approx(1 + 2 + 4 + 32 + 64)


def test_a_worker_that_is_pinned_to_one_package_is_placed_there_with_its_memory(host: Host) -> None:
    one, book = placement(host), Activity()
    host.affinity.update({4242: {1, 3}, 4343: {0}})
    for t in (0, S):
        one.sample(t, book, [(1, 4242), (2, 4343)])
    assert [part(book, 1, name) for name in ("package-0", "package-1", "dram-1")] == [0.0, 1.0, 1.0]
    assert [part(book, 2, name) for name in ("package-0", "package-1", "dram-1")] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "cpus", [{0, 1, 2, 3}, {2, 3}, {0, 7}, set()], ids=["all", "one-each", "unknown-cpu", "none"]
)
def test_a_worker_that_may_run_on_several_packages_is_not_placed(host: Host, cpus: set[int]) -> None:
    one, book = placement(host), Activity()
    host.affinity[4242] = cpus
    one.sample(0, book, [(1, 4242)])
    assert not book.has_placements


def test_while_nobody_is_confined_no_busy_time_is_read(host: Host) -> None:
    one, book = placement(host), Activity()
    host.affinity[4242] = {0, 1}
    for t in (0, S):
        one.sample(t, book, [(1, 4242)])
    book.host.add(0, 0.0)
    book.host.add(S, 5.0)
    assert book.host_seconds("package-0", 0, S) == 5.0, "that of the whole host"


@pytest.mark.parametrize("pid", [0, 999], ids=["unknown", "gone"])
def test_a_worker_of_which_nobody_knows_is_not_placed(host: Host, pid: int) -> None:
    one, book = placement(host), Activity()
    one.sample(0, book, [(1, pid)])
    assert not book.has_placements


def test_a_package_without_a_sensor_places_nobody(host: Host) -> None:
    one, book = placement(host, ["package-0", "package-2"]), Activity()
    host.affinity[4242] = {1}
    one.sample(0, book, [(1, 4242)])
    assert not book.has_placements


def test_affinity_is_asked_for_once_a_second_and_may_change(host: Host) -> None:
    one, book = placement(host), Activity()
    host.affinity[4242] = {1}
    for ms in range(0, 1000, 100):
        one.sample(ms * 1_000_000, book, [(1, 4242)])
    assert host.asked == 1
    host.affinity[4242] = {0, 1}
    one.sample(S, book, [(1, 4242)])
    assert host.asked == 2
    assert not book.has_placements


def test_a_stat_file_that_is_gone_or_cut_short_tells_nothing(host: Host) -> None:
    one, book = placement(host), Activity()
    host.affinity[4242] = {1}
    one.sample(0, book, [(1, 4242)])
    (host.procfs / "stat").write_text(f"cpu1 {3 * TICK} 0\n\ncpu\n")
    one.sample(S, book, [(1, 4242)])
    assert book.host_seconds("package-1", 0, S) == pytest.approx(3.0)
    (host.procfs / "stat").unlink()
    one.sample(2 * S, book, [(1, 4242)])
    book.host.add(0, 0.0)
    book.host.add(2 * S, 5.0)
    assert book.host_seconds("package-1", 0, 2 * S) == 5.0, "unknown: that of the whole host"


@pytest.mark.parametrize("sensors", [["package-0"], ["package-0", "dram-0", "gpu0"], ["gpu0", "gpu1"], []], ids=str)
def test_hosts_with_one_measured_package_do_nothing(host: Host, sensors: list[str]) -> None:
    one, book = placement(host, sensors), Activity()
    host.affinity[4242] = {0}
    one.sample(0, book, [(1, 4242)])
    assert (host.asked, book.has_placements) == (0, False)


def test_a_host_without_sysfs_does_nothing(tmp_path: Path, host: Host) -> None:
    one, book = Placement(SENSORS, tmp_path / "nothing", host.procfs), Activity()
    one.sample(0, book, [(1, 4242)])
    assert (host.asked, book.has_placements) == (0, False)
