"""What a source tells of a period: the one form that both sources fill and all figures are computed from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ecolyzer_otel.common.metrics import Metric, MetricSpec

__all__ = ["Gatherer", "Gauge", "Note", "Observations", "Series", "SiteTotal", "Source"]

_JOULES_PER_KWH: Final = 3.6e6

#: A meter's name, then the label values in the order of the spec.
Series = tuple[str, ...]
Severity = Literal["severe", "warning", "remark"]

#: What is kept over time, and the label that stays told apart.
TIMELINE: Final[dict[str, str]] = {
    Metric.DEVICE_ENERGY.stem: "share",
    Metric.ENERGY.stem: "share",
    Metric.CO2E.stem: "scope",
    Metric.WATER.stem: "scope",
    Metric.MARKET_CO2E.stem: "",
    Metric.REQUESTS.stem: "",
    Metric.EMBODIED.stem: "",
}


class SiteTotal:
    """Stems of what is derived here: the impact of all that the devices drew, by (meter, share of the energy)."""

    JOULES: Final = "site_joules"  # with the site's overhead: times PUE
    GRAMS: Final = "site_grams"
    MARKET_GRAMS: Final = "site_market_grams"
    ONSITE_LITERS: Final = "site_onsite_liters"
    OFFSITE_LITERS: Final = "site_offsite_liters"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the figures were read. ``where`` holds no credentials. ``resolution_s``: seconds between readings."""

    kind: Literal["journal", "prometheus"]
    where: str
    resolution_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a reader of the figures has to know."""

    severity: Severity
    text: str


@dataclass(slots=True)
class Gauge:
    """A gauge over the period: its last value, its range, and its mean over the time for which it is known."""

    last: float
    low: float
    high: float
    first_s: float
    last_s: float
    seconds: float = 0.0
    _weighted: float = 0.0

    @property
    def mean(self) -> float:
        """Mean over time."""
        return self._weighted / self.seconds if self.seconds > 0.0 else self.last

    def see(self, value: float, from_s: float, to_s: float) -> None:
        """It had ``value`` from one Unix time to another."""
        if to_s >= self.last_s:
            self.last, self.last_s = value, to_s
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.first_s = min(self.first_s, from_s)
        seconds = max(0.0, to_s - from_s)
        self._weighted += value * seconds
        self.seconds += seconds


@dataclass(slots=True)
class Observations:
    """A period as a source tells it. Times are Unix seconds.

    ``totals`` holds the growth of each counter by stem, of histograms under ``stem_count`` and ``stem_sum``;
    ``bins`` the same over time, by start of the bin, for (stem, value of the label told apart).
    """

    since: float
    until: float
    source: Source
    service: str | None = None
    bin_s: float = 86400.0
    totals: dict[str, dict[Series, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    bins: dict[float, dict[tuple[str, str], float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    gauges: dict[str, dict[Series, Gauge]] = field(default_factory=lambda: defaultdict(dict))
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def total(self, spec: MetricSpec, **labels: str) -> float | None:
        """The growth of all series with these label values; None where there is no such series."""
        found = [value for series, value in self.totals.get(spec.stem, {}).items() if _fits(spec, series, labels)]
        return math.fsum(found) if found else None

    def by(self, spec: MetricSpec, *labels: str) -> dict[tuple[str, ...], float]:
        """The growth by the values of these labels (``meter`` is one)."""
        names = ("meter", *spec.labels)
        indices = [names.index(label) for label in labels]
        sums: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for series, value in self.totals.get(spec.stem, {}).items():
            sums[tuple(series[index] for index in indices)].append(value)
        return {key: math.fsum(values) for key, values in sums.items()}

    def host(self, meter: str) -> str:
        """The machine that a meter ran on, where it said so; else the meter's own name."""
        return self.facts.get(meter, {}).get("host") or meter

    @property
    def covered(self) -> list[tuple[float, float]]:
        """The stretches of time during which some meter ran, in order, without overlap."""
        return merged(span for spans in self.spans.values() for span in spans)


def _fits(spec: MetricSpec, series: Series, labels: Mapping[str, str]) -> bool:
    return all(series[1 + spec.labels.index(name)] == value for name, value in labels.items())


def merged(spans: Iterable[tuple[float, float]], tolerance_s: float = 0.0) -> list[tuple[float, float]]:
    """The union of ``spans``; what is at most ``tolerance_s`` apart is one."""
    union: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1] + tolerance_s:
            union[-1] = union[-1][0], max(union[-1][1], end)
        else:
            union.append((start, end))
    return union


def bin_seconds(since: float, until: float) -> float:
    """A plot's resolution: days, hours for up to three days, five minutes for up to six hours."""
    seconds = until - since
    return 86400.0 if seconds > 3 * 86400.0 else 3600.0 if seconds > 6 * 3600.0 else 300.0


@dataclass(slots=True)
class _Place:
    """The factors in force at a meter, as its gauges tell them."""

    carbon: float | None = None
    pue: float | None = None
    wue: float | None = None
    ewif: float | None = None
    market: float | None = None


