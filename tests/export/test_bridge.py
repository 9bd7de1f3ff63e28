"""The app's own MeterProvider with the stock Prometheus reader must show what our own /metrics shows."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as PrometheusFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from ecolyzer_otel.common.metrics import EXEMPLAR_METRICS, METRICS, Metric
from ecolyzer_otel.export.bridge import MeterProviderBridge
from ecolyzer_otel.export.exposition import render
from ecolyzer_otel.export.store import Exemplar, MetricStore

from .conftest import SPAN, TRACE, fill

Scrape = dict[str, tuple[str, str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]]


def scrape(text: str) -> Scrape:
    """Type, help and samples by family; without what the stock exporter adds on its own."""

    def samples(family: PrometheusFamily) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (
                each.name,
                tuple(sorted((k, v) for k, v in each.labels.items() if not k.startswith("otel_scope_"))),
            ): each.value
            for each in family.samples
        }

    families = [each for each in parse_classic(text) if each.name != "target_info"]
    return {each.name: (each.type, each.documentation, samples(each)) for each in families}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def provider(registry: CollectorRegistry) -> Iterable[MeterProvider]:
    provider = MeterProvider(metric_readers=[PrometheusMetricReader(registry=registry)])
    yield provider
    provider.shutdown()


def test_the_stock_prometheus_reader_shows_every_metric_as_we_do(
    registry: CollectorRegistry, provider: MeterProvider
) -> None:
    store = MetricStore()
    MeterProviderBridge(store, meter_provider=provider).start()
    fill(store)
    theirs = scrape(generate_latest(registry).decode())
    ours = scrape(render(store, openmetrics=False).decode())
    assert list(ours) == [spec.stem for spec in METRICS]
    assert theirs == ours


def test_every_scrape_shows_what_is_true_by_then(registry: CollectorRegistry, provider: MeterProvider) -> None:
    store = MetricStore()
    MeterProviderBridge(store, meter_provider=provider).start()
    for _ in range(3):
        fill(store)
        theirs, ours = scrape(generate_latest(registry).decode()), scrape(render(store, False).decode())
        for name, (_, _, samples) in ours.items():
            # The SDK adds the sums of each collection up, so that histogram sums differ in the last bits.
            assert theirs[name][2] == pytest.approx(samples, rel=1e-14)


def test_one_collection_shows_one_instant(registry: CollectorRegistry, provider: MeterProvider) -> None:
    store = MetricStore()
    MeterProviderBridge(store, meter_provider=provider).start()
    first = store.counter(Metric.DROPPED_REQUESTS, ("shop", "full"))
    second = store.counter(Metric.METER_CPU, ())
    done = threading.Event()

    def settle() -> None:
        while not done.is_set():
            with store.transaction():
                first.inc(1.0)
                second.inc(2.0)

    writer = threading.Thread(target=settle)
    writer.start()
    try:
        for _ in range(50):
            families = scrape(generate_latest(registry).decode())
            (dropped,) = families[Metric.DROPPED_REQUESTS.stem][2].values()
            (cpu,) = families[Metric.METER_CPU.stem][2].values()
            assert cpu == 2.0 * dropped
    finally:
        done.set()
        writer.join()


def test_what_is_removed_is_no_longer_shown(registry: CollectorRegistry, provider: MeterProvider) -> None:
    store = MetricStore()
    MeterProviderBridge(store, meter_provider=provider).start()
    gauge = store.gauge(Metric.DEVICE_POWER, ("gpu0", "gpu"))
    gauge.set(60.0)
    assert Metric.DEVICE_POWER.stem in scrape(generate_latest(registry).decode())
    gauge.remove()
    assert Metric.DEVICE_POWER.stem not in scrape(generate_latest(registry).decode())


def test_the_sdk_makes_exemplars_of_ours_only() -> None:
    reader = InMemoryMetricReader()
    store = MetricStore()
    MeterProviderBridge(store, meter_provider=MeterProvider(metric_readers=[reader])).start()
    labels = ("shop", "resnet50", "torch", "forward", "cpu")
    for spec in EXEMPLAR_METRICS:
        store.histogram(spec, labels).observe(0.3, Exemplar(TRACE, SPAN, 0.3, 1_765_432_109.0))
        store.histogram(spec, labels).observe(30.0)
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {each.name: each for each in data.resource_metrics[0].scope_metrics[0].metrics}
    for spec in EXEMPLAR_METRICS:
        (point,) = metrics[spec.stem].data.data_points
        assert isinstance(point, HistogramDataPoint)
        assert tuple(point.explicit_bounds) == spec.buckets
        assert point.attributes == dict(zip(spec.labels, labels, strict=True))
        (exemplar,) = point.exemplars
        assert (exemplar.value, exemplar.trace_id, exemplar.span_id) == (0.3, int(TRACE, 16), int(SPAN, 16))


def test_after_the_stop_nothing_is_read_or_recorded() -> None:
    reader = InMemoryMetricReader()
    store = MetricStore()
    bridge = MeterProviderBridge(store, meter_provider=MeterProvider(metric_readers=[reader]))
    bridge.start()
    assert bridge.stop()
    assert bridge.stop()
    fill(store)
    data = reader.get_metrics_data()
    assert data is None or not data.resource_metrics[0].scope_metrics[0].metrics


def test_a_provider_can_be_bridged_again(
    registry: CollectorRegistry, provider: MeterProvider, caplog: pytest.LogCaptureFixture
) -> None:
    first = MeterProviderBridge(MetricStore(), meter_provider=provider)
    first.start()
    first.stop()
    store = MetricStore()
    MeterProviderBridge(store, meter_provider=provider).start()
    fill(store)
    assert scrape(generate_latest(registry).decode()) == scrape(render(store, False).decode())
    assert caplog.records == []
