"""Sections on the basis of the figures: projection, data quality, factors, method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ecolyzer_otel.report import texts
from ecolyzer_otel.report.blocks import Block, Bullets, Callout, Cell, Formula, Paragraph, Table, cell
from ecolyzer_otel.report.figures import Tables
from ecolyzer_otel.report.observations import Observations
from ecolyzer_otel.report.projection import Projection
from ecolyzer_otel.report.provenance import Factor
from ecolyzer_otel.report.quality import Quality
from ecolyzer_otel.report.ranges import Amount
from ecolyzer_otel.report.units import amount, clean, count, digits, moment, percent

__all__ = ["factors", "method", "projected", "quality"]

_MAX_ROWS: Final = 12
_PROJECTED: Final = {
    "requests": "Requests",
    "energy": "Energy of requests",
    "co2e_operational": "CO₂e of requests, location-based",
    "co2e_market": "CO₂e of requests, market-based",
    "co2e_embodied": "CO₂e of requests, embodied",
    "water": "Water of requests",
    "device_energy": "Energy of whole devices",
    "device_co2e_operational": "CO₂e of whole devices, location-based",
}
_KINDS: Final = {
    "carbon": "Carbon intensity of the grid",
    "market": "Market-based carbon factor (contract)",
    "marginal": "Marginal carbon intensity",
    "pue": "PUE",
    "wue": "WUE",
    "water": "Water intensity of the grid",
    "embodied_server": "Embodied, server",
    "embodied_gpu": "Embodied, GPU",
}


def projected(projection: Projection) -> list[Block]:
    """The projection to a year, or the reason why there is none."""
    if projection.refused:
        return [Callout("remark", f"No projection: {projection.refused}.")]
    rows = [
        [Cell(title), _rounded(projection.amounts[name])]
        for name, title in _PROJECTED.items()
        if projection.amounts[name].value is not None
    ]
    basis = f"{amount(projection.seconds, 's')} observed, with {count(projection.days)} whole days"
    blocks: list[Block] = [Table(("Quantity", "Per year"), rows, f"Projection to a year ({basis})")]
    if projection.variation is None:
        blocks.insert(0, Callout("warning", "A rate, not a forecast: less than two whole days were observed."))
    return [*blocks, Bullets([("", text) for text in projection.assumptions])]


def _rounded(figure: Amount) -> Cell:
    """A projected number of requests is shown with three digits, not in full."""
    if figure.unit != "requests" or figure.value is None:
        return cell(figure)
    has_range = figure.low is not None and figure.high is not None
    return Cell(
        digits(figure.value), f"{digits(figure.low or 0.0)} to {digits(figure.high or 0.0)}" if has_range else ""
    )


def quality(found: Quality, tables: Tables) -> list[Block]:
    """Every note; coverage, methods, requests without energy, sensor errors and cross-checks."""
    modelled = found.modelled
    facts = [
        [Cell("Period covered by readings"), Cell(percent(found.covered))],
        [Cell("First and last reading"), Cell(f"{moment(found.begin)} to {moment(found.end)}")],
        [
            Cell("Energy measured by sensors"),
            Cell("unknown", absent=True) if modelled is None else Cell(percent(1.0 - modelled)),
        ],
        [Cell("Requests with energy"), cell(tables.total.amounts["requests"])],
        [Cell("Requests without energy"), Cell(count(math.fsum(found.without_energy.values())))],
        [Cell("Failed requests (status error)"), cell(tables.total.amounts["errors"])],
        [Cell("Refused readings"), Cell(count(math.fsum(found.sensor_errors.values())))],
    ]
    blocks: list[Block] = [Callout(note.severity, note.text) for note in found.notes]
    blocks.append(Table(("", ""), facts, "Completeness of the figures"))
    if found.agreements:
        rows = [
            [
                Cell(one.what),
                _quantity(one.left, one.unit),
                _quantity(one.right, one.unit),
                Cell(percent(one.difference)),
            ]
            for one in found.agreements
        ]
        blocks.append(
            Table(("Figure, computed in two ways", "First", "Second", "Difference"), rows, "Cross-checks")
        )
    blocks += _tables(found)
    return blocks


def _quantity(value: float, unit: str) -> Cell:
    return Cell(amount(value, unit) if unit else count(value))


def _tables(found: Quality) -> list[Block]:
    blocks: list[Block] = []
    total = math.fsum(found.methods.values())
    if total > 0.0:
        rows = [
            [
                Cell(clean(component)),
                Cell(clean(method_name)),
                Cell(amount(joules, "Wh")),
                Cell(percent(joules / total)),
            ]
            for (component, method_name), joules in sorted(found.methods.items())
        ]
        blocks.append(
            Table(("Component", "Method", "Energy", "Part"), rows, "Measured and modelled energy", texts=2)
        )
    for title, counts in (
        ("Requests without energy", found.without_energy),
        ("Refused readings", found.sensor_errors),
    ):
        if counts:
            rows = [
                [Cell(clean(a)), Cell(clean(b)), Cell(count(number))] for (a, b), number in sorted(counts.items())
            ]
            first = "Outcome" if counts is found.without_energy else "Sensor"
            blocks.append(Table((first, "Reason", "Number"), rows[:_MAX_ROWS], title, texts=2))
    if found.gaps:
        longest = sorted(found.gaps, key=lambda gap: gap.start - gap.end)[:_MAX_ROWS]
        rows = [
            [Cell(moment(gap.start)), Cell(moment(gap.end)), Cell(amount(gap.end - gap.start, "s"))]
            for gap in sorted(longest)
        ]
        cut = f"The longest of {count(len(found.gaps))}. " if len(found.gaps) > len(rows) else ""
        note = f"{cut}No meter was read during a gap."
        blocks.append(Table(("From", "To", "Length"), rows, "Gaps", texts=2, note=note))
    return blocks


def factors(found: Sequence[Factor]) -> list[Block]:
    """The provenance of the factors, as a table."""
    if not found:
        return [Callout("warning", "The source holds no factors.")]
    rows = [
        [
            Cell(_KINDS.get(one.kind, clean(one.kind))),
            Cell(clean(one.zone) or "-"),
            Cell(clean(one.value) or "unknown", "" if one.unit == "1" else clean(one.unit)),
            Cell(clean(one.basis, 300) or "-"),
            Cell(clean(one.source, 600) or "unknown"),
            Cell(clean(one.year) or "-"),
            Cell(one.used.replace("-", "\u2011")),
        ]
        for one in found
    ]
    columns = ("Factor", "Zone", "Value", "Basis", "Source", "Year", "Used")
    note = "For the licences of the sources, see NOTICE of ecolyzer-otel."
    return [Table(columns, rows, "All factors used during the period", texts=len(columns), note=note)]


def method(observed: Observations) -> list[Block]:
    """The formulas, and how the source was read."""
    read = (
        "Read from the journal of the meters: exact increments of every counter. An entry belongs to the period "
        "that contains its middle."
        if observed.source.kind == "journal"
        else "Read from Prometheus: differences of the last samples of each step, without extrapolation. Counter "
        "resets and new series are counted from their own samples."
    )
    return [
        Paragraph(texts.RULES),
        *(Formula(text, explanation) for text, explanation in texts.FORMULAS),
        Paragraph(read),
        Paragraph("Worked examples of the formulas, limits of the tables, and tests against simulated "
                  "true values: docs/methodology.md and docs/attribution.md of ecolyzer-otel."),
    ]  # fmt: skip
