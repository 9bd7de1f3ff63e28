"""Apple silicon through a module of the interface of zeus-apple-silicon."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ecolyzer_otel.sensors import SensorError
from ecolyzer_otel.sensors.apple import open_apple


@pytest.fixture
def mac(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).with_name("fakes")))
    monkeypatch.setenv("FAKE_APPLE", str(tmp_path / "apple.json"))
    sys.modules.pop("zeus_apple_silicon", None)

    def say(**millijoules: object) -> None:
        (tmp_path / "apple.json").write_text(json.dumps(millijoules))

    yield say
    sys.modules.pop("zeus_apple_silicon", None)


def test_cpu_gpu_with_its_sram_and_dram_in_joules(mac, clock):
    mac(cpu_total_mj=100_000, gpu_mj=50_000, gpu_sram_mj=1_000, dram_mj=20_000, ane_mj=7)
    sensors, absences = open_apple(clock)
    assert absences == []
    mac(cpu_total_mj=102_500, gpu_mj=51_000, gpu_sram_mj=1_500, dram_mj=20_250, ane_mj=9)
    assert [(sensor.info.id, sensor.info.component, sensor.read().joules) for sensor in sensors] == [
        ("cpu", "cpu", pytest.approx(2.5)),
        ("gpu0", "gpu", pytest.approx(1.5)),
        ("dram", "dram", pytest.approx(0.25)),
    ]


def test_what_a_chip_does_not_tell_is_absent(mac, clock):
    mac(cpu_total_mj=1, gpu_mj=1)
    sensors, (absence,) = open_apple(clock)
    assert [sensor.info.id for sensor in sensors] == ["cpu", "gpu0"]
    assert (absence.name, absence.reason) == ("Apple silicon dram", "absent")


def test_a_new_monitor_goes_on_from_where_the_last_one_was(mac, clock):
    mac(cpu_total_mj=100_000)
    (cpu,), _ = open_apple(clock)
    mac(cpu_total_mj=103_000)
    assert cpu.read().joules == pytest.approx(3.0)
    mac(error="IOReport failed")
    with pytest.raises(SensorError, match="IOReport failed"):
        cpu.read()
    mac(cpu_total_mj=105_000)
    assert cpu.read().joules == pytest.approx(3.0)  # what was drawn meanwhile is not known
    mac(cpu_total_mj=106_000)
    assert cpu.read().joules == pytest.approx(4.0)


def test_elsewhere_it_is_absent(monkeypatch, clock):
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", None)
    sensors, (absence,) = open_apple(clock)
    assert (sensors, absence.reason) == ([], "absent")
    assert "zeus-apple-silicon" in absence.message
