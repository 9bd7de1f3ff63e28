"""What a settlement does to the metrics, and what the worker is told of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.store import CounterChild, Exemplar, HistogramChild, MetricStore
from ecolyzer_otel.impact.ess import EssWindow, effective_parameters, ess, quantization_factor
from ecolyzer_otel.impact.impact import Impact
from ecolyzer_otel.impact.sci import SciWindow, sci
from ecolyzer_otel.ledger import Settlement, Shares
from ecolyzer_otel.meter.budgets import Budgets
from ecolyzer_otel.meter.scores import Scores
from ecolyzer_otel.version import __version__
from ecolyzer_otel.wire.protocol import Done, Model, Settled

if TYPE_CHECKING:
    from ecolyzer_otel.meter.client import Client
    from ecolyzer_otel.meter.impacts import Bill
    from ecolyzer_otel.meter.parts import Joint
    from ecolyzer_otel.meter.sampler import Heat

__all__ = ["Recorder"]

_Labels = tuple[str, ...]
_NO_JOULES: Final = (0.0, 0.0)
_SHARES: Final = ("requests", "process", "host", "idle")
#: Where these are counted: the metric, and what its labels have beside L.
_OTHERS: Final[dict[str, tuple[MetricSpec, _Labels]]] = {
    "embodied": (Metric.CO2E, ("embodied",)),
    "market": (Metric.MARKET_CO2E, ()),
    "marginal": (Metric.MARGINAL_CO2E, ()),
}


@dataclass(slots=True)
class _Bound:
    """The children of one label set, bound once."""

    effective: float | None
    factor: float | None
    items: CounterChild
    operational: CounterChild
    onsite: CounterChild
    offsite: CounterChild
    doubt: CounterChild
    energy: HistogramChild
    co2e: HistogramChild
    duration: HistogramChild
    window: EssWindow
    sci: SciWindow | None = None
    #: Of figures that only some services have: embodied, market-based, marginal.
    others: dict[str, CounterChild] = field(default_factory=dict)
    statuses: dict[str, CounterChild] = field(default_factory=dict)
    joules: dict[str, tuple[CounterChild, CounterChild]] = field(default_factory=dict)
    #: What has come since the last flush; None where nothing has.
    news: _News | None = None


class _News:
    """Settlements of one label set since they were last put into the store."""

    __slots__ = (
        "co2e", "duration", "energy", "errors", "items", "joules", "number", "offsite", "onsite", "operational",
        "uncertainty",
    )  # fmt: skip

    def __init__(self) -> None:
        self.number = self.errors = self.items = 0
        self.operational = self.onsite = self.offsite = self.uncertainty = 0.0
        self.joules: dict[str, tuple[float, float]] = {}
        #: Of those that no exemplar shows.
        self.energy: list[float] = []
        self.co2e: list[float] = []
        self.duration: list[float] = []


class Recorder:
    """Applies settlements to a store; one thread at a time.

    Args:
        store: the aggregates.
        quantization: the preset of quantization factors, or a table of them.
        max_label_sets: how many label sets are kept bound.
        budgets: of carbon; None where none is configured.
    """

    def __init__(
        self, store: MetricStore, quantization: str, max_label_sets: int, budgets: Budgets | None = None
    ) -> None:
        self.store = store
        self._budgets = budgets
        self._quantization = quantization
        self._limit = 2 * max_label_sets
        self._bound: dict[tuple[str | int | None, ...], _Bound] = {}
        self._scores = Scores(store, max_label_sets)
        self._shown: dict[tuple[str, str, str], float] = {}
        self._pending: set[str] = set()
        self._workers: set[tuple[str, str]] = set()
        self._lag = store.histogram(Metric.SETTLEMENT_LAG, ())
        self._changed: list[tuple[_Labels, _Bound]] = []
        self._lags: list[float] = []
        store.refresh = self.flush
        self._meter_cpu = store.counter(Metric.METER_CPU, ())
        self._cpu_seconds = 0.0
        store.gauge(Metric.BUILD_INFO, (__version__,)).set(1)

    def settled(
        self,
        service: str,
        model: Model,
        done: Done,
        settlement: Settlement,
        bill: Bill,
        heat: Heat | None,
        lag_seconds: float,
        name: str,
        route: str,
        phases: Mapping[str, float],
    ) -> Settled | None:
        """Count one settled request in every metric that tells of it.

        Args:
            service: service name of the worker.
            model: facts of the model.
            done: the request's record.
            settlement: what the ledger owes it.
            bill: what that costs the world.
            heat: temperatures and throttling over the request; None where nobody asks for its settlement.
            lag_seconds: from its end to its settlement.
            name: the model's name as a label.
            route: the request's route as a label.
            phases: joules of its phases, active and idle, by name.

        Returns:
            What its span shows; None where nobody asks for it.
        """
        impact = bill.impact
        joules, grams, seconds = settlement.joules, impact.grams, (done.end_ns - done.start_ns) / 1e9
        operational, onsite, offsite = impact.operational_grams, impact.onsite_liters, impact.offsite_liters
        uncertainty = settlement.uncertainty_joules
        for value in (joules, grams, seconds, operational, onsite, offsite, uncertainty):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"a settlement of {joules} J, {grams} g, {onsite + offsite} L in {seconds} s")
        labels = (service, name, model.framework, done.operation, model.device, route)
        bound = self._bound.get((*labels, model.dtype, model.parameters)) or self._children(labels, model)
        news = bound.news
        if news is None:
            news = bound.news = _News()
            self._changed.append((labels, bound))
        news.number += 1
        if done.error:
            news.errors += 1
        news.items += done.items
        for charge in settlement.charges:
            active, idle = news.joules.get(charge.component, _NO_JOULES)
            news.joules[charge.component] = active + charge.active, idle + charge.idle
        news.operational += operational
        news.onsite += onsite
        news.offsite += offsite
        news.uncertainty += uncertainty
        if done.span_id:
            self._observe(bound, done, joules, grams, seconds)
        else:
            news.energy.append(joules)
            news.co2e.append(grams)
            news.duration.append(seconds)
        self._lags.append(lag_seconds if lag_seconds > 0.0 else 0.0)
        if phases or done.tokens is not None or done.first_token_ns:
            self._generated(labels, done, phases)
        embodied = impact.embodied_grams
        if embodied is not None or impact.market_grams is not None or impact.marginal_grams is not None:
            self._count_others(bound.others, labels, impact)
            if embodied is not None:
                if bound.sci is None:
                    bound.sci = self._scores.sci_of((labels[0], labels[1], labels[2], labels[4]))
                bound.sci.add(time.monotonic(), grams, done.items, done.tokens)
        return None if heat is None else self._tell(done, settlement, bill, heat, bound, phases)

    def flush(self) -> None:
        """Put what was settled since the last time into the store, in one step.

        Per settlement that would be a dozen steps; there are many settlements of one label set in each tick.
        """
        changed, self._changed = self._changed, []
        lags, self._lags = self._lags, []
        if not (changed or lags):
            return
        now = time.monotonic()
        with self.store.transaction():
            for labels, bound in changed:
                news, bound.news = bound.news, None
                if news is not None:
                    self._count(bound, labels, news, now)
            self._lag.note_all(lags)

    @staticmethod
    def _tell(
        done: Done,
        settlement: Settlement,
        bill: Bill,
        heat: Heat,
        bound: _Bound,
        phases: Mapping[str, float],
    ) -> Settled:
        """What the span of a settled request shows."""
        effective, impact = bound.effective, bill.impact
        score = None if effective is None else ess(effective, impact.operational_grams)
        doubt, low, high = bill.doubt(settlement)
        tokens = sum(done.tokens) if done.tokens is not None and impact.embodied_grams is not None else 0
        return Settled(
            id=done.id,
            unsettled="",
            active=settlement.active_joules,
            idle=settlement.idle_joules,
            uncertainty=settlement.uncertainty_joules,
            method=settlement.method,
            components={
                name: (active + idle, method) for name, (active, idle, method) in settlement.components.items()
            },
            operational_grams=impact.operational_grams,
            embodied_grams=impact.embodied_grams,
            onsite_liters=impact.onsite_liters,
            offsite_liters=impact.offsite_liters,
            celsius=heat.own[0] if heat.own else None,
            max_celsius=heat.own[1] if heat.own else None,
            ess=score,
            effective_parameters=effective,
            quantization_factor=bound.factor,
            basis=settlement.basis,
            phases=dict(phases),
            uncertainty_grams=doubt,
            market_grams=impact.market_grams,
            marginal_grams=impact.marginal_grams,
            water_low=low,
            water_high=high,
            item_ess=None if score is None else score * done.items,
            sci_million_tokens=sci(impact.grams, 0.0, tokens / 1e6) if tokens else None,
            grams_per_kwh=bill.grams_per_kwh,
            devices=heat.devices,
            throttled=heat.throttled,
            reasons=heat.reasons,
        )

    def divided(self, done: Done, settlement: Settlement) -> Settled:
        """What the span of a call shows that served several requests: no request itself, it counts nowhere."""
        return Settled(
            id=done.id,
            unsettled="",
            active=settlement.active_joules,
            idle=settlement.idle_joules,
            uncertainty=settlement.uncertainty_joules,
            method=settlement.method,
            served=len(settlement.members),
        )

    def orphaned(self, joint: Joint, impact: Impact) -> None:
        """Count joules of a joint call whose request was settled without them, with the labels of that call."""
        counter = self.store.counter
        with self.store.transaction():
            for charge in joint.charges:
                counter(Metric.ENERGY, (*joint.labels, charge.component, "active")).grow(charge.active)
                counter(Metric.ENERGY, (*joint.labels, charge.component, "idle")).grow(charge.idle)
            counter(Metric.CO2E, (*joint.labels, "operational")).grow(impact.operational_grams)
            counter(Metric.WATER, (*joint.labels, "onsite")).grow(impact.onsite_liters)
            counter(Metric.WATER, (*joint.labels, "offsite")).grow(impact.offsite_liters)
            self._count_others({}, joint.labels, impact)

    def _count_others(self, bound: dict[str, CounterChild], labels: _Labels, impact: Impact) -> None:
        """Figures that only some services have."""
        for name, grams in (
            ("embodied", impact.embodied_grams),
            ("market", impact.market_grams),
            ("marginal", impact.marginal_grams),
        ):
            if grams is None:
                continue
            child = bound.get(name)
            if child is None:
                spec, rest = _OTHERS[name]
                child = bound[name] = self.store.counter(spec, (*labels, *rest))
            child.grow(grams)

    def _generated(self, labels: _Labels, done: Done, phases: Mapping[str, float]) -> None:
        counter = self.store.counter
        for phase, joules in phases.items():
            counter(Metric.PHASE_ENERGY, (*labels, phase)).grow(max(0.0, joules))
        if done.tokens is not None:
            counter(Metric.TOKENS, (*labels, "input")).grow(done.tokens[0])
            counter(Metric.TOKENS, (*labels, "output")).grow(done.tokens[1])
        if done.first_token_ns:
            seconds = max(0, done.first_token_ns - done.start_ns) / 1e9
            self.store.histogram(Metric.FIRST_TOKEN, labels[:5]).note(seconds)

    def unsettled(self, service: str, reason: str) -> None:
        """Count one request that gets no energy."""
        self.store.counter(Metric.UNSETTLED_REQUESTS, (service, reason)).inc()

    def dropped(self, service: str, reason: str, number: int) -> None:
        """Count requests whose record was lost on the way."""
        if number > 0:
            self.store.counter(Metric.DROPPED_REQUESTS, (service, reason)).inc(number)

    def workers(self, clients: Sequence[Client], meters: int) -> None:
        """Show who is connected, how many requests of each service are on their way, and how many meters run."""
        pending: dict[str, int] = dict.fromkeys(self._pending, 0)
        workers: dict[tuple[str, str], int] = dict.fromkeys(self._workers, 0)
        for client in clients:
            pending[client.service] = pending.get(client.service, 0) + client.pending
            place = client.service, client.peer.container
            workers[place] = workers.get(place, 0) + client.active
        for service, number in pending.items():
            self.store.gauge(Metric.PENDING_REQUESTS, (service,)).set(number)
        for place, number in workers.items():
            self.store.gauge(Metric.WORKERS, place).set(number)
        self.store.gauge(Metric.HOST_METERS, ()).set(meters)
        # One that is gone is shown as 0 once and forgotten here, so that names without end do not add up.
        self._pending = {client.service for client in clients}
        self._workers = {(client.service, client.peer.container) for client in clients}

    def device(self, device: str, component: str, method: str, shares: Shares, held: float = 0.0) -> None:
        """Show where the joules of one sensor went so far.

        Args:
            device: its id.
            component: what it measures.
            method: how.
            shares: of its joules.
            held: active joules in the share of the requests that no request has been given yet.
        """
        told = {(method, share): getattr(shares, share) for share in _SHARES}
        told[method, "requests"] -= held
        if method != "modelled" and shares.modelled:
            # What requests drew while the sensor told nothing is in their share, under its own method.
            told[method, "requests"] -= shares.modelled
            told["modelled", "requests"] = shares.modelled
        with self.store.transaction():
            for (way, share), value in told.items():
                grown = value - self._shown.get((device, way, share), 0.0)
                self.store.counter(Metric.DEVICE_ENERGY, (device, component, way, share)).inc(max(0.0, grown))
                self._shown[device, way, share] = value
            grown = shares.measured - self._shown.get((device, "", "measured"), 0.0)
            self.store.counter(Metric.DEVICE_MEASURED, (device, component)).inc(max(0.0, grown))
            self._shown[device, "", "measured"] = shares.measured
            self.store.gauge(Metric.DEVICE_ENERGY_PENDING, (device, component)).set(max(0.0, shares.pending) + held)

    def learned(self, device: str, component: str, idle: float, trusted: bool, ceiling: float | None) -> None:
        """Show what was learned of one device: idle watts, whether intensities are used, its ceiling in watts."""
        labels = device, component
        self.store.gauge(Metric.DEVICE_IDLE_POWER, labels).set(idle)
        self.store.gauge(Metric.DEVICE_LEARNED, labels).set(int(trusted))
        if ceiling is None:
            self.store.remove(Metric.DEVICE_CEILING, labels)
        else:
            self.store.gauge(Metric.DEVICE_CEILING, labels).set(ceiling)

    def refresh(self, cpu_seconds: float) -> None:
        """Bring up to date what changes with time alone; before each scrape.

        Args:
            cpu_seconds: CPU time of the meter so far.
        """
        self.flush()
        self._scores.refresh(time.monotonic())
        self._meter_cpu.inc(max(0.0, cpu_seconds - self._cpu_seconds))
        self._cpu_seconds = max(self._cpu_seconds, cpu_seconds)

    def _count(self, bound: _Bound, labels: _Labels, news: _News, now: float) -> None:
        for status, number in (("ok", news.number - news.errors), ("error", news.errors)):
            if number:
                requests = bound.statuses.get(status)
                if requests is None:
                    requests = bound.statuses[status] = self.store.counter(Metric.REQUESTS, (*labels, status))
                requests.grow(number)
        bound.items.grow(news.items)
        for component, (active, idle) in news.joules.items():
            pair = bound.joules.get(component)
            if pair is None:
                pair = bound.joules[component] = (
                    self.store.counter(Metric.ENERGY, (*labels, component, "active")),
                    self.store.counter(Metric.ENERGY, (*labels, component, "idle")),
                )
            pair[0].grow(max(0.0, active))
            pair[1].grow(max(0.0, idle))
        bound.operational.grow(news.operational)
        bound.onsite.grow(news.onsite)
        bound.offsite.grow(news.offsite)
        bound.doubt.grow(news.uncertainty)
        if news.energy:
            bound.energy.note_all(news.energy)
            bound.co2e.note_all(news.co2e)
            bound.duration.note_all(news.duration)
        if bound.effective is not None:
            bound.window.add(now, bound.effective, news.number, news.items, news.operational)

    def _observe(self, bound: _Bound, done: Done, joules: float, grams: float, seconds: float) -> None:
        now = time.time()
        with self.store.transaction():
            for child, value in ((bound.energy, joules), (bound.co2e, grams), (bound.duration, seconds)):
                child.note(value, Exemplar(done.trace_id, done.span_id, value, now))

    def _children(self, labels: _Labels, model: Model) -> _Bound:
        key = (*labels, model.dtype, model.parameters)
        bound = self._bound.get(key)
        if bound is None:
            if len(self._bound) >= self._limit:
                self._forget_all()
            bound = self._bound[key] = self._bind(labels, model)
        return bound

    def _forget_all(self) -> None:
        """Names without end: bind afresh rather than hold them all. Scores begin anew."""
        self.flush()
        self._bound.clear()
        self._scores.forget()

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
            doubt=counter(Metric.ENERGY_UNCERTAINTY, labels),
            energy=histogram(Metric.REQUEST_ENERGY, short),
            co2e=histogram(Metric.REQUEST_CO2E, short),
            duration=histogram(Metric.REQUEST_DURATION, short),
            window=window,
        )
