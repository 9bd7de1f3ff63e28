"""The same metrics by OTLP, directly from the store's aggregates.

Without a MeterProvider: the store already holds cumulative sums, so each export is one copy of it in the SDK's data
classes, passed to an SDK exporter. Temporality is always cumulative;
``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`` is ignored.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ecolyzer_otel.common.metrics import MetricSpec
from ecolyzer_otel.export.store import Exemplar, HistogramPoint, Labels, MetricStore, Point

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
    from opentelemetry.sdk.metrics.export import DataT, MetricExporter, MetricsData
    from opentelemetry.sdk.resources import Resource

__all__ = ["SCOPE", "OtlpMetricsExporter", "configured", "metrics_data"]

_log = logging.getLogger(__name__)

#: The instrumentation scope of all metrics.
SCOPE: Final = "ecolyzer_otel"
_DEFAULT_INTERVAL_SECONDS: Final = 60.0
_OTLP_NAMES: Final = frozenset({"otlp", "otlp_proto_http", "otlp_proto_grpc"})
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PACKAGES: Final = {
    "http/protobuf": ("opentelemetry.exporter.otlp.proto.http.metric_exporter", "'ecolyzer-otel[otlp]'"),
    "grpc": ("opentelemetry.exporter.otlp.proto.grpc.metric_exporter", "opentelemetry-exporter-otlp-proto-grpc"),
}
#: Loggers of the exporters and their libraries, which log each failed attempt.
_NOISY: Final = ("opentelemetry.exporter.", "urllib3", "grpc")


def _requested(environ: Mapping[str, str]) -> list[str]:
    """The configured exporters, by their OTEL_METRICS_EXPORTER names."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = environ.get("OTEL_METRICS_EXPORTER", "").strip().lower()
    if named:
        return [name for name in map(str.strip, named.split(",")) if name in _OTLP_NAMES or name == "console"]
    return ["otlp"] if any(environ.get(key, "").strip() for key in _ENDPOINTS) else []


def configured(environ: Mapping[str, str]) -> bool:
    """Whether the environment configures metrics by OTLP or on the console."""
    return bool(_requested(environ))


def _protocol(name: str, environ: Mapping[str, str]) -> str:
    if name in ("otlp_proto_http", "otlp_proto_grpc"):
        return "grpc" if name == "otlp_proto_grpc" else "http/protobuf"
    texts = (environ.get(key, "").strip().lower() for key in _PROTOCOLS)
    return next((text for text in texts if text), "http/protobuf")


def _make(name: str, environ: Mapping[str, str]) -> MetricExporter | None:
    """An SDK exporter, or None with one warning that states the remedy."""
    if name == "console":
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

        return ConsoleMetricExporter(out=sys.stdout)  # its default is the stdout at its import
    protocol = _protocol(name, environ)
    if protocol not in _PACKAGES:
        _log.warning("no metrics by OTLP: unknown protocol %r; set %s=http/protobuf", protocol, _PROTOCOLS[1])
        return None
    module, package = _PACKAGES[protocol]
    try:
        exporter: MetricExporter = importlib.import_module(module).OTLPMetricExporter()
    except ImportError:
        _log.warning("no metrics by OTLP (%s): the exporter is not installed; pip install %s", protocol, package)
        return None
    except Exception as error:  # noqa: BLE001 - invalid OTEL_* settings must not stop the meter
        _log.warning("no metrics by OTLP (%s): %s; check OTEL_EXPORTER_OTLP_*", protocol, _first_line(str(error)))
        return None
    return exporter


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _interval(environ: Mapping[str, str]) -> float:
    text = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    try:
        seconds = float(text) / 1000.0 if text else _DEFAULT_INTERVAL_SECONDS
        if not 0.0 < seconds <= threading.TIMEOUT_MAX:
            raise ValueError
    except ValueError:
        _log.warning("OTEL_METRIC_EXPORT_INTERVAL: %r cannot be used; give milliseconds such as 60000", text)
        return _DEFAULT_INTERVAL_SECONDS
    return seconds


def _attributes(spec: MetricSpec, labels: Labels) -> dict[str, str]:
    return dict(zip(spec.labels, labels, strict=True))


def _data(spec: MetricSpec, points: Sequence[Point | HistogramPoint], start: int, now: int) -> DataT:
    from opentelemetry.sdk.metrics import export as sdk

    cumulative = sdk.AggregationTemporality.CUMULATIVE
    if spec.type == "histogram":
        histograms = [
            sdk.HistogramDataPoint(
                attributes=_attributes(spec, point.labels),
                start_time_unix_nano=start,
                time_unix_nano=now,
                count=point.count,
                sum=point.sum,
                bucket_counts=point.counts,
                explicit_bounds=spec.buckets,
                min=point.min,
                max=point.max,
                exemplars=[_exemplar(each) for each in point.exemplars if each is not None],
            )
            for point in points
            if isinstance(point, HistogramPoint) and point.count  # an empty histogram has no minimum
        ]
        return sdk.Histogram(histograms, cumulative)
    numbers = [
        sdk.NumberDataPoint(_attributes(spec, point.labels), start, now, point.value)
        for point in points
        if isinstance(point, Point)
    ]
    return sdk.Sum(numbers, cumulative, is_monotonic=True) if spec.type == "counter" else sdk.Gauge(numbers)


