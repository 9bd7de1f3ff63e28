"""The carbon budgets that are configured, as gauges that alerts and dashboards compare with."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ecolyzer_otel.common.config import Pairs
from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.store import MetricStore

__all__ = ["Budgets"]


class Budgets:
    """Shows the budget of each model that was seen, and of each that is named in full.

    Args:
        store: where the gauges are.
        per_request: pattern of model names and grams; the first that fits counts.
        per_month: grams of all requests in 30 days; None without such a budget.
    """

    def __init__(self, store: MetricStore, per_request: Pairs, per_month: float | None) -> None:
        self._store = store
        self._rules = tuple((pattern, float(grams)) for pattern, grams in per_request)
        for pattern, _ in self._rules:
            if not any(sign in pattern for sign in "*?["):
                self.show(pattern)
        if per_month is not None:
            store.gauge(Metric.BUDGET_PER_MONTH, ()).set(per_month)

    def show(self, model: str) -> None:
        """A model was seen."""
        for pattern, grams in self._rules:
            if fnmatchcase(model, pattern):
                self._store.gauge(Metric.BUDGET_PER_REQUEST, (model,)).set(grams)
                return
