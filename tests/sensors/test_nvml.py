"""NVIDIA GPUs through the real binding (nvidia-ml-py) on a library without a GPU (fake_nvml.c)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from nvml_library import build
from support.ports import free_port

from ecolyzer_otel.sensors import SensorError
from ecolyzer_otel.sensors.nvml import open_nvml

pytest.importorskip("pynvml")


@pytest.fixture(scope="module")
def old_library(tmp_path_factory):
    """A driver from before the clocks event reasons had that name."""
    return build(tmp_path_factory.mktemp("old"), "-DOLD_DRIVER")


def _open(clock, procfs="/no/procfs"):
    """On a machine without PID namespaces, wherever the tests run."""
    return open_nvml(procfs, clock)


@pytest.fixture
def gpu(driver, clock):
    (sensor,), absences = _open(clock)
    assert absences == []
    return sensor


def _play(gpu, driver, clock, seconds, *, step=0.1, **per_second):
    """Read every ``step`` seconds while keys grow by so much per second."""
    growing = dict(per_second)
    values = {key: float(driver._values[key.replace("_", ".", 1)]) for key in growing}
    for _ in range(round(seconds / step)):
        clock.advance(step)
        for key, slope in growing.items():
            values[key] += slope * step
        driver.set(**{key: round(value) for key, value in values.items()})
        reading = gpu.read()
    return reading


def test_metadata_in_watts_degrees_and_by_uuid(gpu):
    info = gpu.info
    assert (info.id, info.component, info.method) == ("gpu0", "gpu", "measured")
    assert info.description == "NVML NVIDIA H100 80GB HBM3 gpu0"
    assert info.uuid == "GPU-11111111-2222-3333-4444-555555555555"
    assert (info.power_limit_watts, info.peak_watts, info.temperature_limit_celsius) == (600.0, 700.0, 87.0)
    assert (info.wrap_joules, info.idle_watts, info.longest_gap_seconds) == (None, None, None)
    assert gpu.celsius() == 41.0


def test_the_counter_is_millijoules_since_the_driver_was_loaded(gpu, driver):
    assert gpu.read().joules == 5.0
    driver.set(gpu0_energy=12_345_678_901_234)
    assert gpu.read().joules == pytest.approx(12_345_678_901.234)


@pytest.mark.parametrize(
    ("name", "architecture", "uncertainty"),
    [
        ("Tesla V100-SXM2-16GB", 5, 0.05),
        ("NVIDIA A100-SXM4-40GB", 7, 0.10),
        ("NVIDIA A30", 7, 0.10),
        ("NVIDIA A10", 7, 0.05),
        ("NVIDIA GeForce RTX 3090", 7, 0.05),
        ("NVIDIA L4", 8, 0.05),
        ("NVIDIA H100 PCIe", 9, 0.10),
        ("NVIDIA B200", 10, 0.10),
        ("Something", None, 0.10),
    ],
)
def test_a_power_sensor_that_looks_part_of_the_time_is_less_certain(driver, clock, name, architecture, uncertainty):
    driver.set(gpu0_name=name, gpu0_architecture=architecture)
    (gpu,), _ = _open(clock)
    assert gpu.info.relative_uncertainty == uncertainty


def test_several_gpus_keep_their_index(driver, clock):
    driver.set(count=3, gpu1_error="!15", gpu2_energy=1_000, gpu2_uuid="GPU-3")
    sensors, (absence,) = _open(clock)
    assert [(sensor.info.id, sensor.read().joules) for sensor in sensors] == [("gpu0", 5.0), ("gpu2", 1.0)]
    assert (absence.name, absence.reason) == ("NVIDIA GPU 1", "io")
    assert "GPU is lost" in absence.message


# Energy from power.


def test_without_a_counter_power_is_integrated_and_less_certain(driver, clock):
    driver.set(gpu0_energy=None)
    (gpu,), _ = _open(clock)
    assert gpu.read().joules == 0.0
    clock.advance(1.0)
    driver.set(gpu0_power=300_000)
    assert gpu.read().joules == pytest.approx(200.0)  # (100 + 300) / 2 * 1 s
    clock.advance(0.5)
    assert gpu.read().joules == pytest.approx(350.0)
    assert gpu.info.relative_uncertainty == pytest.approx((0.10**2 + 0.10**2) ** 0.5)
    assert gpu.faults() == {}  # that a GPU has no counter is no fault


def test_power_of_the_instant_is_preferred_to_the_mean_of_a_second(driver, clock):
    driver.set(gpu0_energy=None, gpu0_instant=250_000)
    (gpu,), _ = _open(clock)
    clock.advance(1.0)
    assert gpu.read().joules == pytest.approx(250.0)
    driver.set(gpu0_instant=None)
    clock.advance(1.0)
    assert gpu.read().joules == pytest.approx(250.0 + 175.0)


def test_of_a_gap_only_twelve_seconds_are_integrated_and_it_is_counted(driver, clock):
    driver.set(gpu0_energy=None)
    (gpu,), _ = _open(clock)
    assert gpu.info.longest_gap_seconds == 12.0
    clock.advance(60.0)
    assert gpu.read().joules == pytest.approx(1200.0)
    assert gpu.faults() == {"gap": 1}


def test_neither_counter_nor_power_is_an_absence(driver, clock):
    driver.set(gpu0_energy=None, gpu0_power=None)
    sensors, (absence,) = _open(clock)
    assert (sensors, absence.reason) == ([], "absent")
    assert "neither energy nor power" in absence.message


# The counter against power.


def test_a_counter_that_agrees_with_power_is_kept_and_power_no_longer_asked_for(gpu, driver, clock):
    _play(gpu, driver, clock, 6.0, gpu0_energy=110_000)  # 110 W against 100 W
    driver.set(gpu0_power="!999")
    assert _play(gpu, driver, clock, 1.0, gpu0_energy=110_000).joules == pytest.approx(5.0 + 7.0 * 110.0)
    assert gpu.faults() == {}
    assert gpu.info.relative_uncertainty == 0.10


def test_a_counter_that_stands_still_gives_way_to_power_without_a_jump(gpu, driver, clock):
    before = _play(gpu, driver, clock, 4.0, gpu0_energy=0)
    assert before.joules == 5.0
    readings = []
    for _ in range(40):
        clock.advance(0.1)
        readings.append(gpu.read().joules)
    steps = [after - earlier for earlier, after in pairwise(readings)]
    assert max(steps) == pytest.approx(10.0)  # 100 W for 0.1 s, never more
    assert readings[-1] - readings[-11] == pytest.approx(100.0)
    assert gpu.faults() == {"counter_stuck": 1}
    assert gpu.info.relative_uncertainty == pytest.approx(2**0.5 * 0.10)


def test_a_counter_that_is_far_off_twice_gives_way(gpu, driver, clock):
    """187 J where power says 327 J (zeus issue 181): 57 %."""
    _play(gpu, driver, clock, 5.5, gpu0_energy=57_000)
    assert gpu.faults() == {}  # a load that just began may do that once
    _play(gpu, driver, clock, 5.5, gpu0_energy=57_000)
    assert gpu.faults() == {"counter_implausible": 1}
    driver.set(gpu0_energy="!999")  # it is not even asked any more
    before = gpu.read().joules
    clock.advance(1.0)
    assert gpu.read().joules - before == pytest.approx(100.0)


def test_a_load_that_begins_within_the_comparison_is_no_contradiction(gpu, driver, clock):
    """Power is a mean over up to a second and lags behind the counter."""
    driver.set(gpu0_power=20_000)
    _play(gpu, driver, clock, 4.6, gpu0_energy=20_000)
    _play(gpu, driver, clock, 0.5, gpu0_energy=400_000)
    driver.set(gpu0_power=400_000)
    _play(gpu, driver, clock, 6.0, gpu0_energy=400_000)
    assert gpu.faults() == {}
    assert gpu.info.longest_gap_seconds is None


def test_too_few_joules_say_nothing(gpu, driver, clock):
    driver.set(gpu0_power=4_000)
    _play(gpu, driver, clock, 10.0, gpu0_energy=0)  # 40 J of 50
    assert gpu.faults() == {}


def test_a_counter_that_goes_away_is_continued_by_power(gpu, driver, clock):
    clock.advance(0.1)
    driver.set(gpu0_energy=15_000)
    assert gpu.read().joules == 15.0
    driver.set(gpu0_energy=None)
    clock.advance(0.1)
    assert gpu.read().joules == pytest.approx(25.0)


# Temperature and throttling.


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x000, set()),
        (0x103, set()),  # idle, clocks set by the user, display
        (0x004, {"power_cap"}),
        (0x048, {"hw_slowdown", "hw_thermal"}),
        (0x0B1, {"sync_boost", "sw_thermal", "power_brake"}),
    ],
)
def test_reasons_in_words(gpu, driver, clock, bits, words):
    driver.set(gpu0_reasons=bits)
    clock.advance(0.2)  # it is not asked at every reading
    gpu.read()
    assert gpu.throttled() == words


def test_reasons_of_an_old_driver(load, old_library, clock):
    driver = load(old_library)
    driver.set(count=1, gpu0_energy=1, gpu0_power=1, gpu0_reasons=0x40)
    (gpu,), _ = _open(clock)
    assert gpu.throttled() == {"hw_thermal"}


def test_what_a_gpu_does_not_tell_is_unknown_and_fails_nothing(driver, clock):
    driver.set(gpu0_reasons=None, gpu0_temperature="!4", gpu0_slowdown=None, gpu0_limit="!999", gpu0_uuid=None)
    (gpu,), absences = _open(clock)
    assert absences == []
    assert (gpu.throttled(), gpu.celsius(), gpu.usage()) == (None, None, None)
    assert (gpu.info.power_limit_watts, gpu.info.temperature_limit_celsius, gpu.info.uuid) == (None, None, None)
    assert gpu.read().joules == 5.0


# Who used it.


def test_busy_time_is_the_integral_of_the_samples(driver, clock):
    driver.set(gpu0_samples="1000000:100,1100000:100")
    (gpu,), _ = _open(clock)
    assert gpu.usage().busy_seconds == 0.0  # what was before is not ours
    driver.set(gpu0_samples="1000000:100,1100000:100,1200000:50,1300000:0,1500000:100")
    reading = gpu.read()
    # 0.1 s at 50 %, 0.1 s at 0 %, 0.2 s at 100 %
    assert gpu.usage().busy_seconds == pytest.approx(0.25)
    assert reading.utilization == pytest.approx(0.25 / 0.4)
    assert gpu.read().utilization == pytest.approx(0.25 / 0.4)  # no new sample: the last word stands
    assert gpu.usage().busy_seconds == pytest.approx(0.25)


def test_without_samples_busy_time_comes_from_the_utilization_rate(driver, clock):
    driver.set(gpu0_utilization=40)
    (gpu,), _ = _open(clock)
    clock.advance(2.0)
    assert gpu.read().utilization == pytest.approx(0.4)
    assert gpu.usage().busy_seconds == pytest.approx(0.8)


def test_processes_are_integrated_over_their_own_timestamps(driver, clock):
    driver.set(gpu0_processes="10:1000000:90")
    (gpu,), _ = _open(clock)
    assert gpu.usage().processes == {10: 0.0}  # the ring's past is not ours
    # 10: 0.2 s at 100 %, 0.2 s at 10 %: 0.22 s, where its largest sample would say 0.4 s. 20: 0.2 s at 50 %.
    driver.set(gpu0_processes="10:1000000:90,10:1200000:100,20:1200000:50,10:1400000:10")
    gpu.read()
    assert gpu.usage().processes == pytest.approx({10: 0.22, 20: 0.10})


def test_a_process_that_paused_is_not_charged_for_the_pause(driver, clock):
    driver.set(gpu0_processes="10:1000000:0,10:1200000:0")
    (gpu,), _ = _open(clock)
    driver.set(gpu0_processes="10:1400000:100,10:6000000:100")
    gpu.read()
    assert gpu.usage().processes == pytest.approx({10: 0.4})  # 0.2 s before and 0.2 s after 4.6 s without a sample


@pytest.mark.parametrize("nobody", ["nobody", "10:1:5"])  # nobody runs; nothing new since the last look
def test_nobody_is_no_fault(driver, clock, nobody):
    driver.set(gpu0_processes="10:1:5")
    (gpu,), _ = _open(clock)
    driver.set(gpu0_processes=nobody)
    gpu.read()
    assert gpu.usage().processes == {10: 0.0}


def test_use_that_may_not_be_seen_is_unknown(driver, clock):
    driver.set(gpu0_processes="!4", gpu0_samples="!4")
    (gpu,), _ = _open(clock)
    assert gpu.usage() is None
    assert gpu.read().joules == 5.0


def test_in_a_container_pids_of_the_host_are_translated_or_not_believed(driver, clock, tmp_path):
    """PID 17 of the host is our 5; of PID 20 the host's procfs knows nothing."""
    for pid, nspid in (("self", "17\t5"), ("17", "17\t5")):
        (tmp_path / "proc" / pid / "ns").mkdir(parents=True)
        (tmp_path / "proc" / pid / "ns/pid").symlink_to("pid:[4026532999]")
        (tmp_path / "proc" / pid / "status").write_text(f"NSpid:\t{nspid}\n")
    driver.set(gpu0_processes="17:1000000:0", gpu0_samples="1000000:0")
    (gpu,), _ = _open(clock, tmp_path / "proc")
    driver.set(gpu0_processes="17:1000000:0,17:1500000:80", gpu0_samples="1000000:0,1500000:80")
    gpu.read()
    assert gpu.usage().processes == pytest.approx({5: 0.4})
    driver.set(gpu0_processes="20:1900000:10")
    gpu.read()
    assert gpu.usage().processes == {}  # unknown is not zero: it may be one of ours
    assert gpu.usage().busy_seconds == pytest.approx(0.4)


