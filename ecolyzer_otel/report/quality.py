"""The quality of the figures: gaps, modelled energy, requests without energy, cross-checks, and notes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import pairwise
from typing import Final

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.store import OTHER
from ecolyzer_otel.report.devices import site_factor_configured
from ecolyzer_otel.report.figures import Tables
from ecolyzer_otel.report.observations import Note, Observations, Span, merged
from ecolyzer_otel.report.provenance import Factor
from ecolyzer_otel.report.units import amount, clean, count, moment, percent

__all__ = ["Agreement", "Quality", "assess"]

_OLD_YEARS: Final = 3
#: Shorter gaps come from clocks and restarts, and are ignored.
_GAP_SECONDS: Final = 120.0
_SEVERITIES: Final = ("severe", "warning", "remark")


@dataclass(frozen=True, slots=True)
class Agreement:
    """A cross-check: the same figure computed in two ways."""

    what: str
    left: float
    right: float
    unit: str

    @property
    def difference(self) -> float:
        """The difference as a part of the larger value."""
        larger = max(self.left, self.right)
        part = abs(self.left - self.right) / larger if larger > 0.0 else 0.0
        return part if part > 1e-9 else 0.0  # less is rounding


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of the figures.

    ``covered`` is the covered part of the period (0 to 1), from ``begin`` to ``end`` except for the ``gaps``.
    ``methods`` holds joules by (component, method), ``without_energy`` requests by (unsettled or dropped, reason),
    ``sensor_errors`` refused readings by (sensor, reason).
    """

    covered: float
    begin: float
    end: float
    gaps: tuple[Span, ...]
    methods: Mapping[tuple[str, str], float]
    without_energy: Mapping[tuple[str, str], float]
    settled: float
    sensor_errors: Mapping[tuple[str, str], float]
    agreements: tuple[Agreement, ...]
    notes: tuple[Note, ...]

    @property
    def modelled(self) -> float | None:
        """The modelled part of all joules; None if there are no joules."""
        total = math.fsum(self.methods.values())
        modelled = math.fsum(joules for (_, method), joules in self.methods.items() if method != "measured")
        return modelled / total if total > 0.0 else None


def assess(observed: Observations, tables: Tables, factors: list[Factor]) -> Quality:
    """Assess the figures; the notes come in order of severity."""
    covered = merged(observed.covered, tolerance_s=max(_GAP_SECONDS, 1.01 * observed.source.resolution_s))
    inside = [(max(start, observed.since), min(end, observed.until)) for start, end in covered]
    covered_s = math.fsum(max(0.0, end - start) for start, end in inside)
    without_energy = {
        ("unsettled", *key): value for key, value in observed.by(Metric.UNSETTLED_REQUESTS, "reason").items()
    }
    without_energy |= {
        ("dropped", *key): value for key, value in observed.by(Metric.DROPPED_REQUESTS, "reason").items()
    }
    methods = observed.by(Metric.DEVICE_ENERGY, "component", "method")
    errors = observed.by(Metric.SENSOR_ERRORS, "sensor", "reason")
    quality = Quality(
        covered=covered_s / (observed.until - observed.since),
        begin=covered[0].start if covered else observed.since,
        end=covered[-1].end if covered else observed.until,
        gaps=tuple(Span(before.end, after.start) for before, after in pairwise(covered)),
        methods={(key[0], key[1]): value for key, value in methods.items()},
        without_energy={(key[0], key[1]): value for key, value in without_energy.items() if value > 0.0},
        settled=tables.total.value("requests") or 0.0,
        sensor_errors={(key[0], key[1]): value for key, value in errors.items() if value > 0.0},
        agreements=tuple(_agreements(observed, tables)),
        notes=(),
    )
    notes = [
        *observed.notes,
        *_factor_notes(observed, factors),
        *_figure_notes(tables, quality),
        *_meter_notes(observed),
        *_setting_notes(observed),
    ]
    notes.sort(key=lambda note: _SEVERITIES.index(note.severity))
    return replace(quality, notes=tuple(notes))


def _agreements(observed: Observations, tables: Tables) -> Iterator[Agreement]:
    def total(stem: str) -> float | None:
        found = observed.totals.get(stem)
        return math.fsum(found.values()) if found else None

    histogram = Metric.REQUEST_ENERGY.stem
    for what, quantity, part, unit in (
        ("requests: the counter, and the count of the energy histogram", "requests", "count", ""),
        ("energy of requests: the counter, and the sum of the energy histogram", "energy", "sum", "Wh"),
    ):
        left, right = tables.total.value(quantity), total(f"{histogram}_{part}")
        if left is not None and right is not None:
            yield Agreement(what, left, right, unit)
    active, charged = tables.total.value("active_energy"), observed.total(Metric.DEVICE_ENERGY, share="requests")
    if observed.service is None and active is not None and charged is not None:
        what = "active energy: the sum over all requests, and the share of requests in the energy of the devices"
        yield Agreement(what, active, charged, "Wh")


