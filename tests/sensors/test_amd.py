"""AMD GPUs: through a module of amdsmi's interface, and on amdgpu's files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ecolyzer_otel.sensors import SensorError
from ecolyzer_otel.sensors.amd import open_amd
from ecolyzer_otel.sensors.amdgpu import open_amdgpu

_FAKES = Path(__file__).with_name("fakes")


def _mi300x(**changes: object) -> dict[str, object]:
    return {
        "amdsmi_get_energy_count": {
            "energy_accumulator": 1_000_000,
            "counter_resolution": 15.25,
            "timestamp": 3824190842400799,
        },
        "amdsmi_get_power_info": {
            "current_socket_power": 150,
            "average_socket_power": "N/A",
            "socket_power": "N/A",
        },
        "amdsmi_get_power_cap_info": {"power_cap": 750_000_000},
        "amdsmi_get_gpu_asic_info": {"market_name": "AMD Instinct MI300X"},
        "amdsmi_get_gpu_device_uuid": "19ff74a1-0000-1000-80e9-9a3b5c0d1e2f",
        "amdsmi_get_temp_metric": {"HOTSPOT CURRENT": 52, "EDGE CURRENT": 40, "HOTSPOT CRITICAL": 100},
        "amdsmi_get_gpu_activity": {"gfx_activity": 50, "umc_activity": 3, "mm_activity": "N/A"},
        "amdsmi_get_gpu_metrics_info": {"throttle_status": "N/A", "indep_throttle_status": 0},
    } | changes


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put the module on the path, and tell it what to say."""
    monkeypatch.syspath_prepend(str(_FAKES))
    monkeypatch.setenv("FAKE_AMDSMI", str(tmp_path / "amdsmi.json"))
    sys.modules.pop("amdsmi", None)

    def say(*gpus: dict[str, object], **more: object) -> None:
        (tmp_path / "amdsmi.json").write_text(json.dumps({"gpus": gpus} | more))

    yield say
    sys.modules.pop("amdsmi", None)


def _energy(raw: float) -> dict[str, object]:
    return {"energy_accumulator": round(raw), "counter_resolution": 15.25, "timestamp": 1}


def test_metadata_and_the_counter_times_its_resolution(smi, clock):
    smi(_mi300x())
    (gpu,), absences = open_amd(clock=clock)
    assert absences == []
    info = gpu.info
    assert (info.id, info.component, info.description) == ("gpu0", "gpu", "AMD AMD Instinct MI300X gpu0")
    assert (info.power_limit_watts, info.temperature_limit_celsius) == (750.0, 100.0)
    assert info.uuid == "19ff74a1-0000-1000-80e9-9a3b5c0d1e2f"
    assert gpu.read().joules == pytest.approx(15.25)  # 1e6 * 15.25 uJ
    assert gpu.celsius() == 52.0


def test_the_counters_name_before_rocm_6_1(smi, clock):
    smi(_mi300x(amdsmi_get_energy_count={"power": 2_000_000, "counter_resolution": 15.25, "timestamp": 1}))
    (gpu,), _ = open_amd(clock=clock)
    assert gpu.read().joules == pytest.approx(30.5)


def test_a_counter_that_stands_still_gives_way_to_power(smi, clock):
    """MI100, ROCm/amdsmi issue 38."""
    smi(_mi300x())
    (gpu,), _ = open_amd(clock=clock)
    for _ in range(60):
        clock.advance(0.1)
        joules = gpu.read().joules
    assert gpu.faults() == {"counter_stuck": 1}
    clock.advance(1.0)
    assert gpu.read().joules - joules == pytest.approx(150.0)
    assert gpu.info.relative_uncertainty == pytest.approx(2**0.5 * 0.10)


def test_a_counter_in_another_scale_gives_way_to_power(smi, clock):
    smi(_mi300x())
    (gpu,), _ = open_amd(clock=clock)
    for step in range(110):
        clock.advance(0.1)
        # 150 W would be 9.836e5 counts in 0.1 s; it shows a 15th of it.
        smi(_mi300x(amdsmi_get_energy_count=_energy(1_000_000 + step * 983_607 / 15)))
        gpu.read()
    assert gpu.faults() == {"counter_implausible": 1}


def test_a_counter_that_agrees_is_kept(smi, clock):
    smi(_mi300x())
    (gpu,), _ = open_amd(clock=clock)
    for step in range(60):
        clock.advance(0.1)
        smi(_mi300x(amdsmi_get_energy_count=_energy(1_000_000 + step * 983_607)))
        gpu.read()
    assert gpu.faults() == {}
    smi(_mi300x(**{"!amdsmi_get_power_info": 12}))
    assert gpu.read().joules == pytest.approx(15.25)


@pytest.mark.parametrize(
    "power",
    [
        {"current_socket_power": "N/A", "average_socket_power": 90},
        {"current_socket_power": 0xFFFF, "average_socket_power": 90},
        {"socket_power": 90, "current_socket_power": "N/A", "average_socket_power": "N/A"},
    ],
)
def test_without_a_counter_power_is_integrated(smi, clock, power):
    smi(_mi300x(amdsmi_get_energy_count=None, amdsmi_get_power_info=power))
    (gpu,), _ = open_amd(clock=clock)
    clock.advance(2.0)
    assert gpu.read().joules == pytest.approx(180.0)


