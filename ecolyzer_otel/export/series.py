"""The parts of the metric store: counters, gauges and histograms, the lock that they share, and their copies.

Only :class:`~ecolyzer_otel.export.store.MetricStore` creates them.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final

import msgspec

from ecolyzer_otel.common.metrics import MetricSpec

__all__ = [
    "Child",
    "CounterChild",
    "Exemplar",
    "Family",
    "GaugeChild",
    "Guard",
    "HistogramChild",
    "HistogramPoint",
    "Labels",
    "Observer",
    "Point",
]

_log = logging.getLogger(__name__)

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")

#: Label values, in the order of the spec's label names.
Labels = tuple[str, ...]


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """One observation with its trace: ids in lower-case hex, the observed value, Unix seconds."""

    trace_id: str
    span_id: str
    value: float
    timestamp_seconds: float

    def __post_init__(self) -> None:
        if not (_TRACE_ID.fullmatch(self.trace_id) and _SPAN_ID.fullmatch(self.span_id)):
            raise ValueError(f"not a trace and span id in lower-case hex: {self.trace_id!r}, {self.span_id!r}")
        if not (math.isfinite(self.value) and math.isfinite(self.timestamp_seconds)):
            raise ValueError(f"an exemplar needs finite numbers, not {self.value} at {self.timestamp_seconds}")


class Point(msgspec.Struct, frozen=True, gc=False):
    """The value of one counter or gauge."""

    labels: Labels
    value: float


class HistogramPoint(msgspec.Struct, frozen=True, gc=False):
    """One histogram; ``counts`` and ``exemplars`` are per bucket (not cumulative), the last being +Inf."""

    labels: Labels
    counts: tuple[int, ...]
    sum: float
    min: float
    max: float
    exemplars: tuple[Exemplar | None, ...]

    @property
    def count(self) -> int:
        """The number of observed values."""
        return sum(self.counts)


#: Called with (spec, labels, value, exemplar) after each histogram observation, outside the store's lock.
Observer = Callable[[MetricSpec, Labels, float, "Exemplar | None"], None]


class Guard:
    """The store's lock. On leaving its outermost level it calls the observers, after releasing the lock."""

    __slots__ = ("_depth", "_failed", "_lock", "_observed", "observers")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._observed: list[tuple[MetricSpec, Labels, float, Exemplar | None]] = []
        self._failed: set[int] = set()
        self.observers: tuple[Observer, ...] = ()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        observed: list[tuple[MetricSpec, Labels, float, Exemplar | None]] = []
        if self._depth == 0 and self._observed:
            observed, self._observed = self._observed, observed
        self._lock.release()
        # An observer may take another lock (the SDK's), whose holder may be reading the store: so not under ours.
        for observer in self.observers if observed else ():
            for observation in observed:
                try:
                    observer(*observation)
                except Exception:  # noqa: BLE001 - a broken observer must not stop the meter
                    self._log_once(observer)

    def queue(self, spec: MetricSpec, labels: Labels, value: float, exemplar: Exemplar | None) -> None:
        """Keep an observation for the observers. The caller holds the lock."""
        if self.observers:
            self._observed.append((spec, labels, value, exemplar))

    def _log_once(self, observer: Observer) -> None:
        if id(observer) not in self._failed:
            self._failed.add(id(observer))
            _log.warning("an observer of the metric store failed", exc_info=True)


class Family:
    """The children of one metric. ``version`` grows with each change of any of them."""

    __slots__ = ("children", "removed", "spec", "version")

    def __init__(self, spec: MetricSpec) -> None:
        self.spec = spec
        self.children: dict[Labels, Child] = {}
        self.version = 0
        self.removed = 0  # the version at which a child was last removed


class Child:
    """The base of the three kinds of children."""

    __slots__ = ("_family", "_guard", "changed", "labels")

    def __init__(self, guard: Guard, family: Family, labels: Labels) -> None:
        self._guard = guard
        self._family = family
        self.labels = labels
        self.changed = 0
        self._touch()

    def _touch(self) -> None:
        family = self._family
        family.version += 1
        self.changed = family.version

    def point(self) -> Point | HistogramPoint | None:
        """The value for exporters, or None without one. The caller holds the lock."""
        raise NotImplementedError


