"""The cost of a scrape and of an OTLP export of many label sets, compared with prometheus_client's renderer.

    python benchmarks/scrape.py                       # 1 000 label sets, 100 000 names, about a minute and a half
    python benchmarks/scrape.py --quick               # fewer repeats and names
    python benchmarks/scrape.py --sets 2000 --json result.json

The store is filled by the meter's own recorder: requests of ``--sets`` models (each with a route of its own), with
tokens, phases, CPU and GPU joules, embodied, market-based and marginal grams, and an exemplar in every histogram.
Metrics that the recorder does not fill get ``--devices`` label sets, so that every metric of the contract is
present. prometheus_client renders the same samples from a collector that holds them ready. Then requests with many
distinct names, as of a careless service, are recorded in a store with the default limit.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import http.server
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as PrometheusMetric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.samples import Exemplar as PrometheusExemplar
from service_lib.figures import Target, as_json, show, show_targets
from service_lib.names import REQUESTS_PER_NAME, fill, other_metrics, record_new, settle_all

from ecolyzer_otel.common.config import Config
from ecolyzer_otel.common.metrics import METRICS
from ecolyzer_otel.export.exposition import render
from ecolyzer_otel.export.http import MetricsServer
from ecolyzer_otel.export.otlp import metrics_data
from ecolyzer_otel.export.store import HistogramPoint, MetricStore
from ecolyzer_otel.meter.record import Recorder

MAX_SCRAPE = 0.1
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
Row = tuple[str, float, int]


def timed(function: Callable[[], Any], repeats: int, before: Callable[[], Any] = lambda: None) -> float:
    """Median seconds of ``function``; ``before`` is not timed."""
    took = []
    for _ in range(repeats):
        before()
        began = time.perf_counter()
        function()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


class Ready:
    """A prometheus_client collector with prepared samples, so that only its renderer is timed."""

    def __init__(self, store: MetricStore) -> None:
        self.metrics = [self._metric(family) for family in store.snapshot()]

    @staticmethod
    def _metric(family: Any) -> PrometheusMetric:
        spec = family.spec
        metric = PrometheusMetric(spec.stem, spec.help, spec.type, spec.unit)
        bounds = [*(repr(bound) for bound in spec.buckets), "+Inf"]
        for point in family.points:
            labels = dict(zip(spec.labels, point.labels, strict=True))
            if not isinstance(point, HistogramPoint):
                metric.add_sample(spec.prometheus_name, labels, point.value)
                continue
            total = 0
            for bound, count, exemplar in zip(bounds, point.counts, point.exemplars, strict=True):
                total += count
                shown = None
                if exemplar is not None:
                    ids = {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
                    shown = PrometheusExemplar(ids, exemplar.value, exemplar.timestamp_seconds)
                metric.add_sample(f"{spec.stem}_bucket", labels | {"le": bound}, total, exemplar=shown)
            metric.add_sample(f"{spec.stem}_sum", labels, point.sum)
            metric.add_sample(f"{spec.stem}_count", labels, total)
        return metric

    def collect(self) -> Iterable[PrometheusMetric]:
        return self.metrics


def get(port: int, accept: str, zipped: bool) -> bytes:
    """The body of ``/metrics`` over real HTTP, not decompressed."""
    from http.client import HTTPConnection

    link = HTTPConnection("127.0.0.1", port, timeout=60)
    link.request("GET", "/metrics", headers={"Accept": accept} | ({"Accept-Encoding": "gzip"} if zipped else {}))
    body = link.getresponse().read()
    link.close()
    return body


def megabytes() -> float:
    """Resident memory of this process."""
    return float(psutil.Process().memory_info().rss) / 1e6


def renderings(store: MetricStore, recorder: Recorder, sets: int, repeats: int) -> tuple[list[Row], int, float]:
    """Rows of our renderer and server: name, seconds, bytes; samples of a page; MB of the blocks of one format."""
    rows: list[Row] = []
    before = megabytes()
    blocks = 0.0
    changes: tuple[tuple[str, Callable[[], None]], ...] = (
        ("nothing changed", lambda: None),
        ("1 % changed", lambda: settle_all(recorder, range(max(1, sets // 100)))),
        ("everything changed", lambda: settle_all(recorder, range(sets))),
    )
    samples = 0
    for format_name, openmetrics in (("OpenMetrics", True), ("text", False)):
        began = time.perf_counter()
        page = render(store, openmetrics)
        rows.append((f"{format_name}, first", time.perf_counter() - began, len(page)))
        blocks = blocks or megabytes() - before - len(page) / 1e6
        samples = sum(line[:1] != b"#" for line in page.splitlines())
        for what, change in changes:
            took = timed(lambda form=openmetrics: render(store, form), repeats, change)
            rows.append((f"{format_name}, {what}", took, len(page)))
        packed = gzip.compress(page, compresslevel=1)
        took = timed(lambda body=page: gzip.compress(body, compresslevel=1), repeats)
        rows.append((f"{format_name}, gzip alone", took, len(packed)))
    took = timed(lambda: recorder.refresh(time.process_time()), repeats)
    rows.append(("scores of all models, before each scrape", took, 0))
    store.refresh = lambda: recorder.refresh(time.process_time())
    server = MetricsServer(store, host="127.0.0.1", port=0, health=lambda: (True, {}))
    server.start()
    try:
        for what, change in changes:
            for zipped in (False, True):
                take = lambda zipped=zipped: get(server.port, OPENMETRICS, zipped)  # noqa: E731 - timed right here
                took, size = timed(take, repeats, change), len(take())
                rows.append((f"HTTP, OpenMetrics{', gzip' if zipped else ''}, {what}", took, size))
    finally:
        server.stop()
    return rows, samples, blocks


def peers(store: MetricStore, repeats: int) -> list[Row]:
    """prometheus_client's renderers on the same samples."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Ready(store))  # type: ignore[arg-type]
    found = []
    for format_name, function in (("OpenMetrics", generate_openmetrics), ("text", generate_latest)):
        size = len(function(registry))
        took = timed(lambda make=function: make(registry), max(1, repeats // 3))
        found.append((f"prometheus_client, {format_name}", took, size))
    return found


def otlp(store: MetricStore, repeats: int) -> list[Row]:
    """One export of all aggregates to a local server that accepts everything."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.resources import Resource

    sizes: list[int] = []

    class Sink(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sizes.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    exporter = OTLPMetricExporter(endpoint=f"http://127.0.0.1:{sink.server_address[1]}/v1/metrics")
    resource = Resource.create({})
    try:
        copied = timed(lambda: metrics_data(store, resource), repeats)
        exported = timed(lambda: exporter.export(metrics_data(store, resource)), max(1, repeats // 3))
    finally:
        exporter.shutdown()
        sink.shutdown()
    return [("OTLP, the SDK's data classes alone", copied, 0), ("OTLP, one export over HTTP", exported, sizes[-1])]


def flood(names: int, limit: int, repeats: int) -> dict[str, Any]:
    """Record requests of distinct models and routes in a store with a limit; returns what is kept."""
    store = MetricStore(max_label_sets=limit)
    recorder = Recorder(store, "paper-tool", limit)
    gc.collect()
    rows, marks = [], sorted({limit, names // 4, names // 2, names})
    before, flooded = megabytes(), 0
    for mark in marks:
        began = time.perf_counter()
        record_new(recorder, range(flooded, mark))
        each = (time.perf_counter() - began) / max(1, mark - flooded)
        flooded = mark
        kept = max((len(family.points), family.spec.stem) for family in store.snapshot())
        memory = megabytes() - before
        rows.append({"names": mark, "each": each, "kept": kept[0], "family": kept[1], "memory": memory})
    page = render(store, True)
    took = timed(lambda: render(store, True), repeats, lambda: record_new(recorder, range(names, names + 10)))
    memory = megabytes() - before
    overflow = next(
        float(line.rpartition(b" ")[2])
        for line in page.splitlines()
        if line.startswith(b"ecolyzer_label_overflow_total")
    )
    counted = sum(
        float(line.rpartition(b" ")[2]) for line in page.splitlines() if line.startswith(b"ecolyzer_requests_total")
    )
    other = sum(line.count(b'"__other__"') > 0 for line in page.splitlines())
    return {
        "rows": rows, "overflow": overflow, "counted": counted, "other_lines": other, "bytes": len(page),
        "again": took, "limit": limit, "memory": memory,
    }  # fmt: skip


def report(rows: Sequence[Row], flooded: dict[str, Any], names: int) -> list[Target]:
    table = [(what, f"{took * 1e3:.1f}", f"{size / 1e6:.2f}" if size else "") for what, took, size in rows]
    show("One scrape", ("", "ms", "MB"), table)
    table = []
    for row in flooded["rows"]:
        cells = f"{row['each'] * 1e6:.1f}", f"{row['kept']:,}", row["family"], f"{row['memory']:+.1f}"
        table.append((f"{row['names']:,}", *cells))
    head = ("distinct names", "us per request with a new name", "most label sets of a metric", "which", "MB")
    show(f"New names without end, limit {flooded['limit']:,}", head, table)
    print(
        f"  label sets over the limit: {flooded['overflow']:,.0f}; requests counted: "
        f"{flooded['counted']:,.0f}; a scrape then: {flooded['bytes'] / 1e6:.1f} MB, "
        f"{flooded['again'] * 1e3:.0f} ms; "
        f"memory with its blocks {flooded['memory']:+.1f} MB"
    )
    found = {what: took for what, took, _ in rows}
    wanted = f"at most {MAX_SCRAPE * 1e3:g} ms"
    targets = [
        Target(what, f"{found[what] * 1e3:.1f} ms", wanted, found[what] <= MAX_SCRAPE)
        for what in found
        if what.startswith(("OpenMetrics, ", "HTTP, OpenMetrics, gzip")) and "alone" not in what
    ]
    most = max(row["kept"] for row in flooded["rows"])
    bound = flooded["limit"] + flooded["limit"] // 10 + 1
    targets.append(Target(f"label sets after {names:,} names", f"{most:,}", f"at most {bound:,}", most <= bound))
    targets.append(
        Target("of them counted in __other__", f"{flooded['overflow']:,.0f} overflows", "counted, none lost",
               flooded["overflow"] > 0 and flooded["counted"] == names * REQUESTS_PER_NAME)
    )  # fmt: skip
    return targets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000, help="label sets: models, each with a route")
    parser.add_argument("--devices", type=int, default=8, help="label sets of metrics that are not by request")
    parser.add_argument("--names", type=int, default=100_000, help="distinct names recorded")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and names")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.names = 5, min(options.names, 20_000)
    empty = megabytes()
    # The limit is never reached: a metric has several label sets of one model (components, scopes).
    store = MetricStore(max_label_sets=10 * options.sets)
    recorder = Recorder(store, "paper-tool", options.sets)
    fill(recorder, options.sets)
    other_metrics(store, options.devices)
    shown = {family.spec.stem for family in store.snapshot()}
    missing = [spec.stem for spec in METRICS if spec.stem not in shown]
    if missing:
        raise SystemExit(f"metrics of the contract are missing: {', '.join(missing)}")
    filled = megabytes()
    rows, samples, blocks = renderings(store, recorder, options.sets, options.repeats)
    print(f"{options.sets:,} label sets, {len(METRICS)} metrics, {samples:,} samples; medians of {options.repeats}")
    print(f"memory: store {filled - empty:+.1f} MB, blocks of the first format {blocks:+.1f} MB (the page is gone)")
    rows += peers(store, options.repeats)
    rows += otlp(store, options.repeats)
    flooded = flood(options.names, Config().max_label_sets, options.repeats)
    targets = report(rows, flooded, options.names)
    show_targets(targets)
    if options.json:
        figures = {
            "targets": as_json(targets),
            "samples": samples,
            "memory": [filled - empty, blocks],
            "rows": rows,
            "flood": flooded,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
