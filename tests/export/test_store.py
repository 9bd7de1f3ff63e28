from __future__ import annotations

import math
import threading

import pytest

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.store import OTHER, Exemplar, HistogramPoint, MetricStore, Point

DEVICE = ("gpu0", "gpu")
FIVE = ("shop", "resnet50", "torch", "forward", "gpu0")
EXEMPLAR = Exemplar("a" * 32, "b" * 16, 0.3, 1_765_432_109.0)


def points(store: MetricStore, spec: MetricSpec) -> dict[tuple[str, ...], Point | HistogramPoint]:
    found = {family.spec.stem: family.points for family in store.snapshot()}
    return {point.labels: point for point in found.get(spec.stem, ())}


def value(store: MetricStore, spec: MetricSpec, labels: tuple[str, ...] = ()) -> float:
    point = points(store, spec)[labels]
    assert isinstance(point, Point)
    return point.value


def energy(model: str, service: str = "shop", share: str = "active") -> tuple[str, ...]:
    return (service, model, "torch", "forward", "gpu0", f"/{model}", "gpu", share)


def test_a_counter_is_the_sum_of_what_was_added() -> None:
    store = MetricStore()
    store.counter(Metric.METER_CPU, ()).inc(0.25)
    store.counter(Metric.METER_CPU, ()).inc(0.5)
    assert value(store, Metric.METER_CPU) == 0.75


def test_the_same_labels_give_the_same_child() -> None:
    store = MetricStore()
    assert store.gauge(Metric.DEVICE_POWER, ("gpu0", "gpu")) is store.gauge(Metric.DEVICE_POWER, DEVICE)


@pytest.mark.parametrize("bad", [-1e-9, math.nan, math.inf, -math.inf])
def test_a_counter_refuses_what_would_spoil_it(bad: float) -> None:
    store = MetricStore()
    child = store.counter(Metric.METER_CPU, ())
    child.inc(1.0)
    with pytest.raises(ValueError, match="cannot grow"):
        child.inc(bad)
    assert value(store, Metric.METER_CPU) == 1.0


@pytest.mark.parametrize("bad", [-1e-9, math.nan, math.inf])
def test_a_histogram_refuses_what_would_spoil_it(bad: float) -> None:
    store = MetricStore()
    child = store.histogram(Metric.SETTLEMENT_LAG, ())
    with pytest.raises(ValueError, match="cannot observe"):
        child.observe(bad)
    point = points(store, Metric.SETTLEMENT_LAG)[()]
    assert isinstance(point, HistogramPoint)
    assert (point.count, point.sum) == (0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gauge_refuses_what_is_no_number(bad: float) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        MetricStore().gauge(Metric.DEVICE_POWER, DEVICE).set(bad)


def test_a_gauge_is_there_only_while_it_is_known() -> None:
    store = MetricStore()
    child = store.gauge(Metric.DEVICE_POWER, DEVICE)
    assert points(store, Metric.DEVICE_POWER) == {}
    child.set(60.0)
    assert value(store, Metric.DEVICE_POWER, DEVICE) == 60.0
    child.remove()
    assert points(store, Metric.DEVICE_POWER) == {}
    child.set(0.0)
    assert value(store, Metric.DEVICE_POWER, DEVICE) == 0.0


def test_a_removed_gauge_writes_to_its_successor() -> None:
    store = MetricStore()
    old = store.gauge(Metric.DEVICE_POWER, DEVICE)
    store.remove(Metric.DEVICE_POWER, DEVICE)
    store.remove(Metric.DEVICE_POWER, DEVICE)
    store.gauge(Metric.DEVICE_POWER, DEVICE).set(1.0)
    old.set(2.0)
    assert value(store, Metric.DEVICE_POWER, DEVICE) == 2.0


def test_only_gauges_can_be_removed() -> None:
    with pytest.raises(ValueError, match="only gauges"):
        MetricStore().remove(Metric.METER_CPU, ())


def test_a_value_on_a_bound_is_counted_below_it() -> None:
    store = MetricStore()
    child = store.histogram(Metric.SETTLEMENT_LAG, ())
    for observed in (0.01, 0.010001, 99.0):
        child.observe(observed)
    point = points(store, Metric.SETTLEMENT_LAG)[()]
    assert isinstance(point, HistogramPoint)
    assert point.counts == (1, 1, 0, 0, 0, 0, 0, 0, 0, 1)
    assert (point.sum, point.min, point.max) == (0.01 + 0.010001 + 99.0, 0.01, 99.0)


def test_each_bucket_keeps_its_last_exemplar() -> None:
    store = MetricStore()
    child = store.histogram(Metric.REQUEST_DURATION, FIVE)
    later = Exemplar("c" * 32, "d" * 16, 0.31, 1_765_432_110.0)
    child.observe(0.3, EXEMPLAR)
    child.observe(0.31, later)
    child.observe(0.32)
    point = points(store, Metric.REQUEST_DURATION)[FIVE]
    assert isinstance(point, HistogramPoint)
    assert [each for each in point.exemplars if each] == [later]


@pytest.mark.parametrize("ids", [("A" * 32, "b" * 16), ("a" * 31, "b" * 16), ("a" * 32, 'b"' * 8)])
def test_an_exemplar_needs_real_ids(ids: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="lower-case hex"):
        Exemplar(*ids, 1.0, 1.0)


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        (Metric.DEVICE_POWER, ("gpu0", "gpu")),
        (Metric.METER_CPU, ("one too many",)),
        (MetricSpec("unheard_of", "counter", ""), ()),
    ],
)
def test_a_wrong_lookup_is_refused(spec: MetricSpec, labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=spec.stem):
        MetricStore().counter(spec, labels)


