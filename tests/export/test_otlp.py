from __future__ import annotations

import gzip
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as OtlpMetric
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from support.waiting import PATIENCE, until

from ecolyzer_otel.common.metrics import EXEMPLAR_METRICS, METRICS, Metric
from ecolyzer_otel.export.otlp import OtlpMetricsExporter, configured
from ecolyzer_otel.export.store import MetricStore

from .conftest import SPAN, TRACE

RESOURCE = {"service.name": "ecolyzer", "service.instance.id": "host-1"}


class Collector:
    """A small OTLP/HTTP receiver on loopback."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.arrived = threading.Event()
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/metrics" and outer.status == 200:
                    outer.requests.append(ExportMetricsServiceRequest.FromString(body))
                    outer.arrived.set()
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def metrics(self) -> dict[str, OtlpMetric]:
        scope = self.requests[-1].resource_metrics[0].scope_metrics[0]
        return {metric.name: metric for metric in scope.metrics}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.mark.parametrize(
    ("environ", "yes"),
    [
        ({}, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "console"}, True),
        ({"OTEL_METRICS_EXPORTER": "prometheus, OTLP"}, True),
        ({"OTEL_METRICS_EXPORTER": "otlp_proto_grpc"}, True),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, False),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_METRICS_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, False),
        ({"OTEL_SDK_DISABLED": "True", "OTEL_METRICS_EXPORTER": "otlp"}, False),
    ],
)
def test_metrics_go_out_only_when_asked_for(environ: Mapping[str, str], yes: bool) -> None:
    assert configured(environ) is yes


def test_with_nothing_configured_nothing_happens() -> None:
    code = (
        "import os, sys, threading\n"
        "from ecolyzer_otel.export import otlp, store\n"
        "exporter = otlp.OtlpMetricsExporter(store.MetricStore(), resource_attributes={})\n"
        "assert not otlp.configured(os.environ)\n"
        "exporter.start(); assert exporter.stop(5.0)\n"
        "assert threading.active_count() == 1\n"
        "print(sorted(m for m in sys.modules if m.startswith(('opentelemetry.', 'requests', 'google'))))\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_metric_arrives_as_it_is(
    full_store: MetricStore, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=not-this")
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE)
    exporter.start()
    assert exporter.stop(5.0)
    resource = {
        each.key: each.value.string_value for each in collector.requests[0].resource_metrics[0].resource.attributes
    }
    assert resource.items() >= {**RESOURCE, "deployment.environment.name": "test"}.items()
    metrics = collector.metrics()
    assert [(each.name, each.unit, each.description) for each in metrics.values()] == [
        (spec.stem, spec.otel_unit, spec.help) for spec in METRICS
    ]
    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    for family in full_store.snapshot():
        spec, metric = family.spec, metrics[family.spec.stem]
        kind = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}[spec.type]
        assert metric.WhichOneof("data") == kind
        data = getattr(metric, kind)
        if kind != "gauge":
            assert data.aggregation_temporality == cumulative
            assert {point.start_time_unix_nano for point in data.data_points} == {full_store.start_time_ns}
        if kind == "sum":
            assert data.is_monotonic
        for point, ours in zip(data.data_points, family.points, strict=True):
            labels = {each.key: each.value.string_value for each in point.attributes}
            assert labels == dict(zip(spec.labels, ours.labels, strict=True))
            if kind == "histogram":
                assert tuple(point.bucket_counts) == ours.counts  # type: ignore[union-attr]
                assert tuple(point.explicit_bounds) == spec.buckets
                assert (point.sum, point.min, point.max) == (ours.sum, ours.min, ours.max)  # type: ignore[union-attr]
            else:
                assert point.as_double == ours.value  # type: ignore[union-attr]


def test_exemplars_arrive(full_store: MetricStore, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{collector.url}/v1/metrics")
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE)
    exporter.start()
    exporter.stop(5.0)
    for spec in EXEMPLAR_METRICS:
        exemplars = collector.metrics()[spec.stem].histogram.data_points[0].exemplars
        assert [each.as_double for each in exemplars] == [
            spec.buckets[0],
            spec.buckets[3] * 1.3,
            spec.buckets[-1] * 7,
        ]
        assert {(each.trace_id.hex(), each.span_id.hex()) for each in exemplars} == {(TRACE, SPAN)}
        assert {each.time_unix_nano for each in exemplars} == {1_765_432_109_125_000_000}


def test_it_exports_at_the_configured_interval(
    full_store: MetricStore, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE)
    exporter.start()
    exporter.start()
    assert collector.arrived.wait(10.0)
    full_store.counter(Metric.METER_CPU, ()).inc(1000.0)
    exporter.stop(5.0)
    assert len(collector.requests) >= 2
    before, after = (
        request.resource_metrics[0].scope_metrics[0].metrics[-2].sum.data_points[0].as_double
        for request in (collector.requests[0], collector.requests[-1])
    )
    assert after == before + 1000.0


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "1e300"])
def test_a_bad_interval_is_named_and_the_default_used(
    text: str, full_store: MetricStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", text)
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE, exporter=Broken())
    exporter.start()
    exporter.stop(5.0)
    assert "OTEL_METRIC_EXPORT_INTERVAL" in caplog.records[0].getMessage()


class Broken(MetricExporter):
    """An exporter that never succeeds, as the interface allows."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        self.calls += 1
        raise RuntimeError("broken")

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        raise RuntimeError("broken")


