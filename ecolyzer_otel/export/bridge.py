"""The same metrics in the app's own OpenTelemetry MeterProvider.

Counters and gauges become observable instruments that read the store when the app's reader collects;
histograms are recorded as they are observed, with the request's span as context, so that the SDK makes
exemplars of its own. Instrument names are the full Prometheus stems: see ``otel_unit`` in
:class:`~ecolyzer_otel.common.metrics.MetricSpec`.

Usage::

    bridge = MeterProviderBridge(store, meter_provider=opentelemetry.metrics.get_meter_provider())
    bridge.start()
    ...
    bridge.stop()
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from ecolyzer_otel.common.metrics import MetricSpec
from ecolyzer_otel.export.store import Exemplar, Labels, MetricStore, Point

__all__ = ["MeterProviderBridge"]

_SCOPE: Final = "ecolyzer_otel"
#: A collection calls one instrument after the other; within this time they read the same copy of the store.
_ONE_COLLECTION_SECONDS: Final = 1.0

_Points = dict[str, Sequence[Point]]


class MeterProviderBridge:
    """Records ``store`` into ``meter_provider`` from :meth:`start` until :meth:`stop`.

    Histograms begin with the observations made after :meth:`start`. A provider whose limit of label sets is below
    the store's aggregates further sets into ``otel.metric.overflow``.

    Args:
        store: what is recorded.
        meter_provider: the app's own.
    """

    def __init__(self, store: MetricStore, *, meter_provider: MeterProvider) -> None:
        self._store = store
        self._provider = meter_provider
        self._disconnect: Callable[[], None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Create the instruments and begin to record. A second call does nothing."""
        if self._disconnect is None and not self._stopped:
            self._disconnect = _instruments_of(self._provider).connect(self._store)

    def stop(self, timeout_seconds: float = 0.0) -> bool:
        """Disconnect: the observable instruments then yield nothing of this store. A second call does nothing.

        Returns:
            True: the app's own readers deliver, there is nothing to wait for.
        """
        self._stopped = True
        if self._disconnect is not None:
            self._disconnect()
            self._disconnect = None
        return True


class _Instruments:
    """The instruments of one provider, made once: the SDK ignores the callbacks of a second creation."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._created: set[str] = set()
        self._histograms: dict[str, Histogram] = {}
        self._views: tuple[_View, ...] = ()

    def connect(self, store: MetricStore) -> Callable[[], None]:
        view = _View(store)
        with self._lock:
            for spec in store.specs:
                if spec.stem not in self._created:
                    self._created.add(spec.stem)
                    self._create(spec)
            self._views = (*self._views, view)
        unsubscribe = store.on_observe(self._record)

        def disconnect() -> None:
            unsubscribe()
            with self._lock:
                self._views = tuple(each for each in self._views if each is not view)

        return disconnect

    def _create(self, spec: MetricSpec) -> None:
        if spec.type == "histogram":
            self._histograms[spec.stem] = self._meter.create_histogram(
                spec.stem, spec.otel_unit, spec.help, explicit_bucket_boundaries_advisory=spec.buckets
            )
            return

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(point.value, dict(zip(spec.labels, point.labels, strict=True)))
                for view in self._views
                for point in view.points(spec.stem)
            ]

        if spec.type == "counter":
            self._meter.create_observable_counter(spec.stem, [observe], spec.otel_unit, spec.help)
        else:
            self._meter.create_observable_gauge(spec.stem, [observe], spec.otel_unit, spec.help)

    def _record(self, spec: MetricSpec, labels: Labels, value: float, exemplar: Exemplar | None) -> None:
        # An empty context where there is no exemplar: the span that is current here is not the request's.
        self._histograms[spec.stem].record(
            value,
            dict(zip(spec.labels, labels, strict=True)),
            Context() if exemplar is None else _context(exemplar),
        )


def _context(exemplar: Exemplar) -> Context:
    span = SpanContext(
        int(exemplar.trace_id, 16),
        int(exemplar.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(span), Context())


class _View:
    """One copy of the store per collection, so that its instruments show the same instant.

    The API does not mark a collection: one ends when an instrument is observed a second time on the same thread.
    """

    def __init__(self, store: MetricStore) -> None:
        self._store = store
        self._local = threading.local()

    def points(self, stem: str) -> Sequence[Point]:
        """The counters or gauges of one family; each copy gives each family once."""
        left: _Points | None = getattr(self._local, "left", None)
        taken = getattr(self._local, "taken", -_ONE_COLLECTION_SECONDS)
        if left is None or stem not in left or time.monotonic() - taken > _ONE_COLLECTION_SECONDS:
            left = self._local.left = self._copy()
            self._local.taken = time.monotonic()
        return left.pop(stem, ())

    def _copy(self) -> _Points:
        copies: _Points = {spec.stem: () for spec in self._store.specs}
        for family in self._store.snapshot():
            copies[family.spec.stem] = [point for point in family.points if isinstance(point, Point)]
        return copies


_lock = threading.Lock()
_by_provider: weakref.WeakKeyDictionary[MeterProvider, _Instruments] = weakref.WeakKeyDictionary()


def _instruments_of(provider: MeterProvider) -> _Instruments:
    with _lock:
        found = _by_provider.get(provider)
        if found is None:
            found = _by_provider[provider] = _Instruments(provider.get_meter(_SCOPE))
        return found
