from __future__ import annotations

import json
import sys

import pytest

from ecolyzer_otel.common.config import Config, load
from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.sensors import discover

_PROC = {
    "stat": "cpu  100 0 0 0 0 0 0 0 0 0\n" + "\n".join(f"cpu{n} 0" for n in range(4)),
    "cpuinfo": "processor: 0\nvendor_id: AuthenticAMD\ncpu family: 25\nmodel: 1\nmodel name: AMD EPYC\n"
    "flags: hypervisor",
    "self/cgroup": "0::/",
}
_CGROUP = {"cgroup.controllers": "cpu", "cpu.max": "100000 100000", "cpu.stat": "usage_usec 5000000"}


@pytest.fixture
def machine(tree):
    """Discovery on a machine of 4 CPUs, whose control group allots 1, with the given sysfs files."""

    def look(sensors="auto", sysfs=None, **options):
        config = Config(sensors=sensors, sysfs=str(tree("sys", sysfs or {})))
        places = {"procfs": tree("proc", _PROC), "cgroupfs": tree("cgroup", _CGROUP), "devfs": tree("dev", {})}
        return discover(config, **places | options)

    return look


def _rapl(zone):
    return {**zone("intel-rapl:0", "package-0", 10), **zone("intel-rapl:0:0", "dram", 10)}


@pytest.mark.parametrize("sensors", ["auto", "rapl"])
def test_rapl_first_with_the_busy_time_of_the_whole_host(machine, zone, sensors):
    found = machine(sensors, _rapl(zone))
    assert found.describe() == "RAPL package-0, dram-0"
    assert found.absences == ()
    assert (found.host.scope, found.host.capacity_cpus) == ("host", 4.0)


def test_auto_without_powercap_models_the_own_cpus_and_is_no_fault(machine):
    found = machine()
    assert found.describe().startswith("no sensor: modelled from AMD EPYC 3rd Gen, 1 vCPU, 0.5-1.9 W")
    assert [absence.reason for absence in found.absences] == ["absent"]
    assert (found.host.scope, found.host.busy_seconds()) == ("cgroup", 5.0)


def test_the_agent_models_the_whole_host(machine):
    found = machine(scope="host")
    assert "4 vCPU" in found.describe()


def test_the_cloud_is_told_by_dmi(machine):
    aws = machine(sysfs={"class/dmi/id/sys_vendor": "Amazon EC2"})
    assert aws.sensors[0].info.idle_watts == pytest.approx(0.4556)


def test_rapl_asked_for_and_absent_is_modelled_and_says_so(machine):
    found = machine("rapl")
    assert [sensor.info.method for sensor in found.sensors] == ["modelled"]
    assert "modelled instead" in found.absences[0].message


def test_dram_alone_does_not_stand_for_the_cpu(machine, zone):
    files = _rapl(zone) | {"class/powercap/intel-rapl:0/energy_uj": "garbage"}
    found = machine("auto", files)
    assert [sensor.info.id for sensor in found.sensors] == ["cpu"]
    assert [(absence.name, absence.reason) for absence in found.absences] == [("RAPL package-0", "io")]


def test_modelled_does_not_look_for_rapl(machine, zone):
    found = machine("modelled", _rapl(zone))
    assert [sensor.info.id for sensor in found.sensors] == ["cpu"]
    assert found.absences == ()


# Several families on one machine.


def _ids(found):
    return [sensor.info.id for sensor in found.sensors]


_SERVER = {"class/hwmon/hwmon0/name": "power_meter", "class/hwmon/hwmon0/power1_average": 240_000_000}
_ZENPOWER = {"class/hwmon/hwmon1/name": "zenpower", "class/hwmon/hwmon1/power1_input": 30_000_000}
_MI210 = {
    "class/hwmon/hwmon2/name": "amdgpu",
    "class/hwmon/hwmon2/power1_average": 120_000_000,
    "class/hwmon/hwmon2/power1_cap": 300_000_000,
}
_JETSON = {
    "class/hwmon/hwmon3/name": "ina3221",
    "class/hwmon/hwmon3/in1_label": "VDD_GPU_SOC",
    "class/hwmon/hwmon3/power1_input": 7_000_000,
    "class/hwmon/hwmon3/in2_label": "VDD_CPU_CV",
    "class/hwmon/hwmon3/power2_input": 2_000_000,
}


def test_auto_takes_processor_and_gpus_of_every_vendor(machine, zone, driver):
    found = machine("auto", {**_rapl(zone), **_MI210})
    assert _ids(found) == ["package-0", "dram-0", "gpu0", "gpu1"]
    assert found.describe() == "RAPL package-0, dram-0, NVML NVIDIA H100 80GB HBM3 gpu0, amdgpu gpu1"
    assert (found.absences, found.host.scope) == ((), "host")
    found.close()


def test_a_gpu_beside_a_modelled_processor(machine, driver):
    found = machine()
    assert _ids(found) == ["gpu0", "cpu"]
    assert found.describe().startswith("NVML NVIDIA H100 80GB HBM3 gpu0, CPU modelled from AMD EPYC 3rd Gen")
    assert found.host.scope == "cgroup"


