"""How good the figures are: what is missing, what is modelled, what does not agree."""

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
from ecolyzer_otel.report.devices import site_known
from ecolyzer_otel.report.figures import Tables
from ecolyzer_otel.report.observations import Note, Observations, merged
from ecolyzer_otel.report.provenance import Factor
from ecolyzer_otel.report.units import amount, clean, count, moment, percent

__all__ = ["Agreement", "Quality", "judge"]

_OLD_YEARS: Final = 3
#: Shorter gaps are the clock's, or a restart.
_GAP_SECONDS: Final = 120.0
_SEVERITIES: Final = ("severe", "warning", "remark")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two ways to the same figure."""

    what: str
    left: float
    right: float
    unit: str

    @property
    def difference(self) -> float:
        """Their difference as a part of the larger."""
        larger = max(self.left, self.right)
        part = abs(self.left - self.right) / larger if larger > 0.0 else 0.0
        return part if part > 1e-9 else 0.0  # the rest is how sums of floats round


@dataclass(frozen=True, slots=True)
class Quality:
    """What there is to say about the figures. ``covered`` is a part of the period, ``gaps`` lie inside it."""

    covered: float
    begin: float
    end: float
    gaps: tuple[tuple[float, float], ...]
    methods: Mapping[tuple[str, str], float]
    lost: Mapping[tuple[str, str], float]
    settled: float
    sensor_errors: Mapping[tuple[str, str], float]
    agreements: tuple[Agreement, ...]
    notes: tuple[Note, ...]

    @property
    def modelled(self) -> float | None:
        """The part of all joules that no sensor measured; None where there are none."""
        whole = math.fsum(self.methods.values())
        modelled = math.fsum(joules for (_, method), joules in self.methods.items() if method != "measured")
        return modelled / whole if whole > 0.0 else None


def judge(seen: Observations, tables: Tables, factors: list[Factor]) -> Quality:
    """Everything worth telling, the severest first."""
    covered = merged(seen.covered, tolerance_s=max(_GAP_SECONDS, 1.01 * seen.source.resolution_s))
    inside = [(max(start, seen.since), min(end, seen.until)) for start, end in covered]
    heard = math.fsum(max(0.0, end - start) for start, end in inside)
    lost = {("unsettled", *key): value for key, value in seen.by(Metric.UNSETTLED_REQUESTS, "reason").items()}
    lost |= {("dropped", *key): value for key, value in seen.by(Metric.DROPPED_REQUESTS, "reason").items()}
    methods = seen.by(Metric.DEVICE_ENERGY, "component", "method")
    errors = seen.by(Metric.SENSOR_ERRORS, "sensor", "reason")
    quality = Quality(
        covered=heard / (seen.until - seen.since),
        begin=covered[0][0] if covered else seen.since,
        end=covered[-1][1] if covered else seen.until,
        gaps=tuple((end, start) for (_, end), (start, _) in pairwise(covered)),
        methods={(key[0], key[1]): value for key, value in methods.items()},
        lost={(key[0], key[1]): value for key, value in lost.items() if value > 0.0},
        settled=tables.total.value("requests") or 0.0,
        sensor_errors={(key[0], key[1]): value for key, value in errors.items() if value > 0.0},
        agreements=tuple(_agreements(seen, tables)),
        notes=(),
    )
    notes = [
        *seen.notes,
        *_of_factors(seen, factors),
        *_of_figures(tables, quality),
        *_of_meters(seen),
        *_of_settings(seen),
    ]
    notes.sort(key=lambda note: _SEVERITIES.index(note.severity))
    return replace(quality, notes=tuple(notes))


def _agreements(seen: Observations, tables: Tables) -> Iterator[Agreement]:
    def whole(stem: str) -> float | None:
        found = seen.totals.get(stem)
        return math.fsum(found.values()) if found else None

    histogram = Metric.REQUEST_ENERGY.stem
    for what, quantity, part, unit in (
        ("requests: their counter, and the count of the energy histogram", "requests", "count", ""),
        ("energy of requests: its counter, and the sum of the histogram", "energy", "sum", "Wh"),
    ):
        left, right = tables.total.value(quantity), whole(f"{histogram}_{part}")
        if left is not None and right is not None:
            yield Agreement(what, left, right, unit)
    active, charged = tables.total.value("active_energy"), seen.total(Metric.DEVICE_ENERGY, share="requests")
    if seen.service is None and active is not None and charged is not None:
        what = "active energy: the sum over all requests, and the devices' share of requests"
        yield Agreement(what, active, charged, "Wh")


def _of_factors(seen: Observations, factors: list[Factor]) -> Iterator[Note]:
    year = datetime.fromtimestamp(seen.until, timezone.utc).year
    if any(factor.defaulted for factor in factors):
        yield Note(
            "severe",
            "The grid zone is WORLD: the world's average stands in for a place that was not configured. Grams and "
            "litres may be several times too high or too low. Set ECOLYZER_ZONE to where the machines stand.",
        )
    bases = sorted({clean(factor.basis) for factor in factors if factor.kind == "carbon" and factor.basis})
    if len(bases) > 1:
        yield Note(
            "warning",
            f"Carbon intensities of different bases are summed ({'; '.join(bases)}): life-cycle and direct figures "
            "differ by some 10 %.",
        )
    for factor in factors:
        name = f"The {factor.kind} factor of {clean(factor.zone)}"
        if factor.year.isdigit() and year - int(factor.year) >= _OLD_YEARS:
            yield Note("warning", f"{name} is of {factor.year}, {year - int(factor.year)} years old.")
        if factor.estimated:
            yield Note("remark", f"{name} is not a published figure of its own ({clean(factor.basis)}).")
    for spec, kind, what in (
        (Metric.PUE, "PUE", "The overhead of the site (cooling, power distribution)"),
        (Metric.WUE, "WUE", "Water for cooling"),
    ):
        if seen.gauges.get(spec.stem) and not site_known(seen, spec):
            told = "not configured and not published for this place"
            yield Note("warning", f"{what} is not in the figures: {kind} is {told}. Set ECOLYZER_{kind}.")
    if any(factor.kind == "market" and factor.source in ("", "configured") for factor in factors):
        yield Note(
            "warning",
            "The contractual factor names no contract or certificate, which an auditor will ask for. Set "
            "ECOLYZER_MARKET_SOURCE.",
        )
    fetches = seen.by(Metric.GRID_FETCHES, "source", "outcome")
    failed = [
        f"{clean(source)} {clean(outcome)}: {count(number)}"
        for (source, outcome), number in fetches.items()
        if outcome != "ok" and number > 0.0
    ]
    if failed:
        yield Note(
            "remark",
            f"Live grid figures could not always be fetched ({', '.join(failed)}); the last one, or the table's, "
            "stood in.",
        )


def _of_figures(tables: Tables, quality: Quality) -> Iterator[Note]:
    if quality.covered < 0.95:
        yield Note(
            "warning",
            f"Only {percent(quality.covered)} of the period is covered by readings ({moment(quality.begin)} to "
            f"{moment(quality.end)}). What was consumed outside is not in the figures.",
        )
    modelled = quality.modelled
    if modelled is not None and modelled > 0.0005:
        yield Note(
            "warning" if modelled > 0.1 else "remark",
            f"{percent(modelled)} of the energy is modelled from utilisation, not measured: expect an error of "
            "tens of percent in it.",
        )
    lost = math.fsum(quality.lost.values())
    if lost > 0.0:
        part = lost / (lost + quality.settled)
        yield Note(
            "warning" if part > 0.01 else "remark",
            f"{count(lost)} requests ({percent(part)}) were served and have no energy of their own: their joules "
            "are in the share of their process.",
        )
    for one in quality.agreements:
        if one.difference > 0.01:
            sides = [amount(value, one.unit) if one.unit else count(value) for value in (one.left, one.right)]
            told = f"Two ways to one figure differ by {percent(one.difference)}: {one.what}"
            yield Note("warning", f"{told} ({sides[0]}, {sides[1]}).")
    energy = tables.total.amounts["energy"]
    if energy.value and energy.low is None:
        yield Note("remark", "The meters tell no uncertainty of their sensors, so energy has no range.")


def _of_meters(seen: Observations) -> Iterator[Note]:
    overflow = seen.total(Metric.LABEL_OVERFLOW)
    if overflow:
        yield Note(
            "warning",
            f"{count(overflow)} label sets were over the limit and are counted together as {OTHER}; totals hold "
            "them. Raise ECOLYZER_MAX_LABEL_SETS, or name models and routes without numbers in them.",
        )
    most = max((gauge.high for gauge in seen.gauges.get(Metric.HOST_METERS.stem, {}).values()), default=1.0)
    if most > 1.0:
        yield Note(
            "warning",
            f"Up to {count(most)} meters ran on one host at a time. Each counts all devices of the host, so "
            "figures of whole devices are too high; those of requests are not. One agent for all services "
            "(ecolyzer agent) measures better.",
        )


def _of_settings(seen: Observations) -> Iterator[Note]:
    """What was configured for a part of the time only."""
    whole = math.fsum(end - start for spans in seen.spans.values() for start, end in spans)
    for spec, what in (
        (Metric.GRID_MARKET_FACTOR, "A contractual factor was"),
        (Metric.EMBODIED_RATE, "Embodied emissions were"),
    ):
        told: dict[str, float] = defaultdict(float)
        for series, gauge in seen.gauges.get(spec.stem, {}).items():
            told[series[0]] = max(told[series[0]], gauge.seconds)
        part = math.fsum(told.values()) / whole if whole > 0.0 else 1.0
        if told and part < 0.95:
            yield Note(
                "warning", f"{what} configured for {percent(part)} of the meters' time only: the total is too low."
            )
