"""PIDs of the host, seen from a container."""

from __future__ import annotations

import os

import pytest

from ecolyzer_otel.sensors.pids import PidMap


@pytest.fixture
def procfs(tmp_path):
    """Processes as (status, PID namespace) by PID, the key ``self`` being our own."""

    def write(processes):
        for pid, (nspid, namespace) in processes.items():
            folder = tmp_path / str(pid) / "ns"
            folder.mkdir(parents=True)
            os.symlink(f"pid:[{namespace}]", folder / "pid")
            (folder.parent / "status").write_text(f"Name:\tpython\nNSpid:\t{nspid}\nThreads:\t1\n")
        return PidMap(tmp_path)

    return write


def test_on_the_host_pids_are_what_they_seem(procfs):
    pids = procfs({"self": ("1", 4026531836)})
    assert pids.in_initial_namespace
    assert pids.local(4242) == 4242


def test_the_hosts_procfs_translates(procfs):
    pids = procfs({"self": ("7", 4026532999), 4242: ("4242\t17", 4026532999), 4300: ("4300\t5\t1", 4026532999)})
    assert not pids.in_initial_namespace
    assert (pids.local(4242), pids.local(4300)) == (17, 1)


def test_a_process_of_another_container_is_nobody_of_ours(procfs):
    pids = procfs({"self": ("7", 4026532999), 4242: ("4242\t17", 4026532111)})
    assert pids.local(4242) > 2**32


def test_our_own_procfs_tells_nothing_of_the_hosts_pids(procfs):
    """PID 17 of the host is not our PID 17."""
    pids = procfs({"self": ("7", 4026532999), 17: ("17", 4026532999)})
    assert pids.local(17) is None
    assert pids.local(4242) is None


def test_without_namespaces_pids_are_what_they_seem(tmp_path):
    assert PidMap(tmp_path).local(5) == 5
