"""The metric store: every aggregate that the exporters show, kept once.

The meter writes, the exporters read. One lock guards it, so exporters see a settlement that is applied inside
:meth:`MetricStore.transaction` completely or not at all. Nothing here is on a service's request path.

Usage::

    store = MetricStore()
    energy = store.counter(Metric.ENERGY, ("shop", "resnet50", ..., "gpu", "active"))  # bound once
    with store.transaction():
        energy.inc(0.9)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, TypeVar

from ecolyzer_otel.common.metrics import METRICS, Metric, MetricSpec
from ecolyzer_otel.export.series import (
    Child,
    CounterChild,
    Exemplar,
    Family,
    GaugeChild,
    Guard,
    HistogramChild,
    HistogramPoint,
    Labels,
    Observer,
    Point,
)

__all__ = [
    "OTHER",
    "CounterChild",
    "Exemplar",
    "FamilySnapshot",
    "GaugeChild",
    "HistogramChild",
    "HistogramPoint",
    "Labels",
    "MetricStore",
    "Observer",
    "Point",
]

#: The value of every label of the child that collects the label sets over the limit.
OTHER: Final = "__other__"
#: Only these labels have values from users; they are replaced first, so that the other labels keep their values.
_UNBOUNDED_LABELS: Final = frozenset({"model", "route"})

_ChildT = TypeVar("_ChildT", bound=Child)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FamilySnapshot:
    """The points of one family: all of them if ``complete``, else those changed since the requested version."""

    spec: MetricSpec
    version: int
    complete: bool
    points: tuple[Point | HistogramPoint, ...]


class MetricStore:
    """Counters, gauges and histograms by label set, bounded in number.

    Args:
        specs: the metrics of the store, in the order of the exposition.
        max_label_sets: label sets kept per metric. Beyond it ``model`` and ``route`` become ``__other__`` (for
            at most a tenth as many further sets), then every label does.
    """

    def __init__(self, specs: Sequence[MetricSpec] = METRICS, *, max_label_sets: int = 2000) -> None:
        if max_label_sets < 1:
            raise ValueError(f"max_label_sets must be at least 1, not {max_label_sets}")
        self.specs: Final = tuple(specs)
        self.start_time_ns: Final = time.time_ns()
        self._limit = max_label_sets
        self._families = {spec.stem: Family(spec) for spec in specs}
        self._guard = Guard()
        #: Called before each snapshot, to bring the values up to date.
        self.refresh: Callable[[], None] = lambda: None
        # Bound at once: an alert on its increase needs the initial zero.
        self._overflow = self.counter(Metric.LABEL_OVERFLOW, ()) if Metric.LABEL_OVERFLOW in specs else None

    def counter(self, spec: MetricSpec, labels: Labels) -> CounterChild:
        """The counter of ``spec`` with these label values, in the order of ``spec.labels``."""
        return self._find(CounterChild, "counter", spec, labels)

    def gauge(self, spec: MetricSpec, labels: Labels) -> GaugeChild:
        """The gauge of ``spec`` with these label values, in the order of ``spec.labels``."""
        return self._find(GaugeChild, "gauge", spec, labels)

    def histogram(self, spec: MetricSpec, labels: Labels) -> HistogramChild:
        """The histogram of ``spec`` with these label values, in the order of ``spec.labels``."""
        return self._find(HistogramChild, "histogram", spec, labels)

    def remove(self, spec: MetricSpec, labels: Labels) -> None:
        """Remove a gauge; a missing one is no error. Counters and histograms only grow."""
        if spec.type != "gauge":
            raise ValueError(f"{spec.stem} is a {spec.type}; only gauges can be removed")
        child = self._families[spec.stem].children.get(_clean(labels))
        if isinstance(child, GaugeChild):
            child.remove()

    def transaction(self) -> AbstractContextManager[None]:
        """``with store.transaction():`` makes several changes visible together. There is no rollback."""
        return self._guard

    def on_observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer`` after each histogram observation; returns the function that unsubscribes it.

        The observing thread calls it after its transaction. An exception that it raises is logged once.
        """
        with self._guard:
            self._guard.observers = (*self._guard.observers, observer)

        def unsubscribe() -> None:
            with self._guard:
                self._guard.observers = tuple(each for each in self._guard.observers if each is not observer)

        return unsubscribe

    def snapshot(self, since: Mapping[str, int] | None = None) -> tuple[FamilySnapshot, ...]:
        """A consistent copy of every family that has, or had, children.

        Args:
            since: versions by stem from an earlier snapshot; for a family in it, only the points changed since are
                copied, unless a child was removed.
        """
        since = since or {}
        try:
            self.refresh()
        except Exception:  # noqa: BLE001 - the present values are shown
            _LOG.debug("ecolyzer: the metrics could not be brought up to date", exc_info=True)
        with self._guard:
            return tuple(
                _copy(family, since.get(stem, -1)) for stem, family in self._families.items() if family.version
            )

    def _find(self, kind: type[_ChildT], word: str, spec: MetricSpec, labels: Labels) -> _ChildT:
        family = self._families.get(spec.stem)
        if family is None or family.spec.type != word:
            raise ValueError(f"{spec.stem} is not a {word} of this store")
        child = family.children.get(labels)
        if child is None:
            child = self._make(kind, family, labels)
        if not isinstance(child, kind):  # cannot happen: a family has children of its own type only
            raise TypeError(f"{spec.stem} holds a {type(child).__name__}")
        return child

    def _make(self, kind: type[_ChildT], family: Family, labels: Labels) -> Child:
        names = family.spec.labels
        if len(labels) != len(names) or not all(isinstance(value, str) for value in labels):
            raise ValueError(f"{family.spec.stem} needs the labels {names} as text, not {labels!r}")
        labels = _clean(labels)
        with self._guard:
            if labels not in family.children and len(family.children) >= self._limit:
                labels = self._other(family, labels)
                if self._overflow is not None:
                    self._overflow.inc()
            child = family.children.get(labels)
            if child is None:
                child = family.children[labels] = kind(self._guard, family, labels)
            return child

    def _other(self, family: Family, labels: Labels) -> Labels:
        names = family.spec.labels
        partly = tuple(
            OTHER if name in _UNBOUNDED_LABELS else value for name, value in zip(names, labels, strict=True)
        )
        room = len(family.children) < self._limit + max(1, self._limit // 10)
        if partly in family.children or (room and not _UNBOUNDED_LABELS.isdisjoint(names)):
            return partly
        return (OTHER,) * len(names)


def _clean(labels: Labels) -> Labels:
    # A name with bytes that are not UTF-8 (lone surrogates) would fail every export that contains it.
    return tuple(value.encode("utf-8", "backslashreplace").decode() for value in labels)


def _copy(family: Family, version: int) -> FamilySnapshot:
    complete = version < max(family.removed, 0)
    points = (child.point() for child in family.children.values() if complete or child.changed > version)
    return FamilySnapshot(
        family.spec, family.version, complete, tuple(point for point in points if point is not None)
    )