# MIG.


def test_mig_devices_are_parts_of_the_compute_slices(driver, clock):
    driver.set(
        gpu0_mig=1,
        gpu0_migs=7,
        gpu0_mig0_uuid="MIG-a",
        gpu0_mig0_slices=3,
        gpu0_mig2_uuid="MIG-b",
        gpu0_mig2_slices=4,
        gpu0_mig2_compute=2,  # half of a GPU instance
    )
    (gpu,), _ = _open(clock)
    assert gpu.info.partitions == (("MIG-a", pytest.approx(3 / 7)), ("MIG-b", pytest.approx(2 / 7)))
    assert gpu.usage() is None  # neither samples nor processes with MIG


def test_mig_switched_off_has_no_parts(driver, clock):
    driver.set(gpu0_mig=0, gpu0_migs=7, gpu0_mig0_uuid="MIG-a", gpu0_mig0_slices=3)
    (gpu,), _ = _open(clock)
    assert gpu.info.partitions == ()


# Faults.


@pytest.mark.parametrize(("code", "reason"), [(4, "permission"), (15, "io"), (999, "io"), (10, "io")])
def test_every_error_is_a_sensor_error_with_a_remedy(gpu, driver, code, reason):
    driver.set(gpu0_energy=f"!{code}")
    with pytest.raises(SensorError) as caught:
        gpu.read()
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    assert "gpu0" in str(caught.value)
    assert caught.value.remedy


