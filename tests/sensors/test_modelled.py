from __future__ import annotations

import pytest

from ecolyzer_otel.sensors import HostCpu, ModelledCpu, SensorError
from ecolyzer_otel.sensors.cpuinfo import parse_cpuinfo
from ecolyzer_otel.sensors.hardware import HardwareTable
from ecolyzer_otel.sensors.modelled import PowerModel, power_model

_EPYC_VM = (
    "processor: 0\nvendor_id: AuthenticAMD\ncpu family: 25\nmodel: 1\nmodel name: AMD EPYC\nflags: hypervisor"
)


@pytest.fixture
def host(tree):
    """Two CPUs whose busy ticks the test sets."""

    class Host:
        def set(self, ticks: int) -> None:
            self.root = tree("proc", {"stat": f"cpu  {ticks} 0 0 0 0 0 0 0 0 0\ncpu0 0\ncpu1 0"})

    made = Host()
    made.set(0)
    made.cpu = HostCpu(made.root, "/nonexistent")
    return made


_LINE = PowerModel(points=((0.0, 10.0), (1.0, 30.0)), description="a line", relative_uncertainty=0.2)


def test_joules_of_a_known_vm_by_hand(host, clock):
    """EPYC 3rd Gen, mean of three fits: idle (.4556+.4556+.4454)/3, full (1.9573+1.8337+2.0193)/3 W per thread.

    At half load the dynamic part is 0.69: 2 x (0.45220 + 0.69 x 1.48457) = 2.95310 W, over 10 s 29.5310 J.
    """
    sensor = ModelledCpu(
        host.cpu, power_model(parse_cpuinfo(_EPYC_VM), host.cpu, HardwareTable.load()), clock=clock
    )
    assert sensor.read().joules == 0.0
    clock.advance(10)
    host.set(1000)  # 10 busy seconds of 2 x 10
    reading = sensor.read()
    assert reading.joules == pytest.approx(29.5310, abs=1e-3)
    assert reading.utilization == pytest.approx(0.5)
    assert sensor.info.idle_watts == pytest.approx(2 * 0.4522)
    assert (sensor.info.id, sensor.info.component, sensor.info.method) == ("cpu", "cpu", "modelled")


def test_joules_of_a_known_processor_by_hand(host, clock):
    """TDP 150 W at 30 % load: halfway between .32 (10 %) and .75 (50 %) = .535, so 80.25 W, over 2 s 160.5 J."""
    text = "processor: 0\nmodel name: Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz\n\nprocessor: 1"
    sensor = ModelledCpu(host.cpu, power_model(parse_cpuinfo(text), host.cpu, HardwareTable.load()), clock=clock)
    sensor.read()
    clock.advance(2)
    host.set(120)  # 1.2 of 4 CPU seconds
    assert sensor.read().joules == pytest.approx(160.5)
    assert sensor.info.idle_watts == pytest.approx(18.0)


def test_integrates_step_by_step(host, clock):
    sensor = ModelledCpu(host.cpu, _LINE, clock=clock)
    sensor.read()
    total = 0.0
    for ticks, watts in ((0, 10.0), (200, 30.0), (250, 15.0)):
        clock.advance(1)
        host.set(ticks)
        total += watts
        assert sensor.read().joules == pytest.approx(total)


@pytest.mark.parametrize(("ticks", "watts"), [(10_000, 30.0), (-50, 10.0)])
def test_utilisation_is_cut_off(host, clock, ticks, watts):
    """More CPU time than there was, or a counter that went back, is a fault of the clock and not of physics."""
    host.set(100)
    sensor = ModelledCpu(host.cpu, _LINE, clock=clock)
    sensor.read()
    clock.advance(1)
    host.set(100 + ticks)
    assert sensor.read().joules == pytest.approx(watts)


def test_stands_still_between_its_updates_and_loses_no_time(host, clock):
    sensor = ModelledCpu(host.cpu, _LINE, clock=clock)
    sensor.read()
    for _ in range(10):
        clock.advance(0.005)
        sensor.read()
    clock.advance(0.95)
    host.set(200)
    assert sensor.read().joules == pytest.approx(0.04 * 10 + 0.96 * 30, rel=0.01)


def test_a_gap_in_the_cpu_time_is_modelled_when_it_is_back(host, clock):
    sensor = ModelledCpu(host.cpu, _LINE, clock=clock)
    sensor.read()
    clock.advance(1)
    (host.root / "stat").unlink()
    with pytest.raises(SensorError):
        sensor.read()
    clock.advance(1)
    host.set(200)
    assert sensor.read().joules == pytest.approx(2 * 20.0)


def test_power_between_the_points():
    assert [_LINE.watts(u) for u in (-1.0, 0.0, 0.25, 1.0, 2.0)] == [10.0, 10.0, 15.0, 30.0, 30.0]