_PLACE_GAUGES: Final[dict[str, str]] = {
    Metric.GRID_CARBON_INTENSITY.stem: "carbon",
    Metric.PUE.stem: "pue",
    Metric.WUE.stem: "wue",
    Metric.GRID_WATER_INTENSITY.stem: "ewif",
    Metric.GRID_MARKET_FACTOR.stem: "market",
}


class Gatherer:
    """Fills :class:`Observations`: of each stretch of time first the gauges in force, then what grew in it."""

    def __init__(self, since: float, until: float, source: Source, service: str | None = None) -> None:
        self.seen = Observations(since, until, source, service, bin_seconds(since, until))
        self._places: dict[str, _Place] = {}
        self._stretch = (since, since)
        self._kept: dict[tuple[str, str], float] = defaultdict(float)

    def observations(self) -> Observations:
        """All that was seen."""
        self._divide()
        return self.seen

    def cover(self, meter: str, from_s: float, to_s: float, facts: Mapping[str, str] | None = None) -> None:
        """The meter ran and was heard from one time to another."""
        self.seen.spans.setdefault(meter, []).append((from_s, to_s))
        if facts:
            self.seen.facts.setdefault(meter, {}).update(facts)

    def gauge(self, meter: str, spec: MetricSpec, labels: Series, value: float, from_s: float, to_s: float) -> None:
        """A gauge had a value from one time to another."""
        known = self.seen.gauges[spec.stem]
        series = (meter, *labels)
        if series not in known:
            known[series] = Gauge(value, value, value, from_s, to_s)
        known[series].see(value, from_s, to_s)
        if spec.stem in _PLACE_GAUGES:
            setattr(self._places.setdefault(meter, _Place()), _PLACE_GAUGES[spec.stem], value)

    def grow(self, meter: str, spec: MetricSpec, labels: Series, value: float, from_s: float, to_s: float) -> None:
        """A counter grew by ``value`` from one time to another."""
        if not 0.0 <= value < math.inf or (self.seen.service is not None and self._left_out(spec, labels)):
            return
        series = (meter, *labels)
        self.seen.totals[spec.stem][series] += value
        told = TIMELINE.get(spec.stem)
        if told is not None:
            self._spread(spec.stem, labels[spec.labels.index(told)] if told else "", value, from_s, to_s)
        if spec is Metric.DEVICE_ENERGY:
            self._site(meter, labels[spec.labels.index("share")], value, from_s, to_s)

    def observe(self, meter: str, spec: MetricSpec, labels: Series, count: float, total: float) -> None:
        """A histogram grew by so many observations and so much in sum."""
        if count > 0.0 and math.isfinite(count + total) and not self._left_out(spec, labels):
            series = (meter, *labels)
            self.seen.totals[f"{spec.stem}_count"][series] += count
            self.seen.totals[f"{spec.stem}_sum"][series] += total

    def note(self, severity: Severity, text: str) -> None:
        """Something to tell the reader; the same text once."""
        note = Note(severity, text)
        if note not in self.seen.notes:
            self.seen.notes.append(note)

    def _left_out(self, spec: MetricSpec, labels: Series) -> bool:
        service = self.seen.service
        return service is not None and "service" in spec.labels and labels[spec.labels.index("service")] != service

    def _site(self, meter: str, share: str, joules: float, from_s: float, to_s: float) -> None:
        """The impact of all that a device drew, by the factors of the time (formulas: docs/methodology.md)."""
        place = self._places.get(meter)
        if place is None or place.pue is None:
            return
        it_kwh = joules / _JOULES_PER_KWH
        self.seen.totals[SiteTotal.JOULES][meter, share] += joules * place.pue
        amounts = (
            (SiteTotal.GRAMS, place.carbon, place.pue),
            (SiteTotal.MARKET_GRAMS, place.market, place.pue),
            (SiteTotal.ONSITE_LITERS, place.wue, 1.0),
            (SiteTotal.OFFSITE_LITERS, place.ewif, place.pue),
        )
        for stem, factor, scale in amounts:
            if factor is not None:
                self.seen.totals[stem][meter, share] += it_kwh * scale * factor
        if place.carbon is not None:
            self._spread(SiteTotal.GRAMS, share, it_kwh * place.pue * place.carbon, from_s, to_s)

    def _spread(self, stem: str, told: str, value: float, from_s: float, to_s: float) -> None:
        """Keep growth for the timeline; what belongs to one stretch of time is divided over the bins at once."""
        if self._stretch != (from_s, to_s):
            self._divide()
            self._stretch = from_s, to_s
        self._kept[stem, told] += value

    def _divide(self) -> None:
        """Divide growth over the bins that its time touches; within the period only, so that nothing is lost."""
        seen, size = self.seen, self.seen.bin_s
        start = min(max(self._stretch[0], seen.since), seen.until)
        end = min(max(self._stretch[1], start), seen.until)
        first = math.floor(start / size)
        last = max(first, math.ceil(end / size) - 1)
        for index in range(first, last + 1):
            inside = min(end, (index + 1) * size) - max(start, index * size)
            part = inside / (end - start) if last > first else 1.0
            found = seen.bins[index * size] if self._kept else {}
            for key, value in self._kept.items():
                found[key] += value * part
        self._kept.clear()
