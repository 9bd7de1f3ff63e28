"""The sampler: real sensors on trees and on the NVML library, a real ledger, a real metric store."""

from __future__ import annotations

import logging
import shutil

import pytest

from ecolyzer_otel.common.config import Config
from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.ledger import Ledger
from ecolyzer_otel.meter.sampler import Sampler, sensor_spec
from ecolyzer_otel.sensors import Discovery, HostCpu, SensorInfo, discover
from ecolyzer_otel.sensors.nvml import open_nvml


class Rig:
    def __init__(self, discovery: Discovery) -> None:
        self.store = MetricStore()
        self.ledger = Ledger(sensor_spec(sensor.info) for sensor in discovery.sensors)
        self.sampler = Sampler(discovery, self.ledger, self.store, list, 0.1)
        self.now = 0.0

    def sample(self, seconds: float = 1.0, **options: object) -> None:
        self.now += seconds
        self.sampler.sample(self.now, "load", **options)
        self.sampler.show()

    def values(self, spec) -> dict[tuple[str, ...], float]:
        for family in self.store.snapshot():
            if family.spec is spec:
                return {point.labels: point.value for point in family.points}
        return {}


@pytest.fixture
def rapl(tree, zone):
    """Two packages in a tree."""
    files = {**zone("intel-rapl:0", "package-0", 10), **zone("intel-rapl:1", "package-1", 10)}
    sysfs = tree("sys", files)
    return Rig(discover(Config(sysfs=str(sysfs), sensors="rapl"))), sysfs, files


@pytest.fixture
def gpu(driver, clock):
    sensors, _ = open_nvml("/no/procfs", clock)
    clock.advance(1.0)
    return Rig(Discovery(tuple(sensors), (), HostCpu()))


def test_lost_and_regained_is_shown_and_counted(rapl, tree, caplog):
    rig, sysfs, files = rapl
    rig.sample()
    up = {("package-0", "measured"): 1.0, ("package-1", "measured"): 1.0}
    assert rig.values(Metric.SENSOR_UP) == up
    shutil.rmtree(sysfs / "class/powercap/intel-rapl:0")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            rig.sample()
    assert rig.values(Metric.SENSOR_UP) == up | {("package-0", "measured"): 0.0}
    assert rig.values(Metric.SENSOR_ERRORS) == {("package-0", "absent"): 3.0, ("package-0", "lost"): 1.0}
    (line,) = [record.getMessage() for record in caplog.records]  # said once
    assert "package-0" in line
    tree("sys", files)
    rig.sample()
    assert rig.values(Metric.SENSOR_UP) == up
    assert sum(rig.values(Metric.SENSOR_ERRORS).values()) == 4.0


def test_a_failing_sensor_is_tried_once_a_second_and_the_others_at_their_pace(rapl):
    rig, sysfs, _ = rapl
    shutil.rmtree(sysfs / "class/powercap/intel-rapl:0")
    for _ in range(21):
        rig.sample(0.1)
    assert rig.values(Metric.SENSOR_ERRORS)["package-0", "absent"] == 3.0  # at 0.1, 1.1 and 2.1 s


def test_only_what_is_due_is_read_unless_everything_is_asked_for(rapl):
    rig, sysfs, _ = rapl
    rig.sample()
    shutil.rmtree(sysfs / "class/powercap")
    rig.sample(0.02)
    assert rig.values(Metric.SENSOR_ERRORS) == {}
    assert rig.sampler.next_due(rig.now, "load") == pytest.approx(1.1)
    rig.sample(0.02, everything=True)
    assert len(rig.values(Metric.SENSOR_ERRORS)) == 4


def test_throttled_seconds_are_held_between_samples(gpu, driver, clock):
    driver.set(gpu0_reasons=0x4)
    gpu.sample()
    clock.advance(2.0)
    driver.set(gpu0_reasons=0x44)
    gpu.sample()
    clock.advance(0.5)
    driver.set(gpu0_reasons=0)
    gpu.sample()
    clock.advance(5.0)
    gpu.sample()
    assert gpu.values(Metric.DEVICE_THROTTLED) == {
        ("gpu0", "power_cap"): pytest.approx(2.5),
        ("gpu0", "hw_thermal"): pytest.approx(0.5),
    }
    start = 2_000_000_000
    second = 1_000_000_000

    def conditions(first: int, last: int):
        return gpu.sampler.conditions("cuda:0", ["gpu0"], start + first * second, start + last * second)

    assert conditions(0, 5).throttled == pytest.approx(0.5)
    assert conditions(0, 5).reasons == ["hw_thermal", "power_cap"]
    assert conditions(0, 1).reasons == ["power_cap"]
    assert conditions(2, 3).throttled == pytest.approx(0.5)
    assert (conditions(4, 5).throttled, conditions(4, 5).reasons) == (0.0, [])
    assert gpu.sampler.conditions("cuda:0", [], start, start + second).throttled is None


