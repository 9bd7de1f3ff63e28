"""An exporter that discards spans, so that the cost of the export itself is not included."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class NullSpanExporter(SpanExporter):
    """Selected by ``OTEL_TRACES_EXPORTER=bench_null``, through an entry point that the benchmark creates."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS
