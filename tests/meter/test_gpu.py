"""One GPU, several workers: split by the kernel time that they report, by what others use of it, by MIG instance.

The counter is a recorded one; workers are peers on real sockets that report kernels as a worker does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.peers import recording

from ecolyzer_otel.wire.protocol import Model

pytestmark = pytest.mark.slow

MS = 1_000_000
WATTS = 200.0


def gpu(**more: object) -> dict:
    return {"id": "gpu0", "component": "gpu", "watts": WATTS, "uuid": "GPU-1", **more}


def cpu() -> dict:
    return {"id": "cpu", "component": "cpu", "watts": 40.0}


def busy_all_the_time(seconds: int = 120) -> list[list[float]]:
    return [[0, 0.0], [seconds * 1_000_000_000, float(seconds)]]


def on(sensor: str) -> Model:
    return Model(0, "net", "torch", 1000, "float16", "cuda:0", sensor)


def report(peer, milliseconds: float, busy: dict[str, list[tuple[float, float]]], sensor: str = "gpu0") -> None:
    """One request that has just ended; ``busy`` in milliseconds from its begin."""
    (done,) = peer.done(1, milliseconds=milliseconds, cpu_ns=1000)
    spans = {
        name: [(done.start_ns + int(low * MS), done.start_ns + int(high * MS)) for low, high in times]
        for name, times in busy.items()
    }
    import msgspec

    peer.say(peer.batch([msgspec.structs.replace(done, busy=spans)], models=[on(sensor)]))


def warm(running) -> None:
    """A short request of another worker, on no GPU: from now on the sensors are read as under load."""
    for other in running.peers:
        other.say(other.batch())  # it is quiet, so that nobody waits for it
    peer = running.peer()
    peer.hello("warm")
    peer.say(peer.batch(peer.done(1)))
    running.settled(1)
    time.sleep(0.45)


def shares(running) -> dict[str, float]:
    """Parts of what the GPU drew since the meter came up, and each service's joules."""
    result = {
        name: running.total("ecolyzer_device_energy_joules_total", 'device="gpu0"', f'share="{name}"')
        for name in ("requests", "process", "host")
    }
    for key, value in running.metrics().items():
        if key.startswith("ecolyzer_energy_joules_total") and 'component="gpu"' in key and 'share="active"' in key:
            service = key.partition('service="')[2].partition('"')[0]
            result[service] = result.get(service, 0.0) + value
    return result


def test_two_workers_share_by_kernel_time_not_by_wall_time(meter):
    """Both in flight for the same 240 ms; one kept the GPU busy for 180 of them, the other for 60."""
    running = meter(cpu(), gpu(busy=busy_all_the_time()))
    a, b = running.peer(), running.peer()
    a.hello("a")
    b.hello("b")
    warm(running)
    report(a, 240, {"gpu0": [(0, 180)]})
    report(b, 240, {"gpu0": [(180, 240)]})
    running.settled(3)
    found = shares(running)
    assert found["a"] / found["b"] == pytest.approx(3.0, rel=0.15)
    assert found["a"] + found["b"] == pytest.approx(found["requests"], rel=1e-9)
    # 240 ms at 200 W. The counter says that something ran all the time: the rest is somebody else's.
    assert found["requests"] == pytest.approx(0.24 * WATTS, rel=0.1)


def test_the_gpu_is_found_by_uuid_and_one_that_nobody_measures_is_ignored(meter):
    running = meter(cpu(), gpu(busy=busy_all_the_time()))
    a = running.peer()
    a.hello("a")
    warm(running)
    report(a, 200, {"GPU-1": [(0, 200)], "gpu7": [(0, 200)]}, sensor="GPU-1")
    running.settled(2)
    assert shares(running)["a"] == pytest.approx(0.2 * WATTS, rel=0.05)


def test_without_kernels_a_request_is_on_its_gpu_while_it_is_in_flight(meter):
    running = meter(cpu(), gpu(busy=busy_all_the_time()))
    a = running.peer()
    a.hello("a")
    warm(running)
    report(a, 200, {}, sensor="gpu0")
    running.settled(2)
    assert shares(running)["a"] == pytest.approx(0.2 * WATTS, rel=0.05)


