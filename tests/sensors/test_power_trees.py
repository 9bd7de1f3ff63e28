"""Power sensors on trees in the layout of real machines."""

from __future__ import annotations

import pytest

from ecolyzer_otel.sensors import SensorError
from ecolyzer_otel.sensors.hwmon import find_power


def _hwmon(number: int, **files: object) -> dict[str, object]:
    return {f"class/hwmon/hwmon{number}/{name}": content for name, content in files.items()}


def _grace(number: int, label: str, microwatts: int, interval: int = 50) -> dict[str, object]:
    """As ACPI's power meter shows it: the files are those of the device."""
    base = f"class/hwmon/hwmon{number}/device"
    return {
        f"class/hwmon/hwmon{number}/name": "power_meter",
        f"{base}/power1_oem_info": label,
        f"{base}/power1_average": microwatts,
        f"{base}/power1_average_interval": interval,
    }


_ORIN_NX = _hwmon(
    3,
    name="ina3221",
    in1_label="VDD_IN",
    in1_input=5000,
    curr1_input=2000,
    in2_label="VDD_CPU_GPU_CV",
    in2_input=5000,
    curr2_input=800,
    in3_label="VDD_SOC",
    in3_input=4900,
    curr3_input=500,
    in4_input=10,
    in7_label="sum of shunt voltages",
    in7_input=30,
)
_AGX_ORIN = {
    **_hwmon(
        1,
        name="ina3221",
        in1_label="VDD_GPU_SOC",
        in1_input=19_000,
        curr1_input=400,
        in2_label="VDD_CPU_CV",
        in2_input=19_000,
        curr2_input=100,
        in3_label="VIN_SYS_5V0",
        in3_input=5000,
        curr3_input=700,
    ),
    **_hwmon(
        2, name="ina3221", in1_label="NC", in2_label="VDDQ_VDD2_1V8AO", in2_input=5000, curr2_input=100,
    ),
    "class/thermal/thermal_zone0/type": "cpu-thermal",
    "class/thermal/thermal_zone0/temp": 45_000,
    "class/thermal/thermal_zone1/type": "gpu-thermal",
    "class/thermal/thermal_zone1/temp": 51_500,
}  # fmt: skip
_OLD = "bus/i2c/drivers/ina3221x/0-0040/iio:device0"
_TX2 = {
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/rail_name_0": "VDD_IN",
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/in_power0_input": 9000,
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/rail_name_1": "VDD_SYS_CPU",
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/in_power1_input": 1500,
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/rail_name_2": "VDD_SYS_DDR",
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/in_power2_input": 1200,
    f"{_OLD}/rail_name_0": "VDD_SYS_GPU",
    f"{_OLD}/in_power0_input": 3000,
    f"{_OLD}/rail_name_1": "VDD_SYS_SOC",
    f"{_OLD}/in_power1_input": 700,
}
_GRACE_HOPPER = {
    **_grace(0, "Module Power Socket 0", 300_000_000),
    **_grace(1, "Grace Power Socket 0", 80_000_000),
    **_grace(2, "CPU Power Socket 0", 50_000_000),
    **_grace(3, "SysIO Power Socket 0", 9_000_000),
}
_SERVER = _hwmon(0, name="power_meter", power1_average=240_000_000, power1_average_interval=1000)


@pytest.fixture
def found(tree, clock):
    def look(files):
        return find_power(tree("sys", files), clock)

    return look