def _exemplar(exemplar: Exemplar) -> SdkExemplar:
    from opentelemetry.sdk.metrics import Exemplar as SdkExemplar

    return SdkExemplar(
        {},
        exemplar.value,
        round(exemplar.timestamp_seconds * 1e6) * 1000,  # a float has no nanosecond resolution for present times
        int(exemplar.span_id, 16),
        int(exemplar.trace_id, 16),
    )


def metrics_data(store: MetricStore, resource: Resource) -> MetricsData:
    """Everything in ``store`` as the SDK's data classes, at one instant."""
    from opentelemetry.sdk.metrics import export as sdk
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    families, now = store.snapshot(), time.time_ns()
    metrics = [
        sdk.Metric(spec.stem, spec.help, spec.otel_unit, _data(spec, family.points, store.start_time_ns, now))
        for family in families
        for spec in (family.spec,)
        if family.points
    ]
    scope = sdk.ScopeMetrics(InstrumentationScope(SCOPE), [each for each in metrics if each.data.data_points], "")
    return sdk.MetricsData([sdk.ResourceMetrics(resource, [scope], "")])


class _CaptureLogs(logging.Filter):
    """Captures the exporter's warnings on our thread, and only there: the app may use the same libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.thread: int | None = None
        self.reason = ""
        self._loggers: list[logging.Logger] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self.thread or record.levelno < logging.WARNING:
            return True
        self.reason = self.reason or record.getMessage()
        return False

    def install(self) -> None:
        names = [name for name in logging.root.manager.loggerDict if name.startswith(_NOISY)]
        self._loggers = [logging.getLogger(name) for name in names]
        for logger in self._loggers:
            logger.addFilter(self)

    def uninstall(self) -> None:
        for logger in self._loggers:
            logger.removeFilter(self)


class OtlpMetricsExporter:
    """Exports ``store`` every ``interval_seconds`` from a daemon thread, and once more at :meth:`stop`.

    Args:
        store: the metrics to export.
        resource_attributes: the resource of the meter; ``OTEL_RESOURCE_ATTRIBUTES`` adds missing attributes.
        interval_seconds: default ``OTEL_METRIC_EXPORT_INTERVAL`` (milliseconds), else 60 s.
        exporter: any SDK exporter; default: as the environment configures (see :func:`configured`).
    """

    def __init__(
        self,
        store: MetricStore,
        *,
        resource_attributes: Mapping[str, str],
        interval_seconds: float | None = None,
        exporter: MetricExporter | None = None,
    ) -> None:
        self._store = store
        self._attributes = dict(resource_attributes)
        self._interval = interval_seconds
        self._exporter = exporter
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing: set[int] = set()

    def start(self) -> None:
        """Begin to export. Does nothing where no exporter is configured or installed."""
        if self._thread is not None or self._stopping.is_set():
            return
        candidates: Iterable[MetricExporter | None] = [self._exporter]
        if self._exporter is None:
            candidates = [_make(name, os.environ) for name in _requested(os.environ)]
        exporters = [exporter for exporter in candidates if exporter is not None]
        if not exporters:
            return
        from opentelemetry.sdk.resources import Resource

        interval = _interval(os.environ) if self._interval is None else self._interval
        self._thread = threading.Thread(
            target=self._run,
            args=(exporters, Resource.create(dict(self._attributes)), interval),
            name="ecolyzer-otlp",
            daemon=True,
        )
        self._thread.start()

    def stop(self, timeout_seconds: float = 1.0) -> bool:
        """Export the last values and end, waiting at most ``timeout_seconds``. True when all were delivered."""
        self._stopping.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive() and not self._failing

    def _run(self, exporters: Sequence[MetricExporter], resource: Resource, interval: float) -> None:
        capture = _CaptureLogs()
        capture.thread = threading.get_ident()
        capture.install()
        try:
            stopping = False
            while not stopping:
                stopping = self._stopping.wait(interval)
                for exporter in exporters:
                    self._export(exporter, resource, capture)
            for exporter in exporters:
                try:
                    exporter.shutdown()
                except Exception:  # noqa: BLE001 - the last values are already exported
                    _log.debug("the exporter did not shut down", exc_info=True)
        finally:
            capture.uninstall()

    def _where(self) -> str:
        found = next((url for url in map(os.environ.get, _ENDPOINTS) if url), "")
        # The part before an @ may be a password.
        return f" to {found.rpartition('@')[2]}" if found and self._exporter is None else ""

    def _export(self, exporter: MetricExporter, resource: Resource, capture: _CaptureLogs) -> None:
        from opentelemetry.instrumentation.utils import suppress_instrumentation
        from opentelemetry.sdk.metrics.export import MetricExportResult

        capture.reason = ""
        try:
            with suppress_instrumentation():  # otherwise an instrumented HTTP client would trace our exports
                done = exporter.export(metrics_data(self._store, resource)) is MetricExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - a fault of the export must not stop the meter
            done, capture.reason = False, f"{type(error).__name__}: {error}"
        if done:
            if id(exporter) in self._failing:
                _log.info("metrics are exported again")
            self._failing.discard(id(exporter))
        elif id(exporter) not in self._failing:  # one line per outage
            self._failing.add(id(exporter))
            reason = _first_line(capture.reason) or "no reason given"
            _log.warning("metrics could not be exported%s, still trying: %s", self._where(), reason)
