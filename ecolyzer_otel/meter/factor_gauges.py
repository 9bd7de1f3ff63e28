"""Gauges of the factors in use, and of their age."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.store import Labels, MetricStore
from ecolyzer_otel.impact.embodied import Embodied
from ecolyzer_otel.impact.place import Place
from ecolyzer_otel.impact.provenance import factors_of

__all__ = ["FactorGauges"]


class FactorGauges:
    """Shows the factors of the present place, and the hardware's embodied emissions.

    Args:
        store: holds the gauges and counters.
        embodied: emissions of the hardware.
        components: component by sensor id.
    """

    def __init__(self, store: MetricStore, embodied: Embodied, components: Mapping[str, str]) -> None:
        self._store = store
        self._embodied = embodied
        self._shown: set[tuple[MetricSpec, Labels]] = set()
        self._outcomes: dict[tuple[str, str], int] = {}
        self._rates: dict[tuple[str, str], float] = {}
        for sensor, rate in embodied.by_sensor.items():
            labels = sensor, components[sensor]
            self._rates[labels] = rate
            store.gauge(Metric.EMBODIED_RATE, labels).set(rate)
            store.counter(Metric.EMBODIED, labels)

    def show(self, place: Place) -> None:
        """Show the factors of ``place``; those of the place before are removed."""
        values = dict(self._values(place))
        with self._store.transaction():
            for spec, labels in self._shown - values.keys():
                self._store.remove(spec, labels)
            for (spec, labels), value in values.items():
                self._store.gauge(spec, labels).set(value)
        self._shown = set(values)

    def _values(self, place: Place) -> Iterator[tuple[tuple[MetricSpec, Labels], float]]:
        grid = place.zone, place.source
        water = place.water_zone, place.water_source
        yield (Metric.GRID_CARBON_INTENSITY, grid), place.grams_per_kwh
        yield (Metric.GRID_CARBON_UNCERTAINTY, grid), place.uncertainty
        yield (Metric.GRID_DATA_TIMESTAMP, grid), place.data_timestamp_seconds
        yield (Metric.GRID_WATER_INTENSITY, water), place.ewif
        yield (Metric.GRID_WATER_LOW, water), place.water_low
        yield (Metric.GRID_WATER_HIGH, water), place.water_high
        yield (Metric.PUE, (place.zone, place.pue_source)), place.pue
        yield (Metric.WUE, (place.zone, place.wue_source)), place.wue
        if place.marginal is not None:
            labels = place.marginal_zone, place.marginal_source
            yield (Metric.GRID_MARGINAL_INTENSITY, labels), place.marginal
        if place.market is not None:
            yield (Metric.GRID_MARKET_FACTOR, (place.zone, place.market_source)), place.market
        for factor in factors_of(place, self._embodied):
            yield (Metric.GRID_FACTOR, tuple(factor)), 1.0

    def count_embodied(self, seconds: float) -> None:
        """Add the embodied emissions of so many seconds of the hardware's life."""
        for labels, rate in self._rates.items():
            self._store.counter(Metric.EMBODIED, labels).inc(rate * max(0.0, seconds))

    def count_fetches(self, role: str, source: str, outcomes: Mapping[str, int]) -> None:
        """Count the fetches of a live source.

        Args:
            role: which figure it gives; two live sources may have the same name.
            source: its name.
            outcomes: number of fetches by outcome so far.
        """
        for outcome, number in list(outcomes.items()):
            grown = number - self._outcomes.get((role, outcome), 0)
            if grown > 0:
                self._store.counter(Metric.GRID_FETCHES, (source, outcome)).inc(grown)
                self._outcomes[role, outcome] = number