def _watts(found, clock):
    """Mean power by sensor over one second."""
    sensors = [*found.parts, *([found.total] if found.total else [])]
    before = [sensor.read().joules for sensor in sensors]
    clock.advance(1.0)
    grown = (sensor.read().joules - joules for sensor, joules in zip(sensors, before, strict=True))
    return {
        sensor.info.id: (sensor.info.component, pytest.approx(joules))
        for sensor, joules in zip(sensors, grown, strict=True)
    }


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        # 5 V * 0.8 A and 4.9 V * 0.5 A; VDD_IN, 10 W, contains both.
        (_ORIN_NX, {"cpu-gpu": ("cpu", 4.0), "soc": ("cpu", 2.45)}),
        (_AGX_ORIN, {"gpu0": ("gpu", 7.6), "cpu": ("cpu", 1.9), "dram": ("dram", 0.5)}),
        (_TX2, {"gpu0": ("gpu", 3.0), "soc": ("cpu", 0.7), "cpu": ("cpu", 1.5), "dram": ("dram", 1.2)}),
        (_hwmon(0, name="ina3221", in1_label="POM_5V_IN", power1_input=4_000_000), {"module": ("cpu", 4.0)}),
        (_GRACE_HOPPER, {"grace-0": ("cpu", 80.0)}),
        (
            {**_grace(0, "CPU Power Socket 1", 50_000_000), **_grace(1, "SysIO Power Socket 1", 9_000_000)},
            {"cpu-1": ("cpu", 50.0), "sysio-1": ("cpu", 9.0)},
        ),
        (_grace(0, "Total Input Power in uW socket 0", 70_000_000), {"grace-0": ("cpu", 70.0)}),
        (_grace(0, "Module Power Socket 0", 300_000_000), {"module-0": ("cpu", 300.0)}),
        (
            _hwmon(2, name="zenpower", power1_input=30_000_000, power2_input=12_000_000),
            {"package-0": ("cpu", 42.0)},
        ),
        (_hwmon(2, name="fam15h_power", power1_input=30_000_000), {"package-0": ("cpu", 30.0)}),
        (_SERVER, {"server": ("cpu", 240.0)}),
        ({**_SERVER, **_hwmon(1, name="fam15h_power", power1_input=30_000_000)}, {"package-0": ("cpu", 30.0)}),
        (_hwmon(0, name="nvme", power1_input=5_000_000), {}),
    ],
)
def test_rails_that_do_not_contain_each_other(found, clock, files, watts):
    machine = found(files)
    assert machine.absences == []
    assert _watts(machine, clock) == watts


def test_the_whole_is_told_from_the_parts(found):
    assert found(_SERVER).parts == []
    assert "whole server" in found(_SERVER).total.info.description


def test_several_power_meters_of_a_server_are_not_guessed_at(found):
    machine = found({**_SERVER, **_hwmon(1, name="power_meter", power1_average=1)})
    assert (machine.parts, machine.total) == ([], None)
    assert [absence.reason for absence in machine.absences] == ["absent"]


def test_amd_energy_reads_sockets_not_cores(found, tree):
    machine = found(
        _hwmon(
            4,
            name="amd_energy",
            energy1_label="Ecore000",
            energy1_input=5,
            energy2_label="Esocket0",
            energy2_input=7_000_000,
            energy3_label="Esocket1",
            energy3_input=9_000_000,
        )
    )
    assert [(sensor.info.id, sensor.read().joules) for sensor in machine.parts] == [
        ("package-0", 7.0),
        ("package-1", 9.0),
    ]
    tree("sys", {"class/hwmon/hwmon4/energy2_input": -3})
    with pytest.raises(SensorError) as caught:
        machine.parts[0].read()
    assert caught.value.reason == "range"


def test_power_is_integrated_by_the_trapezoidal_rule(found, tree, clock):
    (gpu, *_) = found(_AGX_ORIN).parts
    tree("sys", {"class/hwmon/hwmon1/curr1_input": 800})
    clock.advance(0.5)
    assert gpu.read().joules == pytest.approx((7.6 + 15.2) / 2 * 0.5)
    clock.advance(60.0)  # of a gap, 12 s are integrated
    assert gpu.read().joules == pytest.approx(5.7 + 15.2 * 12.0)
    assert gpu.faults() == {"gap": 1}


def test_temperatures_belong_to_their_component(found):
    assert {sensor.info.id: sensor.celsius() for sensor in found(_AGX_ORIN).parts} == {
        "gpu0": 51.5,
        "cpu": 45.0,
        "dram": None,
    }


@pytest.mark.parametrize(("files", "seconds"), [(_GRACE_HOPPER, 0.05), (_SERVER, 1.0), (_ORIN_NX, 0.1)])
def test_the_period_is_that_over_which_the_meter_averages(found, files, seconds):
    machine = found(files)
    assert (machine.total or machine.parts[0]).info.update_period_seconds == seconds


@pytest.mark.parametrize("content", ["garbage", ""])
def test_what_is_no_number_is_an_absence_at_the_start_and_an_error_later(found, tree, content):
    files = {**_SERVER, "class/hwmon/hwmon0/power1_average": content}
    machine = found(files)
    assert (machine.total, machine.absences[0].reason) == (None, "io")
    machine = found(_SERVER)
    tree("sys", {"class/hwmon/hwmon0/power1_average": content})
    with pytest.raises(SensorError) as caught:
        machine.total.read()
    assert caught.value.reason == "io"
    tree("sys", {"class/hwmon/hwmon0/power1_average": 5})
    assert machine.total.read().joules >= 0
    machine.total.close()


def test_no_hwmon_at_all(tmp_path, clock):
    machine = find_power(tmp_path, clock)
    assert (machine.parts, machine.total, machine.absences) == ([], None, [])
