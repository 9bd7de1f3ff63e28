"""What a scrape makes of our names: counters by name, our labels, and the labels that tell meters apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ecolyzer_otel.common.metrics import METRICS, Metric, MetricSpec
from ecolyzer_otel.report.observations import Series
from ecolyzer_otel.report.prometheus import Sampled

__all__ = ["counters", "labels_of", "matchers", "meter_of"]

_COUNTERS: Final = tuple(spec for spec in METRICS if spec.type == "counter" and spec is not Metric.DEVICE_THROTTLED)
_HISTOGRAMS: Final = (Metric.REQUEST_ENERGY, Metric.REQUEST_CO2E, Metric.REQUEST_DURATION)
#: Label names of our own; all others, put on by the scrape, tell meters apart.
_OWN: Final = frozenset(name for spec in METRICS for name in spec.labels) | {"__name__", "le"}


def counters() -> Iterator[tuple[MetricSpec, str, str]]:
    """Every counter to read: its metric, its name, and the part of a histogram that it is."""
    for spec in _COUNTERS:
        yield spec, spec.prometheus_name, ""
    for spec in _HISTOGRAMS:
        for part in ("count", "sum"):
            yield spec, f"{spec.stem}_{part}", part


def meter_of(sampled: Sampled) -> str:
    """A meter by the labels that its scrape put on: ``instance=a:9465, job=ecolyzer``."""
    pairs = [
        f"{name}={value}"
        for name, value in sorted(sampled.labels.items())
        if name not in _OWN and not name.startswith("exported_")
    ]
    return ", ".join(pairs)


def matchers(meter: str) -> list[str]:
    """Label matchers of PromQL that narrow a query to a meter's target."""
    wanted = []
    for pair in meter.split(", "):
        name, equals, value = pair.partition("=")
        if equals and name in ("instance", "job"):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            wanted.append(f'{name}="{escaped}"')
    return wanted


def labels_of(spec: MetricSpec, sampled: Sampled) -> Series:
    """Our own label values: a scrape whose target has a label of that name moves ours to ``exported_…``."""
    labels = sampled.labels
    return tuple(labels.get(f"exported_{name}", labels.get(name, "")) for name in spec.labels)
