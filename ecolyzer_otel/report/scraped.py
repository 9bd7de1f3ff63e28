"""The metrics of the meters as a scrape stores them: counter names, our labels, labels that identify meters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ecolyzer_otel.common.metrics import METRICS, Metric, MetricSpec
from ecolyzer_otel.report.observations import Series
from ecolyzer_otel.report.prometheus import Sampled

__all__ = ["Counter", "counters", "labels_of", "matchers", "meter_of"]

_COUNTERS: Final = tuple(spec for spec in METRICS if spec.type == "counter" and spec is not Metric.DEVICE_THROTTLED)
_HISTOGRAMS: Final = (Metric.REQUEST_ENERGY, Metric.REQUEST_CO2E, Metric.REQUEST_DURATION)
#: Label names of our own; all others are added by the scrape and identify the meter.
_OWN: Final = frozenset(name for spec in METRICS for name in spec.labels) | {"__name__", "le"}


class Counter(NamedTuple):
    """A counter to read. ``part`` is ``count`` or ``sum`` for the parts of a histogram, else empty."""

    spec: MetricSpec
    name: str
    part: str


def counters() -> Iterator[Counter]:
    """Every counter to read."""
    for spec in _COUNTERS:
        yield Counter(spec, spec.prometheus_name, "")
    for spec in _HISTOGRAMS:
        for part in ("count", "sum"):
            yield Counter(spec, f"{spec.stem}_{part}", part)


def meter_of(sampled: Sampled) -> str:
    """The name of a meter: the labels that its scrape added (``instance=a:9465, job=ecolyzer``)."""
    pairs = [
        f"{name}={value}"
        for name, value in sorted(sampled.labels.items())
        if name not in _OWN and not name.startswith("exported_")
    ]
    return ", ".join(pairs)


def matchers(meter: str) -> list[str]:
    """Label matchers of PromQL that narrow a query to the target of a meter."""
    wanted = []
    for pair in meter.split(", "):
        name, equals, value = pair.partition("=")
        if equals and name in ("instance", "job"):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            wanted.append(f'{name}="{escaped}"')
    return wanted


def labels_of(spec: MetricSpec, sampled: Sampled) -> Series:
    """Our own label values. If the target has a label of that name, the scrape renames ours to ``exported_…``."""
    labels = sampled.labels
    return tuple(labels.get(f"exported_{name}", labels.get(name, "")) for name in spec.labels)
