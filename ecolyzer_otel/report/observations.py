"""Observations of a period: the one form that both sources fill and that all figures are computed from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from ecolyzer_otel.common.metrics import Metric, MetricSpec

__all__ = [
    "Gatherer", "Gauge", "Note", "Observations", "Series", "Severity", "SiteTotal", "Source", "Span", "bin_seconds",
    "merged",
]  # fmt: skip

_JOULES_PER_KWH: Final = 3.6e6

#: A meter's name, then the label values in the order of the metric's declaration.
Series = tuple[str, ...]
Severity = Literal["severe", "warning", "remark"]

#: Metrics kept over time, and the label by which each is divided there (empty: not divided).
TIMELINE: Final[dict[str, str]] = {
    Metric.DEVICE_ENERGY.stem: "share",
    Metric.ENERGY.stem: "share",
    Metric.CO2E.stem: "scope",
    Metric.WATER.stem: "scope",
    Metric.MARKET_CO2E.stem: "",
    Metric.REQUESTS.stem: "",
    Metric.EMBODIED.stem: "",
}


class Span(NamedTuple):
    """A stretch of time, in Unix seconds."""

    start: float
    end: float


class SiteTotal:
    """Stems of totals derived here: the impact of all energy of the devices, by (meter, share of the energy)."""

    JOULES: Final = "site_joules"  # with the overhead of the site: times PUE
    GRAMS: Final = "site_grams"
    MARKET_GRAMS: Final = "site_market_grams"
    ONSITE_LITERS: Final = "site_onsite_liters"
    OFFSITE_LITERS: Final = "site_offsite_liters"


@dataclass(frozen=True, slots=True)
class Source:
    """The source of the figures. ``where`` holds no credentials; ``resolution_s`` is the time between readings."""

    kind: Literal["journal", "prometheus"]
    where: str
    resolution_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """A remark on the figures, by severity."""

    severity: Severity
    text: str


@dataclass(slots=True)
class Gauge:
    """A gauge over the period: its last value, its range, and its mean over the time for which it was read."""

    last: float
    low: float
    high: float
    first_s: float
    last_s: float
    seconds: float = 0.0
    _weighted: float = 0.0

    @property
    def mean(self) -> float:
        """The mean over time."""
        return self._weighted / self.seconds if self.seconds > 0.0 else self.last

    def record(self, value: float, span: Span) -> None:
        """Record that the gauge had ``value`` during a span."""
        if span.end >= self.last_s:
            self.last, self.last_s = value, span.end
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.first_s = min(self.first_s, span.start)
        seconds = max(0.0, span.end - span.start)
        self._weighted += value * seconds
        self.seconds += seconds


@dataclass(slots=True)
class Observations:
    """A period as a source reports it. Times are Unix seconds.

    ``totals`` holds the increase of each counter by stem, of histograms under ``stem_count`` and ``stem_sum``;
    ``bins`` holds the same over time, by start of the bin, for (stem, value of the label in ``TIMELINE``).
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
    spans: dict[str, list[Span]] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def total(self, spec: MetricSpec, **labels: str) -> float | None:
        """The increase of all series with these label values; None where there is no such series."""
        found = [value for series, value in self.totals.get(spec.stem, {}).items() if _fits(spec, series, labels)]
        return math.fsum(found) if found else None

    def by(self, spec: MetricSpec, *labels: str) -> dict[tuple[str, ...], float]:
        """The increase by the values of these labels (``meter`` is one)."""
        names = ("meter", *spec.labels)
        indices = [names.index(label) for label in labels]
        sums: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for series, value in self.totals.get(spec.stem, {}).items():
            sums[tuple(series[index] for index in indices)].append(value)
        return {key: math.fsum(values) for key, values in sums.items()}

    def in_bin(self, start: float, stem: str, label_value: str = "") -> float:
        """The increase of a metric in the bin that starts at ``start``, by default of all label values."""
        return math.fsum(
            value
            for (name, label), value in self.bins.get(start, {}).items()
            if name == stem and label_value in ("", label)
        )

    def host(self, meter: str) -> str:
        """The host of a meter, where it is reported; else the name of the meter."""
        return self.facts.get(meter, {}).get("host") or meter

    @property
    def covered(self) -> list[Span]:
        """The spans during which at least one meter was read, in order, without overlap."""
        return merged(span for spans in self.spans.values() for span in spans)


def _fits(spec: MetricSpec, series: Series, labels: Mapping[str, str]) -> bool:
    return all(series[1 + spec.labels.index(name)] == value for name, value in labels.items())


def merged(spans: Iterable[Span], tolerance_s: float = 0.0) -> list[Span]:
    """The union of ``spans``; spans at most ``tolerance_s`` apart become one."""
    union: list[Span] = []
    for span in sorted(spans):
        if union and span.start <= union[-1].end + tolerance_s:
            union[-1] = Span(union[-1].start, max(union[-1].end, span.end))
        else:
            union.append(span)
    return union


def bin_seconds(since: float, until: float) -> float:
    """The resolution of the plots: a day; an hour up to three days; five minutes up to six hours."""
    seconds = until - since
    return 86400.0 if seconds > 3 * 86400.0 else 3600.0 if seconds > 6 * 3600.0 else 300.0


