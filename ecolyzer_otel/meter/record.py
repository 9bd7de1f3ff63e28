"""Counts settled requests in the metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.store import CounterChild, Exemplar, HistogramChild, MetricStore
from ecolyzer_otel.impact.ess import EssWindow, effective_parameters, quantization_factor
from ecolyzer_otel.impact.impact import Impact
from ecolyzer_otel.impact.sci import SciWindow
from ecolyzer_otel.meter.budget_gauges import BudgetGauges
from ecolyzer_otel.meter.score_gauges import ScoreGauges
from ecolyzer_otel.meter.settled import SettledRequest, settled_message
from ecolyzer_otel.meter.shares import JointShares
from ecolyzer_otel.version import __version__
from ecolyzer_otel.wire.protocol import Done, Model, Settled

__all__ = ["Recorder"]

_Labels = tuple[str, ...]
_NO_JOULES: Final = (0.0, 0.0)
#: Figures that only some services have: their metric, and its further label values.
_OPTIONAL: Final[dict[str, tuple[MetricSpec, _Labels]]] = {
    "embodied": (Metric.CO2E, ("embodied",)),
    "market": (Metric.MARKET_CO2E, ()),
    "marginal": (Metric.MARGINAL_CO2E, ()),
}


@dataclass(slots=True)
class _Bound:
    """The counters and histograms of one label set, looked up once."""

    effective: float | None
    factor: float | None
    items: CounterChild
    operational: CounterChild
    onsite: CounterChild
    offsite: CounterChild
    uncertainty: CounterChild
    energy: HistogramChild
    co2e: HistogramChild
    duration: HistogramChild
    window: EssWindow
    sci: SciWindow | None = None
    #: Of the figures in ``_OPTIONAL``.
    optional: dict[str, CounterChild] = field(default_factory=dict)
    statuses: dict[str, CounterChild] = field(default_factory=dict)
    joules: dict[str, tuple[CounterChild, CounterChild]] = field(default_factory=dict)
    #: Growth since the last flush; None for none.
    growth: _Growth | None = None


class _Growth:
    """Settlements of one label set that are not in the store yet."""

    __slots__ = (
        "co2e", "duration", "energy", "errors", "items", "joules", "number", "offsite", "onsite", "operational",
        "uncertainty",
    )  # fmt: skip

    def __init__(self) -> None:
        self.number = self.errors = self.items = 0
        self.operational = self.onsite = self.offsite = self.uncertainty = 0.0
        self.joules: dict[str, tuple[float, float]] = {}
        #: Of requests without an exemplar.
        self.energy: list[float] = []
        self.co2e: list[float] = []
        self.duration: list[float] = []


class Recorder:
    """Applies settled requests to a store; used by one thread at a time.

    Args:
        store: holds the metrics.
        quantization: the preset of quantization factors, or a table of them.
        max_label_sets: label sets that a metric may have.
        budgets: shows carbon budgets; None where none is configured.
    """

    def __init__(
        self, store: MetricStore, quantization: str, max_label_sets: int, budgets: BudgetGauges | None = None
    ) -> None:
        self.store = store
        self._budgets = budgets
        self._quantization = quantization
        self._limit = 2 * max_label_sets
        self._bound: dict[tuple[str | int | None, ...], _Bound] = {}
        self._scores = ScoreGauges(store, max_label_sets)
        self._lag = store.histogram(Metric.SETTLEMENT_LAG, ())
        self._changed: list[tuple[_Labels, _Bound]] = []
        self._lags: list[float] = []
        self._meter_cpu = store.counter(Metric.METER_CPU, ())
        self._cpu_seconds = 0.0
        store.gauge(Metric.BUILD_INFO, (__version__,)).set(1)

    def record(self, request: SettledRequest) -> Settled | None:
        """Count one settled request in all its metrics.

        Returns:
            The message for its worker; None where that does not ask for it.

        Raises:
            ValueError: a figure is negative or not finite; nothing was counted.
        """
        done, settlement, impact = request.done, request.settlement, request.assessment.impact
        joules, grams, seconds = settlement.joules, impact.grams, (done.end_ns - done.start_ns) / 1e9
        operational, onsite, offsite = impact.operational_grams, impact.onsite_liters, impact.offsite_liters
        uncertainty = settlement.uncertainty_joules
        for value in (joules, grams, seconds, operational, onsite, offsite, uncertainty):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"a settlement of {joules} J, {grams} g, {onsite + offsite} L in {seconds} s")
        labels, model = request.labels, request.model
        bound = self._bound.get((*labels, model.dtype, model.parameters)) or self._children(labels, model)
        growth = bound.growth
        if growth is None:
            growth = bound.growth = _Growth()
            self._changed.append((labels, bound))
        growth.number += 1
        if done.error:
            growth.errors += 1
        growth.items += done.items
        for charge in settlement.charges:
            active, idle = growth.joules.get(charge.component, _NO_JOULES)
            growth.joules[charge.component] = active + charge.active, idle + charge.idle
        growth.operational += operational
        growth.onsite += onsite
        growth.offsite += offsite
        growth.uncertainty += uncertainty
        if done.span_id:
            self._observe(bound, done, joules, grams, seconds)
        else:
            growth.energy.append(joules)
            growth.co2e.append(grams)
            growth.duration.append(seconds)
        self._lags.append(request.lag_seconds if request.lag_seconds > 0.0 else 0.0)
        if request.phases or done.tokens is not None or done.first_token_ns:
            self._count_generation(labels, done, request.phases)
        if (
            impact.embodied_grams is not None
            or impact.market_grams is not None
            or impact.marginal_grams is not None
        ):
            self._count_optional(bound.optional, labels, impact)
            if impact.embodied_grams is not None:
                if bound.sci is None:
                    bound.sci = self._scores.sci_of((labels[0], labels[1], labels[2], labels[4]))
                bound.sci.add(time.monotonic(), grams, done.items, done.tokens)
        if request.conditions is None:
            return None
        return settled_message(request, request.conditions, bound.effective, bound.factor)

    def flush(self) -> None:
        """Put the requests since the last flush into the store, in one step.

        One request would take a dozen steps, and each tick settles many requests of one label set.
        """
        changed, self._changed = self._changed, []
        lags, self._lags = self._lags, []
        if not (changed or lags):
            return
        now = time.monotonic()
        with self.store.transaction():
            for labels, bound in changed:
                growth, bound.growth = bound.growth, None
                if growth is not None:
                    self._grow(bound, labels, growth, now)
            self._lag.note_all(lags)

    def count_shares(self, shares: JointShares, impact: Impact) -> None:
        """Count shares of joint calls that no request received, under the labels of the call.

        Args:
            shares: the shares.
            impact: their impact.
        """
        counter = self.store.counter
        with self.store.transaction():
            for charge in shares.charges:
                counter(Metric.ENERGY, (*shares.labels, charge.component, "active")).grow(charge.active)
                counter(Metric.ENERGY, (*shares.labels, charge.component, "idle")).grow(charge.idle)
            counter(Metric.CO2E, (*shares.labels, "operational")).grow(impact.operational_grams)
            counter(Metric.WATER, (*shares.labels, "onsite")).grow(impact.onsite_liters)
            counter(Metric.WATER, (*shares.labels, "offsite")).grow(impact.offsite_liters)
            self._count_optional({}, shares.labels, impact)

    def _count_optional(self, bound: dict[str, CounterChild], labels: _Labels, impact: Impact) -> None:
        for name, grams in (
            ("embodied", impact.embodied_grams),
            ("market", impact.market_grams),
            ("marginal", impact.marginal_grams),
        ):
            if grams is None:
                continue
            child = bound.get(name)
            if child is None:
                spec, rest = _OPTIONAL[name]
                child = bound[name] = self.store.counter(spec, (*labels, *rest))
            child.grow(grams)

    def _count_generation(self, labels: _Labels, done: Done, phases: Mapping[str, float]) -> None:
        counter = self.store.counter
        for phase, joules in phases.items():
            counter(Metric.PHASE_ENERGY, (*labels, phase)).grow(max(0.0, joules))
        if done.tokens is not None:
            counter(Metric.TOKENS, (*labels, "input")).grow(done.tokens[0])
            counter(Metric.TOKENS, (*labels, "output")).grow(done.tokens[1])
        if done.first_token_ns:
            seconds = max(0, done.first_token_ns - done.start_ns) / 1e9
            self.store.histogram(Metric.FIRST_TOKEN, labels[:5]).note(seconds)

    def count_unsettled(self, service: str, reason: str) -> None:
        """Count one request without energy."""
        self.store.counter(Metric.UNSETTLED_REQUESTS, (service, reason)).inc()

    def count_dropped(self, service: str, reason: str, number: int) -> None:
        """Count requests whose record was lost before it reached the meter."""
        if number > 0:
            self.store.counter(Metric.DROPPED_REQUESTS, (service, reason)).inc(number)

    def refresh(self, cpu_seconds: float) -> None:
        """Update the metrics that change with time; before each snapshot.

        Args:
            cpu_seconds: CPU time of the meter so far.
        """
        self.flush()
        self._scores.show(time.monotonic())
        self._meter_cpu.inc(max(0.0, cpu_seconds - self._cpu_seconds))
        self._cpu_seconds = max(self._cpu_seconds, cpu_seconds)

    def _grow(self, bound: _Bound, labels: _Labels, growth: _Growth, now: float) -> None:
        for status, number in (("ok", growth.number - growth.errors), ("error", growth.errors)):
            if number:
                requests = bound.statuses.get(status)
                if requests is None:
                    requests = bound.statuses[status] = self.store.counter(Metric.REQUESTS, (*labels, status))
                requests.grow(number)
        bound.items.grow(growth.items)
        for component, (active, idle) in growth.joules.items():
            pair = bound.joules.get(component)
            if pair is None:
                pair = bound.joules[component] = (
                    self.store.counter(Metric.ENERGY, (*labels, component, "active")),
                    self.store.counter(Metric.ENERGY, (*labels, component, "idle")),
                )
            pair[0].grow(max(0.0, active))
            pair[1].grow(max(0.0, idle))
        bound.operational.grow(growth.operational)
        bound.onsite.grow(growth.onsite)
        bound.offsite.grow(growth.offsite)
        bound.uncertainty.grow(growth.uncertainty)
        if growth.energy:
            bound.energy.note_all(growth.energy)
            bound.co2e.note_all(growth.co2e)
            bound.duration.note_all(growth.duration)
        if bound.effective is not None:
            bound.window.add(now, bound.effective, growth.number, growth.items, growth.operational)

    def _observe(self, bound: _Bound, done: Done, joules: float, grams: float, seconds: float) -> None:
        """Add a request with an exemplar to the histograms."""
        now = time.time()
        with self.store.transaction():
            for child, value in ((bound.energy, joules), (bound.co2e, grams), (bound.duration, seconds)):
                child.note(value, Exemplar(done.trace_id, done.span_id, value, now))

    def _children(self, labels: _Labels, model: Model) -> _Bound:
        key = (*labels, model.dtype, model.parameters)
        bound = self._bound.get(key)
        if bound is None:
            if len(self._bound) >= self._limit:
                self._clear()
            bound = self._bound[key] = self._bind(labels, model)
        return bound

    def _clear(self) -> None:
        """Drop all bound children and scores, so that ever new names do not fill the memory."""
        self.flush()
        self._bound.clear()
        self._scores.clear()

    def _bind(self, labels: _Labels, model: Model) -> _Bound:
        short = labels[:5]
        dtype = model.dtype or ""
        effective = None
        if model.parameters is not None:
            about = (labels[1], model.framework, dtype)
            effective = effective_parameters(model.parameters, model.dtype, self._quantization)
            self.store.gauge(Metric.MODEL_PARAMETERS, about).set(model.parameters)
            self.store.gauge(Metric.MODEL_EFFECTIVE_PARAMETERS, about).set(effective)
        if self._budgets is not None:
            self._budgets.show(labels[1])
        window = self._scores.ess_of((labels[0], labels[1], labels[2], labels[4], dtype))
        counter, histogram = self.store.counter, self.store.histogram
        return _Bound(
            effective=effective,
            factor=quantization_factor(model.dtype, self._quantization),
            items=counter(Metric.ITEMS, (*labels, "input")),
            operational=counter(Metric.CO2E, (*labels, "operational")),
            onsite=counter(Metric.WATER, (*labels, "onsite")),
            offsite=counter(Metric.WATER, (*labels, "offsite")),
            uncertainty=counter(Metric.ENERGY_UNCERTAINTY, labels),
            energy=histogram(Metric.REQUEST_ENERGY, short),
            co2e=histogram(Metric.REQUEST_CO2E, short),
            duration=histogram(Metric.REQUEST_DURATION, short),
            window=window,
        )
