"""The sections of a report, in order: first what an officer needs, then the breakdowns, then what they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.report import breakdowns, evidence, texts
from ecolyzer_otel.report.blocks import (
    Block,
    Bullets,
    Callout,
    Card,
    Cards,
    Cell,
    Figure,
    Paragraph,
    Section,
    Table,
    cell,
    label,
    words,
)
from ecolyzer_otel.report.figures import Tables
from ecolyzer_otel.report.observations import Observations
from ecolyzer_otel.report.projection import Projection
from ecolyzer_otel.report.provenance import Factor
from ecolyzer_otel.report.quality import Quality
from ecolyzer_otel.report.ranges import Amount
from ecolyzer_otel.report.units import count, moment

__all__ = ["Findings", "sections"]

_NO_CONTRACT: Final = "no contractual factor configured"


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a report is made of."""

    seen: Observations
    tables: Tables
    factors: list[Factor]
    quality: Quality
    projection: Projection


def sections(found: Findings, organisation: str, plots: frozenset[str]) -> list[Section]:
    """The report's sections; only the plots named are referred to."""
    made = [
        Section("summary", "Summary", _summary(found, organisation)),
        Section("disclosure", "Figures for disclosure", _disclosure(found)),
        Section("boundary", "What is counted", _boundary()),
        Section("time", "Over time", _time(plots)),
        Section("balance", "Where the joules went", breakdowns.balance(found.tables, plots)),
        Section("services", "By service", breakdowns.services(found.tables)),
        Section("models", "By model", breakdowns.models(found.tables, plots)),
        Section("routes", "By route", breakdowns.routes(found.tables)),
        Section("water", "Water", breakdowns.water(found.tables, found.factors)),
        Section("projection", "Projection to a year", evidence.projected(found.projection)),
        Section("quality", "Data quality", evidence.quality(found.quality, found.tables)),
        Section("factors", "Factors and their sources", evidence.factors(found.factors)),
        Section("method", "Method", evidence.method(found.seen)),
        Section("glossary", "Glossary", [Bullets(texts.GLOSSARY)]),
    ]
    return [section for section in made if section.blocks]


def _market(amount: Amount) -> Cell:
    shown = cell(amount)
    return Cell(_NO_CONTRACT, absent=True) if amount.why == "not configured" else shown


def _tokens(tables: Tables) -> float | None:
    parts = [tables.total.value(name) for name in ("input_tokens", "output_tokens")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _much(amount: Amount) -> str:
    return "an unknown amount" if amount.value is None else words(amount)


def _summary(found: Findings, organisation: str) -> list[Block]:
    total, tokens = found.tables.total.amounts, _tokens(found.tables)
    severe: list[Block] = [
        Callout(note.severity, note.text) for note in found.quality.notes if note.severity == "severe"
    ]
    whose = f"the inference services of {organisation}" if organisation else "the inference services"
    if found.seen.service is not None:
        whose = f"the service {label(found.seen.service, '(unnamed)')}" + (
            f" of {organisation}" if organisation else ""
        )
    requests = cell(total["requests"])
    answered = "no request" if requests.absent else f"{requests.text} requests"
    with_tokens = "" if not tokens else f" with {count(tokens)} tokens"
    market = total["co2e_market"]
    contract = words(market) if market.value is not None else _market(market).text
    embodied = total["co2e_embodied"]
    hardware = f"{words(embodied)}, by time in flight" if embodied.value is not None else embodied.why
    sentence = (
        f"From {moment(found.seen.since)} to {moment(found.seen.until)}, {whose} answered {answered}{with_tokens}; "
        f"this took {_much(total['energy'])} of IT energy, caused {_much(total['co2e_operational'])} of CO₂e by "
        f"the average of the grid (location-based), and consumed {_much(total['water'])} of water; CO₂e by "
        f"contract (market-based): {contract}; CO₂e of making the hardware: {hardware}."
    )
    cards = [
        Card("Energy of requests", cell(total["energy"])),
        Card("CO₂e, location-based", cell(total["co2e_operational"])),
        Card("CO₂e, market-based", _market(market)),
        Card("CO₂e, embodied", cell(embodied)),
        Card("Water", cell(total["water"])),
        Card("Requests", requests),
        Card("Tokens", Cell(count(tokens)) if tokens else Cell("none counted", absent=True)),
        Card("Energy of whole devices", cell(found.tables.site["energy"])),
    ]
    return [*severe, Paragraph(sentence, lead=True), Cards(cards)]


def _disclosure(found: Findings) -> list[Block]:
    total, site = found.tables.total.amounts, found.tables.site
    energy, facility = site["energy"].value, site["facility_energy"].value
    overhead = facility / energy if energy and facility else None
    charged = total["energy"].per(1.0 / overhead, "J") if overhead else Amount(None, "J", why="unknown")
    lines: list[tuple[str, str, Cell, Cell, str]] = [
        ("E1-5", "Energy consumption of IT", cell(total["energy"]), cell(site["energy"]), "sensors, ledger"),
        ("E1-5", "The same with the site's overhead", cell(charged), cell(site["facility_energy"]), "× PUE"),
        (
            "E1-6", "Scope 2, location-based",
            cell(total["co2e_operational"]), cell(site["co2e_operational"]), "grid average",
        ),
        ("E1-6", "Scope 2, market-based", _market(total["co2e_market"]), _market(site["co2e_market"]), "contract"),
        (
            "E1-6", "Scope 3, hardware (amortised)",
            cell(total["co2e_embodied"]), cell(site["co2e_embodied"]), "time in flight; all time",
        ),
        ("E3-4", "Water consumption, on site", cell(total["water_onsite"]), cell(site["water_onsite"]), "WUE"),
        (
            "E3-4", "Water consumption, off site (value chain)",
            cell(total["water_offsite"]), cell(site["water_offsite"]), "PUE × EWIF",
        ),
    ]  # fmt: skip
    rows = [[Cell(ref), Cell(what, basis), requests, devices] for ref, what, requests, devices, basis in lines]
    columns = ("ESRS", "Quantity", "Charged to requests", "Whole devices")
    caption = "Energy, greenhouse gases and water of the period, with 95 % ranges"
    note = (
        "ESRS numbers as in Delegated Regulation (EU) 2023/2772. “Charged to requests” is what inference caused, "
        "with its part of idle power; “whole devices” is all that the metered CPUs, memory and GPUs drew, for "
        "whatever purpose. The second is the operator's consumption, the first its part for inference."
    )
    return [Table(columns, rows, caption, texts=2, note=note), Bullets(texts.OWNERSHIP)]


def _boundary() -> list[Block]:
    return [
        Paragraph("In the figures:"),
        Bullets(texts.CONTAINS),
        Paragraph("Not in the figures:"),
        Bullets(texts.LACKS),
    ]


def _time(plots: frozenset[str]) -> list[Block]:
    if "timeline" not in plots:
        return []
    return [
        Figure(
            "timeline",
            "Energy of the devices by who it was for, and operational emissions (location-based). Times are UTC.",
            "Stacked bars of energy over time by share (requests, process, host, idle), and bars of grams of CO₂e "
            "below; the numbers are in figures.json under timeline.",
        )
    ]
