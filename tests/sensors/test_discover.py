from __future__ import annotations

import json

import pytest

from ecolyzer_otel.config import Config
from ecolyzer_otel.errors import ConfigError
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
        return discover(config, procfs=tree("proc", _PROC), cgroupfs=tree("cgroup", _CGROUP), **options)

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