class Hanging(Broken):
    """An exporter that does not come back."""

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        threading.Event().wait(30.0)
        return MetricExportResult.FAILURE


def test_a_broken_exporter_is_reported_once(full_store: MetricStore, caplog: pytest.LogCaptureFixture) -> None:
    broken = Broken()
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE, interval_seconds=0.01, exporter=broken)
    exporter.start()
    while broken.calls < 5:
        time.sleep(0.01)
    assert not exporter.stop(5.0)
    assert [record.getMessage() for record in caplog.records] == [
        "metrics could not be exported, still trying: RuntimeError: broken"
    ]


def test_stopping_never_waits_longer_than_it_may(full_store: MetricStore) -> None:
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE, exporter=Hanging())
    exporter.start()
    begin = time.monotonic()
    assert not exporter.stop(timeout_seconds=0.2)
    assert time.monotonic() - begin < 20.0, "the exporter hangs for 30 s"


def test_one_line_per_outage_and_one_when_it_is_over(
    full_store: MetricStore,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    caplog.set_level(logging.INFO)
    collector.status = 400
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE, interval_seconds=0.05)
    exporter.start()
    until(lambda: caplog.records, "the line")
    time.sleep(0.5)  # further attempts say nothing
    collector.status = 200
    assert collector.arrived.wait(PATIENCE)
    assert exporter.stop(5.0)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith(f"metrics could not be exported to {collector.url}, still trying: ")
    assert "400" in lines[0]
    assert lines[1] == "metrics are exported again"


def test_an_unreachable_collector_costs_one_line_that_names_it(
    full_store: MetricStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE, interval_seconds=0.05)
    exporter.start()
    until(lambda: caplog.records, "the line")
    time.sleep(0.5)  # further attempts say nothing
    exporter.stop(10.0)
    (record,) = caplog.records
    assert record.getMessage().startswith("metrics could not be exported to http://127.0.0.1:9, still trying: ")


def test_what_others_log_about_their_exports_is_left_alone(
    full_store: MetricStore, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE, exporter=Hanging())
    exporter.start()
    logger.warning("the app's own exporter")
    exporter.stop(0.0)
    assert [record.getMessage() for record in caplog.records] == ["the app's own exporter"]


@pytest.mark.parametrize(
    ("environ", "remedy"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "pip install 'ecolyzer-otel[otlp]'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "pip install opentelemetry-exporter-otlp-proto-grpc"),
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "smoke"}, "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_METRICS_CREDENTIAL_PROVIDER": "smoke"}, "check OTEL_EXPORTER_OTLP_*"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_a_remedy(
    environ: Mapping[str, str],
    remedy: str,
    full_store: MetricStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if "ecolyzer" in remedy:
        monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE)
    exporter.start()
    assert exporter.stop(5.0)
    (record,) = caplog.records
    assert remedy in record.getMessage()
    assert "\n" not in record.getMessage()


def test_the_console_is_an_exporter_too(
    full_store: MetricStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    exporter = OtlpMetricsExporter(full_store, resource_attributes=RESOURCE)
    exporter.start()
    assert exporter.stop(5.0)
    assert Metric.ENERGY.stem in capsys.readouterr().out