def test_label_values_are_text() -> None:
    with pytest.raises(ValueError, match="as text"):
        MetricStore().gauge(Metric.DEVICE_POWER, (0, "gpu"))  # type: ignore[arg-type]


def test_over_the_limit_models_and_routes_give_way_first() -> None:
    store = MetricStore(max_label_sets=20)
    for number in range(20):
        store.counter(Metric.ENERGY, energy(f"m{number}")).inc(1.0)
    store.counter(Metric.ENERGY, energy("one more")).inc(2.0)
    store.counter(Metric.ENERGY, energy("another", share="idle")).inc(3.0)
    store.counter(Metric.ENERGY, energy("m3")).inc(4.0)
    store.counter(Metric.ENERGY, energy("third", service="elsewhere")).inc(5.0)
    partly = ("shop", OTHER, "torch", "forward", "gpu0", OTHER, "gpu")
    assert value(store, Metric.ENERGY, (*partly, "active")) == 2.0
    assert value(store, Metric.ENERGY, (*partly, "idle")) == 3.0
    assert value(store, Metric.ENERGY, energy("m3")) == 5.0
    assert value(store, Metric.ENERGY, (OTHER,) * 8) == 5.0
    assert value(store, Metric.LABEL_OVERFLOW) == 3.0


def test_metrics_without_a_model_overflow_at_once() -> None:
    store = MetricStore(max_label_sets=2)
    for number in range(4):
        store.gauge(Metric.DEVICE_POWER, (f"gpu{number}", "gpu")).set(number)
    assert set(points(store, Metric.DEVICE_POWER)) == {("gpu0", "gpu"), ("gpu1", "gpu"), (OTHER, OTHER)}


def test_a_hundred_thousand_names_stay_bounded_and_lose_no_joule() -> None:
    store = MetricStore(max_label_sets=100)
    for number in range(100_000):
        store.counter(Metric.ENERGY, energy(f"m{number}", service=f"s{number}")).inc(1.0)
    found = points(store, Metric.ENERGY)
    assert len(found) <= 100 + 10 + 1
    assert sum(point.value for point in found.values() if isinstance(point, Point)) == 100_000.0
    assert value(store, Metric.LABEL_OVERFLOW) == 99_900.0


def test_names_that_are_no_utf8_are_kept_readable() -> None:
    store = MetricStore()
    store.gauge(Metric.DEVICE_POWER, ("bad\udcff", "gpu")).set(1.0)
    store.gauge(Metric.DEVICE_POWER, ("bad\udcff", "gpu")).set(2.0)
    assert value(store, Metric.DEVICE_POWER, (r"bad\udcff", "gpu")) == 2.0


def test_a_settlement_is_seen_whole_or_not_at_all() -> None:
    store = MetricStore()
    requests = store.counter(Metric.DROPPED_REQUESTS, ("shop", "x"))
    joules = store.counter(Metric.METER_CPU, ())
    done = threading.Event()

    def settle() -> None:
        while not done.is_set():
            with store.transaction():
                requests.inc(1.0)
                joules.inc(2.0)

    writers = [threading.Thread(target=settle) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(300):
            now = {family.spec.stem: family.points for family in store.snapshot()}
            served = now[Metric.DROPPED_REQUESTS.stem][0]
            charged = now[Metric.METER_CPU.stem][0]
            assert isinstance(served, Point)
            assert isinstance(charged, Point)
            assert charged.value == 2.0 * served.value
    finally:
        done.set()
        for writer in writers:
            writer.join()


def test_a_snapshot_since_another_holds_what_changed() -> None:
    store = MetricStore()
    first = store.gauge(Metric.DEVICE_POWER, DEVICE)
    first.set(1.0)
    second = store.gauge(Metric.DEVICE_POWER, ("gpu1", "gpu"))
    second.set(1.0)
    seen = {family.spec.stem: family.version for family in store.snapshot()}
    first.set(2.0)
    second.set(1.0)
    (changed,) = (each for each in store.snapshot(seen) if each.points)
    assert (changed.complete, changed.points) == (False, (Point(DEVICE, 2.0),))
    first.remove()
    (left,) = (each for each in store.snapshot(seen) if each.points)
    assert (left.complete, left.points) == (True, (Point(("gpu1", "gpu"), 1.0),))


def test_observers_are_called_after_the_transaction_and_without_its_lock() -> None:
    store = MetricStore()
    child = store.histogram(Metric.REQUEST_DURATION, FIVE)
    calls: list[object] = []

    def observer(*observation: object) -> None:
        reader = threading.Thread(target=store.snapshot)  # would wait for ever under the lock
        reader.start()
        reader.join(5.0)
        calls.append((observation, reader.is_alive()))

    forget = store.on_observe(observer)
    with store.transaction(), store.transaction():
        child.observe(0.3, EXEMPLAR)
        assert calls == []
    assert calls == [((Metric.REQUEST_DURATION, FIVE, 0.3, EXEMPLAR), False)]
    forget()
    child.observe(0.3)
    assert len(calls) == 1


def test_a_broken_observer_is_reported_once_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    store = MetricStore()
    seen: list[float] = []

    def broken(*_: object) -> None:
        raise RuntimeError("observer")

    store.on_observe(broken)
    store.on_observe(lambda spec, labels, observed, exemplar: seen.append(observed))
    for observed in (0.1, 0.2):
        store.histogram(Metric.SETTLEMENT_LAG, ()).observe(observed)
    assert seen == [0.1, 0.2]
    assert len(caplog.records) == 1
