from __future__ import annotations

import psutil
import pytest

from ecolyzer_otel.sensors.thermal import find_cpu_thermal


def test_coretemp_by_package_label(tree):
    sysfs = tree(
        "sys",
        {
            "class/hwmon/hwmon0/name": "nvme",
            "class/hwmon/hwmon0/temp1_input": 30_000,
            "class/hwmon/hwmon2/name": "coretemp",
            "class/hwmon/hwmon2/temp1_label": "Package id 0",
            "class/hwmon/hwmon2/temp1_input": 51_000,
            "class/hwmon/hwmon2/temp1_crit": 105_000,
            "class/hwmon/hwmon2/temp2_label": "Core 0",
            "class/hwmon/hwmon2/temp2_input": 70_000,
            "class/hwmon/hwmon10/name": "coretemp",
            "class/hwmon/hwmon10/temp1_label": "Package id 1",
            "class/hwmon/hwmon10/temp1_input": 62_500,
            "class/hwmon/hwmon10/temp1_max": 95_000,
        },
    )
    first, second, third = (find_cpu_thermal(sysfs, package) for package in range(3))
    assert (first.celsius(), first.limit_celsius) == (51.0, 105.0)
    assert (second.celsius(), second.limit_celsius) == (62.5, 95.0)
    assert (third.celsius(), third.limit_celsius) == (None, None)


@pytest.mark.parametrize("chip", ["k10temp", "zenpower"])
def test_amd_takes_the_die_before_the_fan_control_value(tree, chip):
    sysfs = tree(
        "sys",
        {
            "class/hwmon/hwmon1/name": chip,
            "class/hwmon/hwmon1/temp1_label": "Tctl",
            "class/hwmon/hwmon1/temp1_input": 65_000,
            "class/hwmon/hwmon1/temp2_label": "Tdie",
            "class/hwmon/hwmon1/temp2_input": 55_000,
            "class/hwmon/hwmon1/temp3_label": "Tccd1",
            "class/hwmon/hwmon1/temp3_input": 48_000,
        },
    )
    assert find_cpu_thermal(sysfs).celsius() == 55.0


def test_two_amd_sockets_are_two_chips_in_order(tree):
    files = {}
    for chip, value in (("hwmon4", 40_000), ("hwmon11", 60_000)):
        files |= {
            f"class/hwmon/{chip}/name": "k10temp",
            f"class/hwmon/{chip}/temp1_label": "Tctl",
            f"class/hwmon/{chip}/temp1_input": value,
        }
    sysfs = tree("sys", files)
    assert [find_cpu_thermal(sysfs, package).celsius() for package in (0, 1)] == [40.0, 60.0]


def test_unlabelled_processor_chip_gives_its_first(tree):
    sysfs = tree("sys", {"class/hwmon/hwmon0/name": "cpu_thermal", "class/hwmon/hwmon0/temp1_input": 44_312})
    assert find_cpu_thermal(sysfs).celsius() == pytest.approx(44.312)


def test_other_chips_are_not_the_processor(tree):
    sysfs = tree("sys", {"class/hwmon/hwmon0/name": "nvme", "class/hwmon/hwmon0/temp1_input": 30_000})
    assert find_cpu_thermal(sysfs).celsius() is None


def test_thermal_zone_with_critical_trip_point(tree):
    sysfs = tree(
        "sys",
        {
            "class/thermal/thermal_zone0/type": "acpitz",
            "class/thermal/thermal_zone0/temp": 27_800,
            "class/thermal/thermal_zone1/type": "x86_pkg_temp",
            "class/thermal/thermal_zone1/temp": 52_000,
            "class/thermal/thermal_zone1/trip_point_0_type": "passive",
            "class/thermal/thermal_zone1/trip_point_0_temp": 90_000,
            "class/thermal/thermal_zone1/trip_point_1_type": "critical",
            "class/thermal/thermal_zone1/trip_point_1_temp": 100_000,
        },
    )
    found = find_cpu_thermal(sysfs)
    assert (found.celsius(), found.limit_celsius) == (52.0, 100.0)


def test_follows_the_file_and_never_raises(tree):
    name = "class/hwmon/hwmon0/temp1_input"
    sysfs = tree("sys", {"class/hwmon/hwmon0/name": "coretemp", name: 40_000})
    found = find_cpu_thermal(sysfs)
    seen = [found.celsius()]
    for content in ("41000", "garbage", "-273150", "2147483647"):
        (sysfs / name).write_text(content)
        seen.append(found.celsius())
    (sysfs / name).unlink()
    seen.append(found.celsius())
    (sysfs / name).write_text("42000")
    seen.append(found.celsius())
    assert seen == [40.0, 41.0, None, None, None, None, 42.0]


def test_this_machine_answers_a_temperature_or_none():
    value = find_cpu_thermal().celsius()
    assert value is None or 0 < value < 120
    assert value is not None or not getattr(psutil, "sensors_temperatures", dict)().get("coretemp")
