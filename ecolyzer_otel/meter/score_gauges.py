"""Gauges of scores over the trailing five minutes: ESS by model and dtype, SCI by model."""

from __future__ import annotations

from typing import Final, Literal

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.store import Labels, MetricStore
from ecolyzer_otel.impact.ess import EssWindow
from ecolyzer_otel.impact.sci import SCI_UNITS, SciWindow

__all__ = ["ScoreGauges"]

_PER: Final[tuple[Literal["request"], Literal["item"]]] = ("request", "item")


class ScoreGauges:
    """Shows the scores of all models. Operations and routes of one model share its score.

    Args:
        store: holds the gauges.
        max_label_sets: label sets that a metric may have. A model beyond them has no score: of several models that
            share ``__other__``, a gauge would show the one written last.
    """

    def __init__(self, store: MetricStore, max_label_sets: int) -> None:
        self._store = store
        self._most = {Metric.ESS: max_label_sets // len(_PER), Metric.SCI: max_label_sets // len(SCI_UNITS)}
        self._ess: dict[Labels, EssWindow] = {}
        self._sci: dict[Labels, SciWindow] = {}

    def ess_of(self, labels: Labels) -> EssWindow:
        """Returns the window of (service, model, framework, device, dtype)."""
        window = self._ess.get(labels)
        if window is None:
            window = EssWindow()
            if len(self._ess) < self._most[Metric.ESS]:
                self._ess[labels] = window
        return window

    def sci_of(self, labels: Labels) -> SciWindow:
        """Returns the window of (service, model, framework, device)."""
        window = self._sci.get(labels)
        if window is None:
            window = SciWindow()
            if len(self._sci) < self._most[Metric.SCI]:
                self._sci[labels] = window
        return window

    def show(self, now: float) -> None:
        """Show the scores at monotonic time ``now`` in seconds."""
        for labels, window in self._ess.copy().items():
            for per in _PER:
                self._set(Metric.ESS, (*labels, per), window.value(now, per))
        for labels, sci in self._sci.copy().items():
            for unit, value in sci.values(now).items():
                self._set(Metric.SCI, (*labels, unit), value)

    def _set(self, metric: MetricSpec, labels: Labels, value: float | None) -> None:
        if value is None:
            self._store.remove(metric, labels)
        else:
            self._store.gauge(metric, labels).set(value)

    def clear(self) -> None:
        """Remove all scores, so that ever new names do not fill the memory."""
        for labels in self._ess:
            for per in _PER:
                self._store.remove(Metric.ESS, (*labels, per))
        for labels in self._sci:
            for unit, _ in SCI_UNITS:
                self._store.remove(Metric.SCI, (*labels, unit))
        self._ess.clear()
        self._sci.clear()