def test_kernels_outside_the_request_are_cut_off(meter):
    running = meter(cpu(), gpu(busy=busy_all_the_time()))
    a = running.peer()
    a.hello("a")
    warm(running)
    report(a, 100, {"gpu0": [(-10_000, 10_000)]})
    running.settled(2)
    assert shares(running)["a"] == pytest.approx(0.1 * WATTS, rel=0.05)


def test_what_a_process_that_is_no_worker_uses_is_host(meter):
    """Another container on the same GPU, seen by per-process utilisation: it ran kernels half of the time."""
    half = [[0, 0.0], [120_000_000_000, 60.0]]
    running = meter(cpu(), gpu(busy=busy_all_the_time(), processes={"4000000": half}))
    a = running.peer()
    a.hello("a")
    warm(running)
    report(a, 240, {"gpu0": [(n, n + 10) for n in range(0, 240, 20)]})  # the other half
    running.settled(2)
    found = shares(running)
    assert found["a"] == pytest.approx(0.12 * WATTS, rel=0.25)
    assert found["host"] > 0.12 * WATTS * 0.8


def test_what_a_worker_runs_outside_requests_is_process(meter):
    """Per-process utilisation of a worker's own PID above the kernels of its requests (a training step)."""
    always = busy_all_the_time()
    running = meter(cpu(), gpu(busy=always, processes={str(os.getpid()): always}))
    a = running.peer()
    a.hello("a")  # the kernel says that it is this process
    warm(running)
    report(a, 240, {"gpu0": [(0, 100)]})
    running.settled(2)
    found = shares(running)
    assert found["a"] == pytest.approx(0.1 * WATTS, rel=0.25)
    assert found["process"] > 0.12 * WATTS


def test_kernels_that_a_process_reports_as_a_whole_count_too(meter):
    running = meter(cpu(), gpu(busy=busy_all_the_time()))
    a = running.peer()
    a.hello("a")
    warm(running)
    now = time.monotonic_ns()
    a.say(a.batch(devices={"gpu0": (now - 500 * MS, 0)}))
    a.say(a.batch(devices={"gpu0": (now, 400 * MS)}))
    report(a, 200, {"gpu0": [(0, 100)]})
    running.settled(2)
    found = shares(running)
    assert 0 < found["a"] < 0.15 * WATTS
    assert found["process"] > 0


MIG = {"MIG-a": 3 / 7, "MIG-b": 1 / 7}


def test_mig_instances_are_told_apart_and_weighed_by_their_slices(meter):
    """Both kept their instance busy all the time; one has three slices, the other one."""
    running = meter(cpu(), gpu(partitions=MIG, busy=busy_all_the_time()))
    a, b = running.peer(), running.peer()
    a.hello("a")
    b.hello("b")
    warm(running)
    report(a, 240, {"MIG-a": [(0, 240)]}, sensor="MIG-a")
    report(b, 240, {"MIG-b": [(0, 240)]}, sensor="MIG-b")
    running.settled(3)
    found = shares(running)
    assert found["a"] / found["b"] == pytest.approx(3.0, rel=0.15)


def test_requests_of_one_process_on_two_instances_run_side_by_side(meter):
    """Their kernels overlap in time and not on the device: neither hides the other."""
    running = meter(cpu(), gpu(partitions=MIG, busy=busy_all_the_time()))
    a, b = running.peer(), running.peer()
    a.hello("a")
    b.hello("b")
    warm(running)
    report(a, 240, {"MIG-a": [(0, 240)], "MIG-b": [(0, 240)]})
    report(b, 240, {"MIG-b": [(0, 240)]})
    running.settled(3)
    found = shares(running)
    # Of seven slices, three and one; the rest of the busy device is nobody's known: host.
    assert found["b"] == pytest.approx(0.24 * WATTS / 7, rel=0.3)
    assert found["host"] > 0