class CounterChild(Child):
    """A sum that only grows."""

    __slots__ = ("_value",)

    def __init__(self, guard: Guard, family: Family, labels: Labels) -> None:
        self._value = 0.0
        super().__init__(guard, family, labels)

    def inc(self, value: float = 1.0) -> None:
        """Add ``value``. Raises ValueError if it is negative or not finite."""
        with self._guard:
            self.grow(value)

    def grow(self, value: float) -> None:
        """The same, for a caller that holds the store's lock (inside a transaction)."""
        if not 0.0 <= value < math.inf:  # also refuses NaN
            raise ValueError(f"{self._family.spec.stem} cannot grow by {value}")
        self._value += float(value)  # the text of a numpy scalar would be np.float64(...)
        family = self._family
        family.version = self.changed = family.version + 1

    def point(self) -> Point:
        """The sum so far; 0 from the start, so that Prometheus sees the first increase."""
        return Point(self.labels, self._value)


class GaugeChild(Child):
    """A value that is absent until it is set."""

    __slots__ = ("_value",)

    def __init__(self, guard: Guard, family: Family, labels: Labels) -> None:
        self._value: float | None = None
        super().__init__(guard, family, labels)

    def set(self, value: float) -> None:
        """Show ``value``. Raises ValueError if it is not finite (for an unknown value, :meth:`remove`)."""
        if not math.isfinite(value):
            raise ValueError(f"{self._family.spec.stem} cannot be {value}")
        with self._guard:
            # After remove() the slot is empty, or contains another child of the same labels.
            child = self._family.children.setdefault(self.labels, self)
            if isinstance(child, GaugeChild) and child._value != value:
                child._value = float(value)
                child._touch()

    def remove(self) -> None:
        """Remove the value until the next :meth:`set`."""
        with self._guard:
            child = self._family.children.pop(self.labels, None)
            if isinstance(child, GaugeChild):
                child._value = None
                child._touch()
                self._family.removed = self._family.version

    def point(self) -> Point | None:
        """The value, or None without one."""
        return None if self._value is None else Point(self.labels, self._value)


class HistogramChild(Child):
    """Counts per bucket, their sum, and the last exemplar of each bucket."""

    __slots__ = ("_counts", "_exemplars", "_max", "_min", "_sum")

    def __init__(self, guard: Guard, family: Family, labels: Labels) -> None:
        size = len(family.spec.buckets) + 1
        self._counts = [0] * size
        self._exemplars: list[Exemplar | None] = [None] * size
        self._sum = 0.0
        self._min = math.inf
        self._max = -math.inf
        super().__init__(guard, family, labels)

    def observe(self, value: float, exemplar: Exemplar | None = None) -> None:
        """Count ``value``. Raises ValueError if it is negative or not finite."""
        with self._guard:
            self.note(value, exemplar)

    def note(self, value: float, exemplar: Exemplar | None = None) -> None:
        """The same, for a caller that holds the store's lock (inside a transaction)."""
        spec = self._family.spec
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{spec.stem} cannot observe {value}")
        value = float(value)
        bucket = bisect_left(spec.buckets, value)  # a value on a bound belongs to its bucket ("le")
        self._counts[bucket] += 1
        self._sum += value
        if value < self._min:
            self._min = value
        if value > self._max:
            self._max = value
        if exemplar is not None:
            self._exemplars[bucket] = exemplar
        self._touch()
        if self._guard.observers:
            self._guard.queue(spec, self.labels, value, exemplar)

    def note_all(self, values: Sequence[float]) -> None:
        """:meth:`note` each value. Raises ValueError if one is negative or not finite."""
        spec, counts = self._family.spec, self._counts
        if not values:
            return
        if not (min(values) >= 0.0 and max(values) < math.inf):
            raise ValueError(f"{spec.stem} cannot observe all of {min(values)} to {max(values)}")
        buckets = spec.buckets
        for value in values:
            counts[bisect_left(buckets, value)] += 1
        self._sum += sum(values)
        self._min = min(self._min, min(values))
        self._max = max(self._max, max(values))
        self._touch()
        if self._guard.observers:
            for value in values:
                self._guard.queue(spec, self.labels, value, None)

    def point(self) -> HistogramPoint:
        """A copy of the counts."""
        return HistogramPoint(
            self.labels, tuple(self._counts), self._sum, self._min, self._max, tuple(self._exemplars)
        )
