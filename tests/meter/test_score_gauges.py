"""ScoreGauges of more models than a metric may have label sets."""

from __future__ import annotations

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.store import OTHER, MetricStore
from ecolyzer_otel.meter.score_gauges import ScoreGauges


def values(store: MetricStore, spec: MetricSpec) -> dict[tuple[str, ...], float]:
    return {
        point.labels: point.value for family in store.snapshot() if family.spec is spec for point in family.points
    }


def test_a_model_beyond_the_limit_has_no_score_rather_than_anothers() -> None:
    store = MetricStore(max_label_sets=8)
    scores = ScoreGauges(store, 8)
    for number in range(20):
        labels = "shop", f"m{number}", "torch", "cpu"
        scores.ess_of((*labels, "float32")).add(10.0, 1e6, 1, 1, 1.0 + number)
        scores.sci_of(labels).add(10.0, 5.0, 1, (10, 10))
    for _ in range(3):
        scores.show(11.0)
    ess, sci = values(store, Metric.ESS), values(store, Metric.SCI)
    assert (len(ess), len(sci)) == (8, 8)
    assert {labels[1] for labels in ess} == {"m0", "m1", "m2", "m3"}
    assert not any(OTHER in labels for labels in (*ess, *sci))
    assert values(store, Metric.LABEL_OVERFLOW) == {(): 0.0}
    assert scores.ess_of(("shop", "m1", "torch", "cpu", "float32")).value(11.0, "request") == 0.5, "the same window"
