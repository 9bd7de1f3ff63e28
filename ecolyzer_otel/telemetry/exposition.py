"""The store as text: OpenMetrics 1.0 and the classic Prometheus format 0.0.4.

Why not prometheus_client's renderer: a scrape of 1000 label sets takes it over a second, and the stock
OpenTelemetry exporter drops exemplars. Here each child's lines are kept as bytes and made anew only when the
child has changed since the last scrape.

Formats: https://prometheus.io/docs/specs/om/open_metrics_spec/ and
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import threading
import weakref
from typing import Final

from ecolyzer_otel.names import MetricSpec
from ecolyzer_otel.telemetry.store import Exemplar, FamilySnapshot, HistogramPoint, Labels, MetricStore, Point

__all__ = ["CLASSIC_CONTENT_TYPE", "OPENMETRICS_CONTENT_TYPE", "render"]

OPENMETRICS_CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CLASSIC_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render(store: MetricStore, openmetrics: bool) -> bytes:
    """Every family of ``store`` that has samples, as one scrape. May be called from any thread."""
    with store.transaction():  # no lock of this module, which a fork could leave taken in a child
        pair = _renderers.get(store)
        if pair is None:
            pair = _renderers[store] = (_Renderer(False), _Renderer(True))
    return pair[openmetrics].render(store)


class _Renderer:
    """One format of one store: remembers the text of every family."""

    def __init__(self, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._lock = threading.Lock()
        self._families: dict[str, _FamilyText] = {}
        self._versions: dict[str, int] = {}

    def render(self, store: MetricStore) -> bytes:
        with self._lock:  # two scrapes at once must not interleave their updates
            parts: list[bytes] = []
            for family in store.snapshot(self._versions):
                stem = family.spec.stem
                text = self._families.get(stem)
                if text is None:
                    text = self._families[stem] = _FamilyText(family.spec, self._openmetrics)
                text.update(family)
                self._versions[stem] = family.version
                if text.blocks:
                    parts.append(text.header)
                    parts.extend(text.blocks.values())
            if self._openmetrics:
                parts.append(b"# EOF\n")
            return b"".join(parts)


class _FamilyText:
    """The lines of one family: its metadata, and one block of bytes per child."""

    def __init__(self, spec: MetricSpec, openmetrics: bool) -> None:
        self._spec = spec
        self._openmetrics = openmetrics
        self._names = {label: f'{label}="' for label in spec.labels}
        self._bounds = [f'le="{bound!r}"}} ' for bound in spec.buckets] + ['le="+Inf"} ']
        self._labels: dict[Labels, str] = {}
        self.header = _header(spec, openmetrics).encode()
        self.blocks: dict[Labels, bytes] = {}

    def update(self, family: FamilySnapshot) -> None:
        """Make the blocks of the given points anew; forget the others when these are all."""
        if family.complete:
            known = {point.labels for point in family.points}
            self.blocks = {}  # also takes over the store's order
            self._labels = {labels: text for labels, text in self._labels.items() if labels in known}
        for point in family.points:
            text = self._labels.get(point.labels)
            if text is None:
                text = self._labels[point.labels] = self._label_text(point.labels)
            block = self._simple(point, text) if isinstance(point, Point) else self._histogram(point, text)
            self.blocks[point.labels] = block.encode()

    def _label_text(self, values: Labels) -> str:
        pairs = zip(self._names.values(), values, strict=True)
        return ",".join([f'{prefix}{_escape(value)}"' for prefix, value in pairs])

    def _simple(self, point: Point, labels: str) -> str:
        name = self._spec.prometheus_name
        return f"{name}{{{labels}}} {point.value!r}\n" if labels else f"{name} {point.value!r}\n"

    def _histogram(self, point: HistogramPoint, labels: str) -> str:
        stem = self._spec.stem
        bucket = f"{stem}_bucket{{{labels}," if labels else f"{stem}_bucket{{"
        labels = f"{{{labels}}}" if labels else ""
        lines: list[str] = []
        total = 0
        for bound, count, exemplar in zip(self._bounds, point.counts, point.exemplars, strict=True):
            total += count
            if exemplar is None or not self._openmetrics:
                lines.append(f"{bucket}{bound}{total}\n")
            else:
                lines.append(f"{bucket}{bound}{total}{_exemplar(exemplar)}\n")
        lines.append(f"{stem}_sum{labels} {point.sum!r}\n{stem}_count{labels} {total}\n")
        return "".join(lines)


def _header(spec: MetricSpec, openmetrics: bool) -> str:
    help_text = spec.help.replace("\\", r"\\").replace("\n", r"\n")
    if not openmetrics:
        name = spec.prometheus_name
        return f"# HELP {name} {help_text}\n# TYPE {name} {spec.type}\n"
    help_text = help_text.replace('"', r"\"")  # only OpenMetrics escapes the quote here
    unit = f"# UNIT {spec.stem} {spec.unit}\n" if spec.unit else ""
    return f"# HELP {spec.stem} {help_text}\n# TYPE {spec.stem} {spec.type}\n{unit}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _exemplar(exemplar: Exemplar) -> str:
    # 63 characters of names and ids: under the limit of 128. Milliseconds are what Prometheus keeps.
    return (
        f' # {{trace_id="{exemplar.trace_id}",span_id="{exemplar.span_id}"}}'
        f" {float(exemplar.value)!r} {exemplar.timestamp_seconds:.3f}"
    )


_renderers: weakref.WeakKeyDictionary[MetricStore, tuple[_Renderer, _Renderer]] = weakref.WeakKeyDictionary()