def test_a_lost_gpu_is_opened_again_at_the_next_read(gpu, driver):
    driver.set(gpu0_error="!15")
    with pytest.raises(SensorError, match="GPU is lost"):
        gpu.read()
    driver.set(gpu0_error=None)
    assert gpu.read().joules == 5.0


def test_a_reloaded_driver_numbers_gpus_afresh_and_the_uuid_finds_ours(gpu, driver):
    driver.unload()
    with pytest.raises(SensorError) as caught:
        gpu.read()
    assert caught.value.reason == "absent"
    uuid = gpu.info.uuid
    driver.set(count=2, gpu0_uuid="GPU-other", gpu1_uuid=uuid, gpu1_energy=2_000, gpu1_power=1_000)
    assert gpu.read().joules == 2.0


def test_a_driver_that_stays_away_is_tried_ever_less_often(gpu, driver, clock):
    driver.unload()
    for _ in range(2):
        with pytest.raises(SensorError) as caught:
            gpu.read()
    assert "dmesg" in caught.value.remedy, "there was a driver: nobody needs to be told that none is needed"
    driver.set(init="!9")
    driver.set(init=None)
    with pytest.raises(SensorError):
        gpu.read()  # it is back, but was tried too short a time ago
    clock.advance(1.0)
    assert gpu.read().joules == 5.0