SECOND = 1_000_000_000
DOCUMENT = {
    "version": 1,
    "sensors": [{"id": "gpu0", "component": "gpu", "idle_watts": 0.0, "samples": [[0, 0.0], [SECOND, 70.0]]}],
    "activity": {"devices": {"gpu0": [[0, 0.0], [SECOND, 1.0]]}},
    "requests": [
        {
            "id": name,
            "pid": pid,
            "start_ns": 0,
            "end_ns": SECOND,
            "device_busy_ns": {"gpu0": [[0, busy]]},
            "partitions": {"gpu0": [f"MIG-{name}", part]},
        }
        for name, pid, busy, part in (("a", 1, SECOND, 0.3), ("b", 2, SECOND // 2, 0.2))
    ],
}


def test_a_replay_file_may_name_partitions(tmp_path):
    """By hand: 70 J, a has 0.3 of the device for 1 s, b 0.2 for half a second, the device was busy all the time."""
    from ecolyzer_otel.ledger.replay import replay

    result = replay(json.loads(json.dumps(DOCUMENT)))
    assert result["requests"]["a"]["active_joules"] == pytest.approx(70 * 0.3)
    assert result["requests"]["b"]["active_joules"] == pytest.approx(70 * 0.1)
    assert result["sensors"]["gpu0"]["host"] == pytest.approx(70 * 0.6)


@pytest.mark.parametrize("wrong", [["MIG-a"], ["MIG-a", 0.0], ["MIG-a", 1.5], "MIG-a", [1, 0.5]])
def test_a_partition_that_is_none_is_named(wrong):
    from ecolyzer_otel.common.errors import ReplayError
    from ecolyzer_otel.ledger.replay import replay

    document = json.loads(json.dumps(DOCUMENT))
    document["requests"][0]["partitions"]["gpu0"] = wrong
    with pytest.raises(ReplayError, match=r"requests\[0\]\.partitions\.gpu0"):
        replay(document)


WORKERS = """
import os, sys, time
import ecolyzer_otel
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.wrap import leaf

class Net:
    def infer(self, milliseconds):
        time.sleep(milliseconds / 1000)      # the GPU works, the CPU waits
        return "answer"

def kernels(call):
    # As if events had been recorded around the kernels: the first part of the call.
    return {"cuda:0": [(call.start_ns, call.start_ns + busy * 1_000_000)]} if call.end_ns else {}

facts = lambda model: ModelFacts("net", 1000, "float16", "cuda:0")
Net.infer = leaf(Net.infer, CallSpec("custom", "infer", facts, kernels=kernels))
time.sleep(1.0)
if len(sys.argv) > 1:
    busy = int(sys.argv[1])
    for _ in range(120): Net().infer(40)
else:
    import subprocess
    name = lambda busy: os.environ | {"OTEL_SERVICE_NAME": f"busy{busy}"}
    workers = [subprocess.Popen([sys.executable, __file__, busy], env=name(busy)) for busy in ("30", "10")]
    assert [one.wait() for one in workers] == [0, 0]
    print("done", flush=True)
    time.sleep(240)
"""


def test_real_worker_processes_under_the_launcher_share_a_gpu(tmp_path: Path):
    from support.ports import free_port
    from support.processes import Program
    from support.waiting import AGES, until

    from tests.serving.conftest import BIN, Metrics, environment

    file = recording(tmp_path / "gpu.json", gpu(busy=busy_all_the_time()), seconds=60)
    port = free_port()
    script = tmp_path / "serve.py"
    script.write_text(WORKERS)
    out = tmp_path / "serve.out"
    with out.open("wb") as output:
        process = subprocess.Popen(
            [str(BIN / "ecolyzer-instrument"), sys.executable, str(script)],
            stdout=output, stderr=subprocess.STDOUT,
            env=environment(tmp_path, port, ECOLYZER_SENSORS=f"replay:{file}"),
        )  # fmt: skip
    service = Program("the service", process, out)
    try:
        until(lambda: "done\n" in service.output, "its workers end", service, seconds=AGES)
        until(lambda: Metrics.of(port).settled >= 240, lambda: f"240 requests: {Metrics.of(port).written}")
        metrics = Metrics.of(port)
        assert metrics.settled == metrics.accounted == 240
        joules = [
            metrics.total(
                "ecolyzer_energy_joules_total", f'service="busy{busy}"', 'component="gpu"', 'share="active"'
            )
            for busy in (30, 10)
        ]
        # The counter says that something ran all the time: what is not theirs is somebody else's.
        assert joules[0] / joules[1] == pytest.approx(3.0, rel=0.25)
        metrics.assert_requests_close()
    finally:
        process.kill()
        process.wait()