@dataclass(slots=True)
class _Factors:
    """The factors in force at a meter, from its gauges."""

    carbon: float | None = None
    pue: float | None = None
    wue: float | None = None
    ewif: float | None = None
    market: float | None = None


_FACTOR_GAUGES: Final[dict[str, str]] = {
    Metric.GRID_CARBON_INTENSITY.stem: "carbon",
    Metric.PUE.stem: "pue",
    Metric.WUE.stem: "wue",
    Metric.GRID_WATER_INTENSITY.stem: "ewif",
    Metric.GRID_MARKET_FACTOR.stem: "market",
}


class Gatherer:
    """Fills :class:`Observations`. For each span, pass the gauges in force first, then the increments."""

    def __init__(self, since: float, until: float, source: Source, service: str | None = None) -> None:
        self.observed = Observations(since, until, source, service, bin_seconds(since, until))
        self._factors: dict[str, _Factors] = {}
        self._undivided_span = Span(since, since)
        self._undivided: dict[tuple[str, str], float] = defaultdict(float)

    def observations(self) -> Observations:
        """Return the observations; nothing may be added afterwards."""
        self._divide_over_bins()
        return self.observed

    def cover(self, meter: str, span: Span, facts: Mapping[str, str] | None = None) -> None:
        """Record that a meter was read during a span, and facts about it (version, host)."""
        self.observed.spans.setdefault(meter, []).append(span)
        if facts:
            self.observed.facts.setdefault(meter, {}).update(facts)

    def gauge(self, meter: str, spec: MetricSpec, labels: Series, value: float, span: Span) -> None:
        """Record the value of a gauge during a span."""
        gauges = self.observed.gauges[spec.stem]
        series = (meter, *labels)
        if series not in gauges:
            gauges[series] = Gauge(value, value, value, span.start, span.end)
        gauges[series].record(value, span)
        if spec.stem in _FACTOR_GAUGES:
            setattr(self._factors.setdefault(meter, _Factors()), _FACTOR_GAUGES[spec.stem], value)

    def increment(self, meter: str, spec: MetricSpec, labels: Series, value: float, span: Span) -> None:
        """Add the increment of a counter over a span."""
        if not 0.0 <= value < math.inf or self._is_other_service(spec, labels):
            return
        series = (meter, *labels)
        self.observed.totals[spec.stem][series] += value
        label = TIMELINE.get(spec.stem)
        if label is not None:
            self._add_to_timeline(spec.stem, labels[spec.labels.index(label)] if label else "", value, span)
        if spec is Metric.DEVICE_ENERGY:
            self._add_site_impact(meter, labels[spec.labels.index("share")], value, span)

    def histogram(self, meter: str, spec: MetricSpec, labels: Series, part: str, value: float) -> None:
        """Add the increment of one part of a histogram: ``count`` or ``sum``."""
        if 0.0 <= value < math.inf and not self._is_other_service(spec, labels):
            series = (meter, *labels)
            self.observed.totals[f"{spec.stem}_{part}"][series] += value

    def note(self, severity: Severity, text: str) -> None:
        """Add a note for the reader; the same note is kept once."""
        note = Note(severity, text)
        if note not in self.observed.notes:
            self.observed.notes.append(note)

    def _is_other_service(self, spec: MetricSpec, labels: Series) -> bool:
        service = self.observed.service
        return service is not None and "service" in spec.labels and labels[spec.labels.index("service")] != service

    def _add_site_impact(self, meter: str, share: str, joules: float, span: Span) -> None:
        """Add the impact of a device's energy, by the factors in force (formulas: docs/methodology.md)."""
        factors = self._factors.get(meter)
        if factors is None or factors.pue is None:
            return
        it_kwh = joules / _JOULES_PER_KWH
        self.observed.totals[SiteTotal.JOULES][meter, share] += joules * factors.pue
        amounts = (
            (SiteTotal.GRAMS, factors.carbon, factors.pue),
            (SiteTotal.MARKET_GRAMS, factors.market, factors.pue),
            (SiteTotal.ONSITE_LITERS, factors.wue, 1.0),
            (SiteTotal.OFFSITE_LITERS, factors.ewif, factors.pue),
        )
        for stem, factor, scale in amounts:
            if factor is not None:
                self.observed.totals[stem][meter, share] += it_kwh * scale * factor
        if factors.carbon is not None:
            self._add_to_timeline(SiteTotal.GRAMS, share, it_kwh * factors.pue * factors.carbon, span)

    def _add_to_timeline(self, stem: str, label_value: str, value: float, span: Span) -> None:
        """Add an increment to the timeline. All increments of one span are divided over the bins together."""
        if self._undivided_span != span:
            self._divide_over_bins()
            self._undivided_span = span
        self._undivided[stem, label_value] += value

    def _divide_over_bins(self) -> None:
        """Divide the increments over the bins that their span touches, cut to the period so that none is lost."""
        observed, size = self.observed, self.observed.bin_s
        start = min(max(self._undivided_span.start, observed.since), observed.until)
        end = min(max(self._undivided_span.end, start), observed.until)
        first = math.floor(start / size)
        last = max(first, math.ceil(end / size) - 1)
        for index in range(first, last + 1):
            inside = min(end, (index + 1) * size) - max(start, index * size)
            part = inside / (end - start) if last > first else 1.0
            found = observed.bins[index * size] if self._undivided else {}
            for key, value in self._undivided.items():
                found[key] += value * part
        self._undivided.clear()
