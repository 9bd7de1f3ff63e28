"""Gauges of the configured carbon budgets, for alerts and dashboards to compare with."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ecolyzer_otel.common.config import Pairs
from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.store import MetricStore

__all__ = ["BudgetGauges"]


class BudgetGauges:
    """Shows the budget of each model that has served a request, and of each that is configured by its full name.

    Args:
        store: holds the gauges.
        per_request: pattern of model names, and grams; the first pattern that matches counts.
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
        """Show the budget of ``model``, if it has one."""
        for pattern, grams in self._rules:
            if fnmatchcase(model, pattern):
                self._store.gauge(Metric.BUDGET_PER_REQUEST, (model,)).set(grams)
                return