def test_busy_time_from_activity(smi, clock):
    smi(_mi300x())
    (gpu,), _ = open_amd(clock=clock)
    clock.advance(2.0)
    assert gpu.read().utilization == 0.5
    assert gpu.usage().busy_seconds == pytest.approx(1.0)
    assert gpu.usage().processes == {}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"indep_throttle_status": 0, "throttle_status": "N/A"}, set()),
        ({"indep_throttle_status": 1 << 1 | 1 << 36, "throttle_status": "N/A"}, {"power_cap", "thermal"}),
        ({"indep_throttle_status": True, "throttle_status": "N/A"}, {"throttled"}),
        ({"indep_throttle_status": "N/A", "throttle_status": False}, set()),
        ({"indep_throttle_status": "N/A", "throttle_status": "N/A"}, None),
        (None, None),
    ],
)
def test_throttling_in_words(smi, clock, metrics, words):
    smi(_mi300x(amdsmi_get_gpu_metrics_info=metrics))
    (gpu,), _ = open_amd(clock=clock)
    assert gpu.throttled() == words


@pytest.mark.parametrize(("code", "reason"), [(10, "permission"), (12, "io"), (34, "absent")])
def test_errors_have_reasons_and_the_gpu_comes_back(smi, clock, code, reason):
    smi(_mi300x())
    (gpu,), _ = open_amd(clock=clock)
    smi(_mi300x(**{"!amdsmi_get_energy_count": code}))
    with pytest.raises(SensorError) as caught:
        gpu.read()
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    smi(_mi300x())
    assert gpu.read().joules == pytest.approx(15.25)


def test_numbers_go_on_after_another_vendors(smi, clock):
    smi(_mi300x(), _mi300x())
    sensors, _ = open_amd(first=2, clock=clock)
    assert [sensor.info.id for sensor in sensors] == ["gpu2", "gpu3"]


def test_a_driver_that_is_not_loaded_is_an_absence(smi, clock):
    smi(error=34)
    sensors, (absence,) = open_amd(clock=clock)
    assert (sensors, absence.reason) == ([], "absent")


def test_the_package_without_its_library_is_an_absence_and_quiet(smi, monkeypatch, capfd, tmp_path):
    monkeypatch.delenv("FAKE_AMDSMI")
    sensors, (absence,) = open_amd(tmp_path)
    assert (sensors, absence.reason) == ([], "absent")
    assert capfd.readouterr() == ("", "")


# The kernel's files.

_BASE = "class/hwmon/hwmon5"
_MI210 = {
    f"{_BASE}/name": "amdgpu",
    f"{_BASE}/power1_average": 120_000_000,
    f"{_BASE}/power1_cap": 300_000_000,
    f"{_BASE}/temp1_input": 47_000,
    f"{_BASE}/temp1_crit": 100_000,
    f"{_BASE}/device/gpu_busy_percent": 25,
    f"{_BASE}/device/unique_id": "6d5ecb6d5f2e8b1a",
}


def test_power_of_the_files_is_integrated(tree, clock):
    (gpu,), absences = open_amdgpu(tree("sys", _MI210), clock=clock)
    assert absences == []
    info = gpu.info
    assert (info.id, info.uuid) == ("gpu0", "GPU-6d5ecb6d5f2e8b1a")
    assert (info.power_limit_watts, info.temperature_limit_celsius) == (300.0, 100.0)
    tree("sys", {f"{_BASE}/power1_average": 200_000_000})
    clock.advance(1.0)
    reading = gpu.read()
    assert (reading.joules, reading.utilization) == (pytest.approx(160.0), 0.25)
    assert (gpu.celsius(), gpu.usage().busy_seconds) == (47.0, pytest.approx(0.25))
    gpu.close()


def test_newer_kernels_call_it_input_and_a_counter_comes_first(tree, clock):
    files = {name: content for name, content in _MI210.items() if "power1_average" not in name}
    files |= {f"{_BASE}/power1_input": 120_000_000, f"{_BASE}/energy1_input": 7_000_000}
    (gpu,), _ = open_amdgpu(tree("sys", files), clock=clock)
    assert gpu.read().joules == pytest.approx(7.0)


def test_an_apu_is_part_of_its_processor(tree, clock):
    files = {name: content for name, content in _MI210.items() if "power1_cap" not in name}
    sensors, (absence,) = open_amdgpu(tree("sys", files), clock=clock)
    assert (sensors, absence.reason) == ([], "absent")
    assert "whole processor" in absence.message


def test_a_vanished_card_is_an_error_that_mends(tree, clock):
    sysfs = tree("sys", _MI210)
    (gpu,), _ = open_amdgpu(sysfs, clock=clock)
    (sysfs / _BASE / "power1_average").unlink()
    with pytest.raises(SensorError) as caught:
        gpu.read()
    assert caught.value.reason == "absent"
    tree("sys", _MI210)
    assert gpu.read().joules == 0.0


def test_files_are_used_where_amdsmi_is_not_installed(tree, clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    (gpu,), absences = open_amd(tree("sys", _MI210), first=1, clock=clock)
    assert (gpu.info.id, absences) == ("gpu1", [])
