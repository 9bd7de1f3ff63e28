"""A store in which every metric of the contract has samples."""

from __future__ import annotations

import pytest

from ecolyzer_otel.common.metrics import EXEMPLAR_METRICS, METRICS
from ecolyzer_otel.export.store import Exemplar, MetricStore

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def fill(store: MetricStore, rounds: int = 2) -> None:
    """Two label sets per metric, with values that no float rounds away."""
    for index, spec in enumerate(METRICS, start=1):
        for which in range(rounds if spec.labels else 1):
            labels = tuple(f"{name}-{which}" for name in spec.labels)
            if spec.type == "counter":
                store.counter(spec, labels).inc(index + which + 0.1)
            elif spec.type == "gauge":
                store.gauge(spec, labels).set(index * 1.7 - which)
            else:
                child = store.histogram(spec, labels)
                for value in (spec.buckets[0], spec.buckets[3] * 1.3, spec.buckets[-1] * 7):
                    exemplar = Exemplar(TRACE, SPAN, value, 1_765_432_109.125)
                    child.observe(value, exemplar if spec in EXEMPLAR_METRICS else None)


@pytest.fixture
def full_store() -> MetricStore:
    store = MetricStore()
    fill(store)
    return store
