"""What the metrics say of a device: whose joules, how they were found, and what was learned of it."""

from __future__ import annotations

import pytest

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.ledger import Shares
from ecolyzer_otel.meter.record import Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(MetricStore(), "paper-tool", 100)


def shown(recorder: Recorder, metric: MetricSpec) -> dict[tuple[str, ...], float]:
    """Values of one metric by labels."""
    return {
        tuple(point.labels): point.value  # type: ignore[union-attr]
        for family in recorder.store.snapshot()
        if family.spec is metric
        for point in family.points
    }


def energy(recorder: Recorder, method: str, share: str) -> float:
    return shown(recorder, Metric.DEVICE_ENERGY)["gpu0", "gpu", method, share]


def test_joules_that_no_reading_gave_are_the_requests_share_under_their_own_method(recorder: Recorder) -> None:
    recorder.device("gpu0", "gpu", "measured", Shares(measured=100.0, requests=60.0, host=10.0, idle=30.0))
    recorder.device(
        "gpu0", "gpu", "measured", Shares(measured=117.0, requests=77.0, host=10.0, idle=30.0, modelled=12.0)
    )
    assert energy(recorder, "measured", "requests") == 65.0
    assert energy(recorder, "modelled", "requests") == 12.0
    whole = sum(energy(recorder, "measured", share) for share in ("requests", "process", "host", "idle"))
    assert whole + energy(recorder, "modelled", "requests") == 117.0


def test_what_the_sensor_told_is_shown_apart_from_how_it_was_divided(recorder: Recorder) -> None:
    recorder.device(
        "cpu", "cpu", "measured", Shares(measured=50.0, requests=20.0, idle=25.0, pending=5.0), held=3.0
    )
    assert shown(recorder, Metric.DEVICE_MEASURED) == {("cpu", "cpu"): 50.0}
    assert sum(shown(recorder, Metric.DEVICE_ENERGY).values()) == 42.0
    assert shown(recorder, Metric.DEVICE_ENERGY_PENDING) == {("cpu", "cpu"): 8.0}
    recorder.device("cpu", "cpu", "measured", Shares(measured=49.0))
    assert shown(recorder, Metric.DEVICE_MEASURED) == {("cpu", "cpu"): 50.0}, "counters only grow"


def test_a_modelled_device_has_one_method(recorder: Recorder) -> None:
    recorder.device("gpu0", "gpu", "modelled", Shares(measured=20.0, requests=20.0, modelled=5.0))
    assert energy(recorder, "modelled", "requests") == 20.0


def test_what_was_learned_of_a_device_is_shown_and_a_ceiling_only_while_there_is_one(recorder: Recorder) -> None:
    labels = "gpu0", "gpu"
    recorder.learned(*labels, 57.5, True, 330.0)
    assert shown(recorder, Metric.DEVICE_IDLE_POWER) == {labels: 57.5}
    assert shown(recorder, Metric.DEVICE_LEARNED) == {labels: 1}
    assert shown(recorder, Metric.DEVICE_CEILING) == {labels: 330.0}
    recorder.learned(*labels, 57.5, False, None)
    assert shown(recorder, Metric.DEVICE_LEARNED) == {labels: 0}
    assert shown(recorder, Metric.DEVICE_CEILING) == {}
