"""What the metrics say of a device: whose joules, how they were found, and what was learned of it."""

from __future__ import annotations

import pytest

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.ledger import Shares
from ecolyzer_otel.meter.device_gauges import DeviceGauges
from ecolyzer_otel.sensors import SensorInfo


class Rig:
    """The gauges of devices, and the store that they fill."""

    def __init__(self) -> None:
        self.store = MetricStore()
        self.gauges = DeviceGauges(self.store)

    def show(self, *sensor: str, shares: Shares, held: float = 0.0) -> None:
        self.gauges.show(info(*sensor), shares, held)


def info(device: str, component: str, method: str) -> SensorInfo:
    return SensorInfo(
        id=device, component=component, method=method, description="a sensor",  # type: ignore[arg-type]
        update_period_seconds=0.1, relative_uncertainty=0.03,
    )  # fmt: skip


@pytest.fixture
def rig() -> Rig:
    return Rig()


def shown(rig: Rig, metric: MetricSpec) -> dict[tuple[str, ...], float]:
    """Values of one metric by labels."""
    return {
        tuple(point.labels): point.value  # type: ignore[union-attr]
        for family in rig.store.snapshot()
        if family.spec is metric
        for point in family.points
    }


def energy(rig: Rig, method: str, share: str) -> float:
    return shown(rig, Metric.DEVICE_ENERGY)["gpu0", "gpu", method, share]


def test_joules_that_no_reading_gave_are_the_requests_share_under_their_own_method(rig: Rig) -> None:
    rig.show("gpu0", "gpu", "measured", shares=Shares(measured=100.0, requests=60.0, host=10.0, idle=30.0))
    rig.show(
        "gpu0", "gpu", "measured", shares=Shares(measured=117.0, requests=77.0, host=10.0, idle=30.0, modelled=12.0)
    )
    assert energy(rig, "measured", "requests") == 65.0
    assert energy(rig, "modelled", "requests") == 12.0
    whole = sum(energy(rig, "measured", share) for share in ("requests", "process", "host", "idle"))
    assert whole + energy(rig, "modelled", "requests") == 117.0


def test_what_the_sensor_told_is_shown_apart_from_how_it_was_divided(rig: Rig) -> None:
    rig.show(
        "cpu", "cpu", "measured", shares=Shares(measured=50.0, requests=20.0, idle=25.0, pending=5.0), held=3.0
    )
    assert shown(rig, Metric.DEVICE_MEASURED) == {("cpu", "cpu"): 50.0}
    assert sum(shown(rig, Metric.DEVICE_ENERGY).values()) == 42.0
    assert shown(rig, Metric.DEVICE_ENERGY_PENDING) == {("cpu", "cpu"): 8.0}
    rig.show("cpu", "cpu", "measured", shares=Shares(measured=49.0))
    assert shown(rig, Metric.DEVICE_MEASURED) == {("cpu", "cpu"): 50.0}, "counters only grow"


def test_a_modelled_device_has_one_method(rig: Rig) -> None:
    rig.show("gpu0", "gpu", "modelled", shares=Shares(measured=20.0, requests=20.0, modelled=5.0))
    assert energy(rig, "modelled", "requests") == 20.0


def test_what_was_learned_of_a_device_is_shown_and_a_ceiling_only_while_there_is_one(rig: Rig) -> None:
    labels = "gpu0", "gpu"
    rig.gauges.show_learned(info(*labels, "measured"), 57.5, True, 330.0)
    assert shown(rig, Metric.DEVICE_IDLE_POWER) == {labels: 57.5}
    assert shown(rig, Metric.DEVICE_LEARNED) == {labels: 1}
    assert shown(rig, Metric.DEVICE_CEILING) == {labels: 330.0}
    rig.gauges.show_learned(info(*labels, "measured"), 57.5, False, None)
    assert shown(rig, Metric.DEVICE_LEARNED) == {labels: 0}
    assert shown(rig, Metric.DEVICE_CEILING) == {}
