"""Who is at the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import until

from ecolyzer_otel.wire.identity import Peer, container_of, is_gone, peer_of
from ecolyzer_otel.worker.device_names import sensor_name

pytestmark = pytest.mark.slow

ID = "0123456789abcdef" * 4
GROUPS = {
    "0::/\n": "",
    "0::/user.slice/user-1000.slice/session-1.scope\n": "",
    "0::/system.slice/shop.service\n": "",
    f"0::/system.slice/docker-{ID}.scope\n": ID[:12],
    f"12:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n": ID[:12],
    f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-pod1f2e.slice/cri-containerd-{ID}.scope\n": ID[:12],
    f"0::/kubepods/burstable/pod0a1b2c3d-1111-2222-3333-444455556666/{ID}\n": ID[:12],
    f"0::/machine.slice/libpod-{ID}.scope/container\n": ID[:12],
    f"0::/kubepods.slice/crio-{ID}.scope\n": ID[:12],
    f"0::/docker/{'f' * 64}/docker/{ID}\n": ID[:12],
    f"0::/a/{ID}0\n": "",
    "nonsense\n": "",
}


@pytest.mark.parametrize("groups", GROUPS)
def test_the_container_is_read_from_the_control_group(tmp_path: Path, groups: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(groups)
    assert container_of(7, str(tmp_path)) == GROUPS[groups]


def test_a_process_that_is_not_there_has_no_container(tmp_path: Path) -> None:
    assert container_of(7, str(tmp_path)) == ""


def test_the_kernel_tells_who_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.getuid(), container_of(os.getpid()))


def test_a_process_in_a_real_control_group_of_a_container_is_known_by_it() -> None:
    root = Path("/sys/fs/cgroup")
    hierarchies = [path for path in (root, root / "unified", root / "systemd") if (path / "cgroup.procs").exists()]
    if not hierarchies:
        pytest.skip("no control groups here")
    group = hierarchies[0] / f"docker-{ID}.scope"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made ({error.strerror})")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (group / "cgroup.procs").write_text(str(process.pid))
        assert container_of(process.pid) == ID[:12]
    finally:
        process.kill()
        process.wait()
        until(lambda: group.rmdir() or True, "the control group is empty")


def test_a_process_is_gone_when_it_has_ended_even_if_nobody_has_waited_for_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not is_gone(process.pid)
        process.kill()
        until(lambda: is_gone(process.pid), "a zombie is gone")
    finally:
        process.communicate()
    assert is_gone(process.pid)
    assert not is_gone(os.getpid())
    assert not is_gone(0), "one that cannot be seen may live"


DEVICES = [
    ("cpu", {}, ""),
    ("cuda", {}, "gpu0"),
    ("cuda:1", {}, "gpu1"),
    ("gpu:2", {}, "gpu2"),
    ("mps", {}, ""),
    ("cuda:0", {"CUDA_VISIBLE_DEVICES": "3,5"}, "gpu3"),
    ("cuda:1", {"CUDA_VISIBLE_DEVICES": "3, 5"}, "gpu5"),
    ("cuda:2", {"CUDA_VISIBLE_DEVICES": "3,5"}, ""),
    ("cuda:0", {"CUDA_VISIBLE_DEVICES": ""}, ""),
    ("cuda:0", {"CUDA_VISIBLE_DEVICES": "MIG-7"}, "MIG-7"),
    ("cuda:0", {"NVIDIA_VISIBLE_DEVICES": "all"}, "gpu0"),
    ("cuda:0", {"NVIDIA_VISIBLE_DEVICES": "2"}, "gpu0"),
    ("cuda:0", {"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, "GPU-a"),
    ("cuda:0", {"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b", "CUDA_VISIBLE_DEVICES": "1"}, "GPU-b"),
]


@pytest.mark.parametrize(("device", "environ", "name"), DEVICES)
def test_a_framework_s_gpu_is_named_as_the_meter_names_it(device: str, environ: dict[str, str], name: str) -> None:
    assert sensor_name(device, environ) == name
