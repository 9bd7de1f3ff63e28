from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ecolyzer_otel.sensors import SensorError
from ecolyzer_otel.sensors.rapl import open_rapl


def test_packages_and_dram_are_read_and_nothing_that_contains_or_repeats_them(tree, zone):
    sysfs = tree(
        "sys",
        {
            **zone("intel-rapl:0", "package-0", 1_000_000),
            **zone("intel-rapl:0:0", "core", 900_000),
            **zone("intel-rapl:0:1", "uncore", 50_000),
            **zone("intel-rapl:0:2", "dram", 2_000_000),
            **zone("intel-rapl:1", "psys", 9_000_000),
            **zone("intel-rapl:2", "package-1", 3_000_000),
            **zone("intel-rapl:2:0", "dram", 4_000_000),
            **zone("intel-rapl-mmio:0", "package-0", 1_000_000),
            "class/powercap/intel-rapl/enabled": 1,
            "class/powercap/dtpm/enabled": 0,
        },
    )
    sensors, absences = open_rapl(sysfs)
    assert absences == []
    assert {sensor.info.id: (sensor.info.component, sensor.read().joules) for sensor in sensors} == {
        "package-0": ("cpu", 1.0),
        "dram-0": ("dram", 2.0),
        "package-1": ("cpu", 3.0),
        "dram-1": ("dram", 4.0),
    }
    assert [sensor.info.id for sensor in sensors] == ["package-0", "dram-0", "package-1", "dram-1"]


def test_nested_device_tree_is_found_as_well(tree):
    base = "devices/virtual/powercap/intel-rapl"
    sysfs = tree(
        "sys",
        {
            f"{base}/intel-rapl:0/name": "package-0",
            f"{base}/intel-rapl:0/energy_uj": 5,
            f"{base}/intel-rapl:0/intel-rapl:0:0/name": "dram",
            f"{base}/intel-rapl:0/intel-rapl:0:0/energy_uj": 6,
        },
    )
    sensors, _ = open_rapl(sysfs)
    assert [sensor.info.id for sensor in sensors] == ["package-0", "dram-0"]
    assert sensors[0].info.wrap_joules is None


def test_a_real_tree_of_links_gives_each_zone_once(tree):
    base = "devices/virtual/powercap/intel-rapl/intel-rapl:0"
    sysfs = tree("sys", {f"{base}/name": "package-0", f"{base}/energy_uj": 5})
    (sysfs / "class/powercap").mkdir(parents=True)
    (sysfs / "class/powercap/intel-rapl:0").symlink_to(f"../../{base}")
    sensors, absences = open_rapl(sysfs)
    assert ([sensor.info.id for sensor in sensors], absences) == (["package-0"], [])


def test_dies_of_one_package_are_apart(tree, zone):
    sysfs = tree(
        "sys",
        {
            **zone("intel-rapl:0", "package-0-die-0", 1),
            **zone("intel-rapl:1", "package-0-die-1", 2),
            **zone("intel-rapl:1:0", "dram", 3),
        },
    )
    assert [sensor.info.id for sensor in open_rapl(sysfs)[0]] == [
        "package-0-die-0",
        "package-0-die-1",
        "dram-0-die-1",
    ]


def test_zones_of_one_name_keep_ids_of_their_own(tree, zone):
    sysfs = tree("sys", {**zone("intel-rapl:0", "package-0", 1), **zone("intel-rapl:1", "package-0", 2)})
    assert [sensor.info.id for sensor in open_rapl(sysfs)[0]] == ["package-0", "package-0-zone-1"]


def test_metadata_in_joules_and_watts(tree, zone):
    files = zone("intel-rapl:0", "package-0", 7, wrap_uj=65_532_610_987)
    base = "class/powercap/intel-rapl:0"
    files |= {
        f"{base}/constraint_0_name": "long_term",
        f"{base}/constraint_0_power_limit_uw": 205_000_000,
        f"{base}/constraint_1_name": "short_term",
        f"{base}/constraint_1_power_limit_uw": 246_000_000,
        "class/hwmon/hwmon3/name": "coretemp",
        "class/hwmon/hwmon3/temp1_label": "Package id 0",
        "class/hwmon/hwmon3/temp1_input": 47_000,
        "class/hwmon/hwmon3/temp1_crit": 100_000,
    }
    (sensor,), _ = open_rapl(tree("sys", files))
    info = sensor.info
    assert info.wrap_joules == pytest.approx(65_532.610987)
    assert (info.power_limit_watts, info.peak_watts) == (205.0, 246.0)
    assert (sensor.celsius(), info.temperature_limit_celsius) == (47.0, 100.0)
    assert (info.method, info.description, info.idle_watts) == ("measured", "RAPL package-0", None)


def test_counter_is_raw_through_a_wrap(tree, zone):
    sysfs = tree("sys", zone("intel-rapl:0", "package-0", 999_999, wrap_uj=1_000_000))
    (sensor,), _ = open_rapl(sysfs)
    before = sensor.read()
    tree("sys", {"class/powercap/intel-rapl:0/energy_uj": 1})
    after = sensor.read()
    assert (before.joules, after.joules) == pytest.approx((0.999999, 0.000001))
    assert after.t_ns > before.t_ns


