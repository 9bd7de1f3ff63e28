"""The store as text: OpenMetrics 1.0 and the classic Prometheus format 0.0.4.

Why not prometheus_client's renderer: it takes more than a second for 1000 label sets, and the stock OpenTelemetry
exporter drops exemplars. Here each child's lines are kept as bytes and rendered again only when the child has
changed since the last scrape.

Formats: https://prometheus.io/docs/specs/om/open_metrics_spec/ and
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import threading
import weakref
from itertools import accumulate, chain
from typing import Final

from ecolyzer_otel.common.metrics import MetricSpec
from ecolyzer_otel.export.store import Exemplar, FamilySnapshot, HistogramPoint, Labels, MetricStore, Point

__all__ = ["CLASSIC_CONTENT_TYPE", "OPENMETRICS_CONTENT_TYPE", "render"]

OPENMETRICS_CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CLASSIC_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_COMMON: Final = ("service", "model", "framework", "operation", "device")
_MAX_SHARED: Final = 10_000
_SPECIAL: Final = frozenset('\\\n"')


def render(store: MetricStore, openmetrics: bool) -> bytes:
    """Every family of ``store`` that has samples, as one scrape. May be called from any thread."""
    with store.transaction():  # not a lock of this module, which a fork could leave locked in the child
        pair = _renderers.get(store)
        if pair is None:
            pair = _renderers[store] = (_Renderer(False), _Renderer(True))
    return pair[openmetrics].render(store)


class _Renderer:
    """One format of one store: keeps the text of every family."""

    def __init__(self, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._lock = threading.Lock()
        self._families: dict[str, _FamilyText] = {}
        self._versions: dict[str, int] = {}
        self._shared: dict[Labels, str] = {}

    def render(self, store: MetricStore) -> bytes:
        with self._lock:  # two scrapes at once must not interleave their updates
            parts: list[bytes] = []
            for family in store.snapshot(self._versions):
                stem = family.spec.stem
                text = self._families.get(stem)
                if text is None:
                    text = self._families[stem] = _FamilyText(family.spec, self._openmetrics, self._shared)
                text.update(family)
                self._versions[stem] = family.version
                if text.blocks:
                    parts.append(text.header)
                    parts.extend(text.blocks.values())
            if self._openmetrics:
                parts.append(b"# EOF\n")
            return b"".join(parts)


class _FamilyText:
    """The lines of one family: its metadata, and one block of bytes per child.

    ``shared`` holds the text of the labels that nearly all families begin with, by their values.
    """

    def __init__(self, spec: MetricSpec, openmetrics: bool, shared: dict[Labels, str]) -> None:
        self._spec = spec
        self._openmetrics = openmetrics
        self._common = len(_COMMON) if spec.labels[: len(_COMMON)] == _COMMON else 0
        self._shared = shared
        self._all = ",".join(f'{label}="%s"' for label in spec.labels)
        self._first = ",".join(f'{label}="%s"' for label in spec.labels[: self._common])
        self._rest = ",".join(["%s", *(f'{label}="%s"' for label in spec.labels[self._common :])])
        #: By child: the labels of a histogram, or everything before the value of a counter or gauge.
        self._heads: dict[Labels, str] = {}
        self._plain, self._marked = _skeletons(spec)
        self.header = _header(spec, openmetrics).encode()
        self.blocks: dict[Labels, bytes] = {}

    def update(self, family: FamilySnapshot) -> None:
        """Render the given points again; drop all others if the snapshot is complete."""
        if family.complete:
            present = {point.labels for point in family.points}
            self.blocks = {}  # also adopts the store's order
            self._heads = {labels: text for labels, text in self._heads.items() if labels in present}
        heads, blocks = self._heads, self.blocks
        for point in family.points:
            labels = point.labels
            head = heads.get(labels)
            if head is None:
                head = heads[labels] = self._head(labels)
            if isinstance(point, Point):
                blocks[labels] = f"{head}{point.value!r}\n".encode()
            else:
                blocks[labels] = self._histogram(point, head).encode()

    def _head(self, labels: Labels) -> str:
        text = self._label_text(labels)
        if self._spec.type == "histogram":
            return text
        name = self._spec.prometheus_name
        return f"{name}{{{text}}} " if text else f"{name} "

    def _label_text(self, values: Labels) -> str:
        if not _SPECIAL.isdisjoint("".join(values)):
            values = tuple([_escape(value) for value in values])
        common = self._common
        if not common:
            return self._all % values
        key = values[:common]
        text = self._shared.get(key)
        if text is None:
            if len(self._shared) >= _MAX_SHARED:
                self._shared.clear()
            text = self._shared[key] = self._first % key
        return text if len(values) == common else self._rest % (text, *values[common:])

    def _histogram(self, point: HistogramPoint, labels: str) -> str:
        totals = tuple(accumulate(point.counts))
        values: tuple[object, ...] = totals
        skeleton = self._plain
        if self._openmetrics and point.exemplars.count(None) < len(totals):
            marks = ["" if one is None else _exemplar(one) for one in point.exemplars]
            skeleton, values = self._marked, tuple(chain(*zip(totals, marks, strict=True)))
        stem = self._spec.stem
        inside = labels.replace("%", "%%") + "," if labels else ""
        after = f"{{{labels}}}" if labels else ""
        buckets = skeleton.replace("\0", inside) % values
        return f"{buckets}{stem}_sum{after} {point.sum!r}\n{stem}_count{after} {totals[-1]}\n"


def _skeletons(spec: MetricSpec) -> tuple[str, str]:
    """Templates for the buckets of one child: NUL marks its labels. The second has fields for exemplars."""
    bounds = [repr(bound) for bound in spec.buckets] + ["+Inf"]
    plain, marked = (
        "".join(f'{spec.stem}_bucket{{\0le="{bound}"}} {number}\n' for bound in bounds) for number in ("%d", "%d%s")
    )
    return plain, marked


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
    # 63 characters of names and ids: below the limit of 128. Prometheus keeps milliseconds.
    return (
        f' # {{trace_id="{exemplar.trace_id}",span_id="{exemplar.span_id}"}}'
        f" {float(exemplar.value)!r} {exemplar.timestamp_seconds:.3f}"
    )


_renderers: weakref.WeakKeyDictionary[MetricStore, tuple[_Renderer, _Renderer]] = weakref.WeakKeyDictionary()
