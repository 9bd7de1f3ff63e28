from __future__ import annotations

import time

import pytest

from ecolyzer_otel.sensors import HostCpu, SensorError

_CPUS = "".join(f"cpu{n} 1 1 1 1 1 1 1 1 1 1\n" for n in range(8))


def _stat(user=100, nice=20, system=50, idle=9_000, iowait=70, irq=3, softirq=7, steal=40, guest=30):
    return f"cpu  {user} {nice} {system} {idle} {iowait} {irq} {softirq} {steal} {guest} 0\n{_CPUS}intr 1"


@pytest.fixture
def proc(tree):
    """A procfs of 8 CPUs whose process is in the given control groups."""

    def make(groups: str = "0::/"):
        return tree("proc", {"stat": _stat(), "self/cgroup": groups})

    return make


def test_busy_leaves_out_idle_iowait_and_steal_and_counts_guest_once(proc, tmp_path):
    host = HostCpu(proc(), tmp_path / "none")
    assert host.busy_seconds() == pytest.approx(1.80)  # 100 + 20 + 50 + 3 + 7 ticks of 10 ms
    assert host.steal_seconds() == pytest.approx(0.40)
    assert (host.capacity_cpus, host.scope) == (8.0, "host")


def test_follows_the_file_through_the_held_descriptor(proc, tmp_path):
    procfs = proc()
    host = HostCpu(procfs, tmp_path / "none")
    host.busy_seconds()
    (procfs / "stat").write_text(_stat(user=250))
    assert host.busy_seconds() == pytest.approx(3.30)


def test_a_lost_stat_is_a_sensor_error_and_heals(proc, tmp_path):
    procfs = proc()
    host = HostCpu(procfs, tmp_path / "none")
    (procfs / "stat").unlink()
    with pytest.raises(SensorError, match="stat") as caught:
        host.busy_seconds()
    assert caught.value.reason == "absent"
    (procfs / "stat").write_text(_stat())
    assert host.busy_seconds() == pytest.approx(1.80)


def test_without_procfs_psutil_counts(tmp_path):
    host = HostCpu(tmp_path, tmp_path)
    before = host.busy_seconds()
    deadline = time.monotonic() + 60
    while host.busy_seconds() <= before and time.monotonic() < deadline:
        sum(range(10_000))
    assert host.busy_seconds() > before
    assert host.description == "psutil"


def test_v2_quota_of_the_own_group(proc, tree):
    cgroup = tree(
        "cgroup",
        {
            "cgroup.controllers": "cpu cpuset",
            "system.slice/app.service/cpu.max": "150000 100000",
            "system.slice/app.service/cpu.stat": "usage_usec 2500000\nuser_usec 2000000",
            "system.slice/app.service/cpuset.cpus.effective": "0-7",
            "system.slice/cpu.max": "max 100000",
            "cpuset.cpus.effective": "0-7",
        },
    )
    host = HostCpu(proc("0::/system.slice/app.service"), cgroup)
    assert (host.scope, host.capacity_cpus) == ("cgroup", 1.5)
    assert host.busy_seconds() == pytest.approx(2.5)
    assert "1.5 of 8 CPUs" in host.description


def test_v2_tighter_parent_brings_the_usage_of_all_who_share_it(proc, tree):
    cgroup = tree(
        "cgroup",
        {
            "cgroup.controllers": "cpu",
            "pod/cpu.max": "200000 100000",
            "pod/cpu.stat": "usage_usec 9000000",
            "pod/main/cpu.max": "400000 100000",
            "pod/main/cpu.stat": "usage_usec 1000000",
        },
    )
    host = HostCpu(proc("0::/pod/main"), cgroup)
    assert (host.capacity_cpus, host.busy_seconds()) == (2.0, pytest.approx(9.0))


def test_v2_of_equal_limits_the_outermost_counts(proc, tree):
    """A sidecar in the same pod keeps the same two CPUs busy."""
    cgroup = tree(
        "cgroup",
        {
            "cgroup.controllers": "cpu",
            "pod/cpu.max": "200000 100000",
            "pod/cpu.stat": "usage_usec 9000000",
            "pod/main/cpu.max": "200000 100000",
            "pod/main/cpu.stat": "usage_usec 1000000",
        },
    )
    host = HostCpu(proc("0::/pod/main"), cgroup)
    assert (host.capacity_cpus, host.busy_seconds()) == (2.0, pytest.approx(9.0))


def test_v2_cpuset_below_the_quota(proc, tree):
    cgroup = tree(
        "cgroup",
        {
            "cgroup.controllers": "cpu",
            "cpu.max": "600000 100000",  # a container with a namespace of its own sees its group as the root
            "cpu.stat": "usage_usec 42",
            "cpuset.cpus.effective": "0-1,5",
        },
    )
    host = HostCpu(proc("0::/"), cgroup)
    assert (host.scope, host.capacity_cpus, host.busy_seconds()) == ("cgroup", 3.0, pytest.approx(42e-6))


@pytest.mark.parametrize("path", ["/kubepods/pod1/abc", "/../other"])
def test_v2_path_that_is_not_mounted_here_means_the_root(proc, tree, path):
    files = {"cgroup.controllers": "cpu", "cpu.max": "100000 100000", "cpu.stat": "usage_usec 5000000"}
    host = HostCpu(proc(f"0::{path}"), tree("cgroup", files))
    assert (host.capacity_cpus, host.busy_seconds()) == (1.0, pytest.approx(5.0))