@pytest.mark.parametrize(
    ("content", "reason"), [("2000000", "range"), ("-5", "range"), ("garbage", "io"), ("", "io")]
)
def test_values_that_cannot_be_true_have_a_reason(tree, zone, content, reason):
    sysfs = tree("sys", zone("intel-rapl:0", "package-0", 10, wrap_uj=1_000_000))
    (sensor,), _ = open_rapl(sysfs)
    (sysfs / "class/powercap/intel-rapl:0/energy_uj").write_text(content)
    with pytest.raises(SensorError) as caught:
        sensor.read()
    assert caught.value.reason == reason
    assert "energy_uj" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_vanishes_and_comes_back(tree, zone):
    sysfs = tree("sys", zone("intel-rapl:0", "package-0", 10))
    (sensor,), _ = open_rapl(sysfs)
    shutil.rmtree(sysfs / "class/powercap/intel-rapl:0")
    for _ in range(2):
        with pytest.raises(SensorError) as caught:
            sensor.read()
        assert caught.value.reason == "absent"
    tree("sys", zone("intel-rapl:0", "package-0", 20))
    assert sensor.read().joules == pytest.approx(20e-6)


def test_replaced_by_rename_is_seen(tree, zone):
    sysfs = tree("sys", zone("intel-rapl:0", "package-0", 10))
    (sensor,), _ = open_rapl(sysfs)
    energy = sysfs / "class/powercap/intel-rapl:0/energy_uj"
    (sysfs / "new").write_text("30\n")
    os.replace(sysfs / "new", energy)
    assert sensor.read().joules == pytest.approx(30e-6)


def test_closed_sensor_opens_afresh(tree, zone):
    (sensor,), _ = open_rapl(tree("sys", zone("intel-rapl:0", "package-0", 10)))
    sensor.close()
    assert sensor.read().joules == pytest.approx(10e-6)


def test_no_powercap_is_absent(tmp_path):
    sensors, (absence,) = open_rapl(tmp_path)
    assert sensors == []
    assert absence.reason == "absent"
    assert str(tmp_path) in absence.message


def test_only_psys_is_absent(tree, zone):
    sensors, (absence,) = open_rapl(tree("sys", zone("intel-rapl:0", "psys", 10)))
    assert (sensors, absence.reason) == ([], "absent")


def test_links_into_a_masked_folder_are_permission_with_the_way_out(tree):
    """Docker masks /sys/devices/virtual/powercap: the class folder then lists links to nothing."""
    sysfs = tree("sys", {"devices/virtual/powercap/.empty": ""})
    (sysfs / "class/powercap").mkdir(parents=True)
    (sysfs / "class/powercap/intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")
    sensors, absences = open_rapl(sysfs)
    assert sensors == []
    assert [absence.reason for absence in absences] == ["permission"]
    assert "--sysfs" in absences[0].remedy


# Without a user's rights checked by the kernel itself this would test our idea of a PermissionError: so a
# process really gives up root (or, where the tests run as a user, chmod 0 does it).
_AS_NOBODY = """
import json, os, sys
from ecolyzer_otel.common.config import Config
from ecolyzer_otel.sensors import discover
discover(Config(sensors="modelled"))  # imports everything: nobody may not read a Python under /root
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
found = discover(Config(sysfs=sys.argv[1], sensors=sys.argv[2]))
print(json.dumps({"sensors": [s.info.id for s in found.sensors],
                  "absences": [[a.name, a.reason, str(a)] for a in found.absences]}))
"""


@pytest.fixture
def nobodys_view(zone):
    """What an unprivileged process discovers in a tree with the given unreadable files."""
    root = Path(tempfile.mkdtemp())  # tmp_path is closed to others
    root.chmod(0o755)

    def look(unreadable: tuple[str, ...], sensors: str = "auto") -> dict[str, list]:
        files = {**zone("intel-rapl:0", "package-0", 10), **zone("intel-rapl:1", "package-1", 10)}
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{content}\n")
        for name in unreadable:
            (root / name).chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(root), sensors], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    yield look
    subprocess.run(["chmod", "-R", "u+rwX", str(root)], check=True)
    shutil.rmtree(root)


_ENERGY = tuple(f"class/powercap/intel-rapl:{n}/energy_uj" for n in (0, 1))


def test_no_permission_is_told_apart_from_absent_and_names_the_remedy(nobodys_view):
    seen = nobodys_view(_ENERGY)
    assert seen["sensors"] == ["cpu"]  # modelled: unknown is not zero
    assert [(name, reason) for name, reason, _ in seen["absences"]] == [
        ("RAPL package-0", "permission"),
        ("RAPL package-1", "permission"),
    ]
    text = seen["absences"][0][2]
    assert "energy_uj" in text
    assert "CVE-2020-8694" in text
    assert "\n" not in text


def test_asked_for_by_name_and_unreadable_says_that_it_is_modelled_instead(nobodys_view):
    seen = nobodys_view(_ENERGY, "rapl")
    assert seen["sensors"] == ["cpu"]
    assert "modelled instead" in seen["absences"][0][2]


def test_one_readable_package_is_enough_and_the_other_is_reported(nobodys_view):
    seen = nobodys_view(_ENERGY[1:])
    assert seen["sensors"] == ["package-0"]
    assert [name for name, _, _ in seen["absences"]] == ["RAPL package-1"]


def test_a_folder_that_may_not_be_listed_is_permission(nobodys_view):
    seen = nobodys_view(("class/powercap",))
    assert [reason for _, reason, _ in seen["absences"]] == ["permission"]