def test_a_processor_is_measured_once(machine, zone):
    assert _ids(machine("auto", {**_rapl(zone), **_ZENPOWER, **_SERVER})) == ["package-0", "dram-0"]
    assert machine("hwmon").describe() == "zenpower package-0"


def test_a_jetsons_gpu_rail_is_used_where_no_library_measures_the_gpu(machine):
    found = machine("auto", _JETSON)
    assert _ids(found) == ["gpu0", "cpu"]
    assert found.host.scope == "host"


def test_a_gpu_of_a_library_comes_before_the_rail(machine, driver):
    found = machine("auto", _JETSON)
    assert [sensor.info.description for sensor in found.sensors] == [
        "NVML NVIDIA H100 80GB HBM3 gpu0",
        "Jetson VDD_CPU_CV",
    ]


def test_a_whole_server_is_measured_where_nothing_finer_is(machine):
    found = machine("auto", _SERVER)
    assert _ids(found) == ["server"]
    assert "whole server" in found.describe()


def test_a_whole_server_is_not_added_to_its_gpu(machine, driver):
    found = machine("auto", _SERVER)
    assert _ids(found) == ["gpu0", "cpu"]
    assert found.sensors[1].info.method == "modelled"


@pytest.mark.parametrize(
    ("sensors", "ids"),
    [
        ("rapl", ["package-0", "dram-0"]),
        ("nvml", ["gpu0", "cpu"]),  # unknown is not zero: the processor is modelled
        ("modelled,nvml", ["gpu0", "cpu"]),
        ("rapl,nvml", ["package-0", "dram-0", "gpu0"]),
        ("amd,rapl", ["package-0", "dram-0", "gpu0"]),
        ("hwmon", ["package-0"]),
    ],
)
def test_a_list_is_all_that_is_looked_for(machine, zone, driver, sensors, ids):
    assert _ids(machine(sensors, {**_rapl(zone), **_MI210, **_ZENPOWER})) == ids


def test_families_without_hardware_are_silent(machine, zone):
    assert machine("auto", _rapl(zone)).absences == ()


@pytest.mark.parametrize(("node", "name"), [("nvidiactl", "NVML"), ("kfd", "AMD")])
def test_a_gpu_that_is_there_and_cannot_be_read_is_told(machine, zone, tree, node, name, monkeypatch):
    for module in ("pynvml", "amdsmi"):
        monkeypatch.setitem(sys.modules, module, None)
    found = machine("auto", _rapl(zone), devfs=tree("dev", {node: ""}))
    (absence,) = found.absences
    assert (absence.name, absence.reason, absence.worth_reporting) == (name, "absent", True)
    assert absence.remedy


@pytest.mark.parametrize("family", ["nvml", "amd", "apple", "hwmon", "ipmi"])
def test_asked_for_by_name_and_absent_is_told(machine, family, monkeypatch, tmp_path):
    for module in ("pynvml", "amdsmi", "zeus_apple_silicon"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = machine(family)
    assert _ids(found) == ["cpu"]
    assert [(absence.reason, absence.worth_reporting) for absence in found.absences] == [("absent", True)]


def test_that_a_machine_has_no_rapl_is_no_fault(machine):
    (absence,) = machine().absences
    assert not absence.worth_reporting


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("auto", "auto"),
        (" RAPL, nvml ", "rapl,nvml"),
        ("nvml,nvml", "nvml"),
        ("replay:a,b.json", "replay:a,b.json"),
        ("none", "none"),
        ("auto,rapl", None),
        ("none,rapl", None),
        ("rapl,", None),
        ("replay:", None),
        ("cuda", None),
    ],
)
def test_the_option(text, value):
    loaded = load({"sensors": text}, {})
    if value is None:
        assert "rapl, nvml, amd" in str(loaded.problems[0])
        value = "auto"
    assert loaded.config.sensors == value


def test_none(machine, zone):
    found = machine("none", _rapl(zone))
    assert (found.sensors, found.describe()) == ((), "nothing (no sensor and --sensors none)")
    assert found.host.busy_seconds() > 0


def test_replay(machine, tmp_path):
    sensors = [
        {"id": name, "component": kind, "method": "measured", "samples": [[0, 1.0]]}
        for name, kind in (("package-0", "cpu"), ("gpu0", "gpu"))
    ]
    (tmp_path / "r.json").write_text(json.dumps({"sensors": sensors}))
    found = machine(f"replay:{tmp_path / 'r.json'}")
    assert found.describe() == "recorded package-0, gpu0"
    found.close()


def test_a_bad_recording_is_the_only_thing_that_raises(machine, tmp_path):
    with pytest.raises(ConfigError):
        machine(f"replay:{tmp_path / 'missing.json'}")


def test_temperature_of_a_modelled_cpu_comes_from_hwmon(machine):
    found = machine(sysfs={"class/hwmon/hwmon0/name": "k10temp", "class/hwmon/hwmon0/temp1_input": 48_000})
    assert found.sensors[0].celsius() == 48.0


def test_this_machine():
    found = discover(Config())
    assert found.sensors
    for sensor in found.sensors:
        assert sensor.read().joules >= 0
    assert found.describe()
    found.close()