def test_one_gpu_that_stays_lost_does_not_stop_the_others(driver, clock):
    driver.set(count=2, gpu1_uuid="GPU-2", gpu1_energy=1_000, gpu1_power=1_000)
    (first, second), _ = _open(clock)
    driver.set(gpu1_error="!15")
    for _ in range(20):
        clock.advance(0.1)
        assert first.read().joules == 5.0
        with pytest.raises(SensorError):
            second.read()
    driver.set(gpu1_error=None)
    clock.advance(30.0)
    assert second.read().joules == 1.0


def test_permission_comes_back(gpu, driver):
    driver.set(gpu0_error="!4")
    with pytest.raises(SensorError) as caught:
        gpu.read()
    assert caught.value.reason == "permission"
    assert "/dev/nvidia" in caught.value.remedy
    driver.set(gpu0_error=None)
    assert gpu.read().joules == 5.0


@pytest.mark.parametrize(("code", "reason"), [(9, "absent"), (4, "permission"), (18, "io")])
def test_a_library_that_cannot_be_opened_is_an_absence(driver, clock, code, reason):
    driver.set(init=f"!{code}")
    sensors, (absence,) = _open(clock)
    assert (sensors, absence.name, absence.reason) == ([], "NVML", reason)


def test_no_gpu_behind_a_driver(driver, clock):
    driver.set(count=0)
    assert _open(clock)[1][0].reason == "absent"