def _factor_notes(observed: Observations, factors: list[Factor]) -> Iterator[Note]:
    year = datetime.fromtimestamp(observed.until, timezone.utc).year
    if any(factor.defaulted for factor in factors):
        yield Note(
            "severe",
            "The grid zone is WORLD: the location of the machines is not configured, so the world average is used. "
            "Grams and litres may be several times too high or too low. Set ECOLYZER_ZONE to the grid zone of the "
            "machines.",
        )
    bases = sorted({clean(factor.basis) for factor in factors if factor.kind == "carbon" and factor.basis})
    if len(bases) > 1:
        yield Note(
            "warning",
            f"Carbon intensities of different bases are summed ({'; '.join(bases)}). Life-cycle and direct "
            "intensities differ by about 10 %.",
        )
    for factor in factors:
        name = f"The {factor.kind} factor of {clean(factor.zone)}"
        if factor.year.isdigit() and year - int(factor.year) >= _OLD_YEARS:
            yield Note("warning", f"{name} is from {factor.year}: {year - int(factor.year)} years old.")
        if factor.estimated:
            yield Note(
                "remark",
                f"{name} is estimated, derived or a fallback, not a published figure ({clean(factor.basis)}).",
            )
    for spec, kind, what in (
        (Metric.PUE, "PUE", "The overhead of the site (cooling, power distribution)"),
        (Metric.WUE, "WUE", "Water for cooling"),
    ):
        if observed.gauges.get(spec.stem) and not site_factor_configured(observed, spec):
            reason = "neither configured nor published for this location"
            yield Note(
                "warning", f"{what} is not included in the figures: {kind} is {reason}. Set ECOLYZER_{kind}."
            )
    if any(factor.kind == "market" and factor.source in ("", "configured") for factor in factors):
        yield Note(
            "warning",
            "The market-based factor names no contract or certificate, which an audit requires. Set "
            "ECOLYZER_MARKET_SOURCE.",
        )
    fetches = observed.by(Metric.GRID_FETCHES, "source", "outcome")
    failed = [
        f"{clean(source)} {clean(outcome)}: {count(number)}"
        for (source, outcome), number in fetches.items()
        if outcome != "ok" and number > 0.0
    ]
    if failed:
        yield Note(
            "remark",
            f"Some fetches of live grid figures failed ({', '.join(failed)}). The last live figure, or that of the "
            "table, was used instead.",
        )


def _figure_notes(tables: Tables, quality: Quality) -> Iterator[Note]:
    if quality.covered < 0.95:
        yield Note(
            "warning",
            f"Only {percent(quality.covered)} of the period is covered by readings ({moment(quality.begin)} to "
            f"{moment(quality.end)}). Consumption outside the readings is not included in the figures.",
        )
    modelled = quality.modelled
    if modelled is not None and modelled > 0.0005:
        yield Note(
            "warning" if modelled > 0.1 else "remark",
            f"{percent(modelled)} of the energy is modelled from utilisation, not measured. Its error may be tens "
            "of percent.",
        )
    without_energy = math.fsum(quality.without_energy.values())
    if without_energy > 0.0:
        part = without_energy / (without_energy + quality.settled)
        yield Note(
            "warning" if part > 0.01 else "remark",
            f"{count(without_energy)} requests ({percent(part)}) were served but have no energy of their own. "
            "Their joules are in the process share.",
        )
    for one in quality.agreements:
        if one.difference > 0.01:
            sides = [amount(value, one.unit) if one.unit else count(value) for value in (one.left, one.right)]
            text = f"A cross-check differs by {percent(one.difference)}: {one.what}"
            yield Note("warning", f"{text} ({sides[0]}, {sides[1]}).")
    energy = tables.total.amounts["energy"]
    if energy.value and energy.low is None:
        yield Note("remark", "The meters report no uncertainty of their sensors, so energy has no range.")


def _meter_notes(observed: Observations) -> Iterator[Note]:
    overflow = observed.total(Metric.LABEL_OVERFLOW)
    if overflow:
        yield Note(
            "warning",
            f"{count(overflow)} label sets were over the limit and are counted together as {OTHER}; totals include "
            "them. Raise ECOLYZER_MAX_LABEL_SETS, or use names of models and routes without numbers.",
        )
    most = max((gauge.high for gauge in observed.gauges.get(Metric.HOST_METERS.stem, {}).values()), default=1.0)
    if most > 1.0:
        yield Note(
            "warning",
            f"Up to {count(most)} meters ran on one host at the same time. Each counts all devices of the host, so "
            "figures of whole devices are too high; those of requests are not. Use one agent for all services of "
            "a host (ecolyzer agent).",
        )


def _setting_notes(observed: Observations) -> Iterator[Note]:
    """Notes on factors that were configured for a part of the time only."""
    total = math.fsum(end - start for spans in observed.spans.values() for start, end in spans)
    for spec, what in (
        (Metric.GRID_MARKET_FACTOR, "A market-based factor was"),
        (Metric.EMBODIED_RATE, "Embodied emissions were"),
    ):
        seconds: dict[str, float] = defaultdict(float)
        for series, gauge in observed.gauges.get(spec.stem, {}).items():
            seconds[series[0]] = max(seconds[series[0]], gauge.seconds)
        part = math.fsum(seconds.values()) / total if total > 0.0 else 1.0
        if seconds and part < 0.95:
            yield Note(
                "warning", f"{what} configured for {percent(part)} of the meters' time only: the total is too low."
            )