def test_a_quota_of_more_than_the_host_has_is_no_limit(proc, tree):
    files = {"cgroup.controllers": "cpu", "cpu.max": "1600000 100000", "cpu.stat": "usage_usec 5"}
    host = HostCpu(proc(), tree("cgroup", files))
    assert (host.scope, host.capacity_cpus) == ("host", 8.0)


def test_a_limit_without_usage_stays_with_the_host_and_says_so(proc, tree):
    host = HostCpu(proc(), tree("cgroup", {"cgroup.controllers": "cpu", "cpu.max": "200000 100000"}))
    assert (host.scope, host.capacity_cpus) == ("host", 8.0)
    assert host.busy_seconds() == pytest.approx(1.80)
    assert "usage cannot be read" in host.description


def test_scope_host_overrules_the_group(proc, tree):
    files = {"cgroup.controllers": "cpu", "cpu.max": "200000 100000", "cpu.stat": "usage_usec 5"}
    assert HostCpu(proc(), tree("cgroup", files), scope="host").capacity_cpus == 8.0


def test_a_group_that_goes_away_is_a_sensor_error(proc, tree):
    files = {"cgroup.controllers": "cpu", "cpu.max": "200000 100000", "cpu.stat": "usage_usec 5"}
    cgroup = tree("cgroup", files)
    host = HostCpu(proc(), cgroup)
    (cgroup / "cpu.stat").unlink()
    with pytest.raises(SensorError):
        host.busy_seconds()


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_v1_quota(proc, tree, mount):
    usage = "cpu,cpuacct" if mount == "cpu,cpuacct" else "cpuacct"
    cgroup = tree(
        "cgroup",
        {
            f"{mount}/docker/abc/cpu.cfs_quota_us": 50_000,
            f"{mount}/docker/abc/cpu.cfs_period_us": 100_000,
            f"{mount}/cpu.cfs_quota_us": -1,
            f"{mount}/cpu.cfs_period_us": 100_000,
            f"{usage}/docker/abc/cpuacct.usage": 7_250_000_000,
            f"{usage}/cpuacct.usage": 99_000_000_000,
            "cpuset/docker/abc/cpuset.cpus": "0-7",
        },
    )
    groups = f"5:cpuset:/docker/abc\n4:{mount}:/docker/abc\n3:{usage}:/docker/abc\n0::/"
    host = HostCpu(proc(groups), cgroup)
    assert (host.scope, host.capacity_cpus) == ("cgroup", 0.5)
    assert host.busy_seconds() == pytest.approx(7.25)


def test_v1_cpuset(proc, tree):
    cgroup = tree(
        "cgroup",
        {
            "cpu/cpu.cfs_quota_us": -1,
            "cpu/cpu.cfs_period_us": 100_000,
            "cpuset/jobs/cpuset.effective_cpus": "2,4-5",
            "cpuset/cpuset.cpus": "0-7",
            "cpuacct/jobs/cpuacct.usage": 1_000_000_000,
        },
    )
    host = HostCpu(proc("3:cpuset:/jobs\n2:cpuacct:/jobs\n1:cpu:/"), cgroup)
    assert (host.scope, host.capacity_cpus, host.busy_seconds()) == ("cgroup", 3.0, pytest.approx(1.0))


def test_this_machine_grows_when_it_works():
    host = HostCpu()
    before, deadline = host.busy_seconds(), time.monotonic() + 60
    while host.busy_seconds() - before < 0.05 and time.monotonic() < deadline:
        sum(range(10_000))
    assert host.busy_seconds() - before >= 0.05
    assert host.capacity_cpus > 0


# The root group's clock: of the whole host, without the ticks of /proc/stat.


@pytest.mark.parametrize(
    ("files", "seconds"),
    [
        ({"cpuacct/cpuacct.usage": "1812345678"}, 1.812345678),
        ({"cpu,cpuacct/cpuacct.usage": "1812345678"}, 1.812345678),
        # Version 2 adds 0.4 s of steal to usage_usec: it is not busy.
        ({"cpu.stat": "usage_usec 2210000\nuser_usec 1300000\nsystem_usec 510000\n"}, 1.81),
        ({"unified/cpu.stat": "usage_usec 2210000\nuser_usec 1300000\nsystem_usec 510000\n"}, 1.81),
    ],
    ids=["v1", "v1-both", "v2", "hybrid"],
)
def test_the_host_has_the_root_groups_clock_where_that_is_the_hosts(proc, tree, files, seconds):
    host = HostCpu(proc(), tree("cgroup", files), scope="host")
    assert host.busy_seconds() == pytest.approx(seconds, abs=1e-9)
    assert "cpu" in host.description.rpartition("/cgroup/")[2]


@pytest.mark.parametrize(
    "files",
    [
        {"cpuacct/cpuacct.usage": "900000000"},  # half of the host's 1.80 s: a container's
        {"cpu.stat": "usage_usec 1800000\nuser_usec 1300000\nsystem_usec 500000\n", "cgroup.events": "populated 1"},
        {"cpu.stat": "nr_periods 0\n"},
        {"cpuacct/cpuacct.usage": "none"},
    ],
    ids=["container", "no-root", "no-usage", "no-number"],
)
def test_a_clock_that_is_not_the_hosts_is_not_taken_for_it(proc, tree, files):
    host = HostCpu(proc(), tree("cgroup", files), scope="host")
    assert host.busy_seconds() == pytest.approx(1.80)
    assert "stat" in host.description