# From the outside, as a service has it: in a process of its own.

_LOOK = """
import json, sys
import ecolyzer_otel, ecolyzer_otel.sensors
early = [name for name in ("pynvml", "amdsmi", "zeus_apple_silicon") if name in sys.modules]
if len(sys.argv) > 1:
    sys.modules["pynvml"] = None  # not installed
from ecolyzer_otel.sensors.nvml import open_nvml
sensors, absences = open_nvml()
print(json.dumps([early, [[s.info.id, s.read().joules] for s in sensors], [[a.reason, str(a)] for a in absences]]))
"""


def _look(*arguments: str, **environment: str):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOOK, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_found_by_the_dynamic_linker(driver, library):
    early, sensors, absences = _look(LD_LIBRARY_PATH=str(library.parent), FAKE_NVML=str(driver.path))
    assert (early, sensors, absences) == ([], [["gpu0", 5.0]], [])


def test_without_the_package_is_absent_and_quiet():
    early, sensors, ((reason, text),) = _look("without")
    assert (early, sensors, reason) == ([], [], "absent")
    assert "nvidia-ml-py" in text


def test_without_the_library_is_absent_and_quiet():
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has the library")
    _, sensors, ((reason, _),) = _look()
    assert (sensors, reason) == ([], "absent")


_SERVICE = """
import json, os, time, urllib.request
import numpy as np
from sklearn.linear_model import LinearRegression

model = LinearRegression().fit(np.ones((4, 2)), np.ones(4))
path = os.environ["FAKE_NVML"]
text = open(path).read()
began = time.monotonic()
for step in range(15):  # 100 W, as the power says: else the counter is not believed
    model.predict(np.ones((1, 2)))
    joules = 100 * (time.monotonic() - began)
    with open(path + ".fresh", "w") as file:
        file.write(text.replace("gpu0.energy 5000", f"gpu0.energy {5000 + joules * 1000:.0f}"))
    os.replace(path + ".fresh", path)
    time.sleep(0.1)
port = os.environ["PORT"]
print(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())
print("SCRAPED", time.monotonic())
"""


def test_a_service_beside_a_gpu_shows_it_in_its_metrics(driver, library):
    """The whole road: launcher, meter process, dynamic linker, binding, ledger, /metrics."""
    driver.set(gpu0_reasons=0x4)
    port = str(free_port())
    launcher = os.path.join(os.path.dirname(sys.executable), "ecolyzer-instrument")
    began = time.monotonic()
    done = subprocess.run(
        [launcher, "--port", port, sys.executable, "-c", _SERVICE],
        env=os.environ | {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML": str(driver.path), "PORT": port},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "NVML NVIDIA H100 80GB HBM3 gpu0" in done.stderr
    values = {}
    for line in done.stdout.splitlines():
        name, _, value = line.rpartition(" ")
        if 'device="gpu0"' in name or 'sensor="gpu0"' in name:
            values[name.replace("ecolyzer_", "")] = float(value)
    assert values['sensor_up{sensor="gpu0",method="measured"}'] == 1.0
    assert values['device_temperature_celsius{device="gpu0",component="gpu"}'] == 41.0
    assert values['device_throttled_seconds_total{device="gpu0",reason="power_cap"}'] > 0.5
    energy = sum(value for name, value in values.items() if "device_energy" in name)
    scraped = float(re.search(r"^SCRAPED (\S+)", done.stdout, re.MULTILINE)[1])
    # Those that were read by then. Where load keeps the player from moving the counter, the power of 100 W counts.
    assert 50.0 < energy <= 1.07 * 100 * (scraped - began)