def test_a_request_saw_the_temperatures_of_what_it_ran_on_alone(driver, clock):
    driver.set(count=2, gpu1_uuid="GPU-2", gpu1_energy=1_000, gpu1_power=1_000, gpu0_temperature=50)
    driver.set(gpu1_temperature=90)
    sensors, _ = open_nvml("/no/procfs", clock)
    clock.advance(1.0)
    rig = Rig(Discovery(tuple(sensors), (), HostCpu()))
    rig.sample()
    clock.advance(1.0)
    driver.set(gpu0_temperature=70)
    rig.sample()
    start, second = 2_000_000_000, 1_000_000_000
    one = rig.sampler.conditions("cuda:0", ["gpu0"], start, start + 2 * second)
    assert one.own == (pytest.approx(60.0), 70.0)
    assert one.devices == {"gpu0": one.own}
    both = rig.sampler.conditions("cuda:0", ["gpu0", "gpu1"], start, start + 2 * second)
    assert both.own == (90.0, 90.0), "the hottest of several"
    assert both.devices == {"gpu0": one.own, "gpu1": (90.0, 90.0)}
    on_cpu = rig.sampler.conditions("cpu", ["gpu0"], start, start + second)
    assert on_cpu.own is None


def test_a_lost_gpu_is_not_throttled_meanwhile(gpu, driver, clock):
    driver.set(gpu0_reasons=0x4)
    gpu.sample()
    clock.advance(1.0)
    driver.set(gpu0_error="!15")
    gpu.sample()
    clock.advance(8.0)
    driver.set(gpu0_error=None)
    gpu.sample()
    assert gpu.values(Metric.DEVICE_THROTTLED) == {}
    assert gpu.values(Metric.SENSOR_ERRORS) == {("gpu0", "io"): 1.0, ("gpu0", "lost"): 1.0}


def test_what_goes_wrong_without_failing_a_reading_is_counted(gpu, driver, clock):
    for _ in range(60):
        clock.advance(0.1)
        gpu.sample(0.1)  # 100 W, and a counter that stands still
    assert gpu.values(Metric.SENSOR_ERRORS) == {("gpu0", "counter_stuck"): 1.0}
    assert gpu.sampler.next_due(0.0, "unused", 1000.0) == pytest.approx(gpu.now + 9.0)
    assert gpu.ledger.sensors["gpu0"].spec.relative_uncertainty == pytest.approx(2**0.5 * 0.10)


def test_limits_and_utilization_are_shown(gpu, driver, clock):
    gpu.sample()
    assert gpu.values(Metric.DEVICE_POWER_LIMIT) == {("gpu0", "gpu"): 600.0}
    assert gpu.values(Metric.DEVICE_TEMPERATURE_LIMIT) == {("gpu0", "gpu"): 87.0}
    assert gpu.values(Metric.DEVICE_TEMPERATURE) == {("gpu0", "gpu"): 41.0}


@pytest.mark.parametrize(
    ("component", "limit", "peak", "most"),
    [
        ("cpu", 15.0, 64.0, 128.0),  # a laptop's PL2 is four times its PL1
        ("cpu", 205.0, None, 410.0),
        ("gpu", 400.0, 700.0, 1050.0),  # set to 400 W now, but it may be set back
        ("gpu", 300.0, None, 450.0),
        ("dram", None, None, 10_000.0),
    ],
)
def test_what_an_interval_may_hold_follows_from_the_limits(component, limit, peak, most):
    info = SensorInfo(
        id="x",
        component=component,
        method="measured",
        description="x",
        power_limit_watts=limit,
        peak_watts=peak,
        update_period_seconds=0.1,
        relative_uncertainty=0.05,
    )
    assert sensor_spec(info).max_watts == most
