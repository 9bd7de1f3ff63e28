"""The sections of a report, in order: summary and disclosure, breakdowns, then the basis of the figures."""

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
    display_name,
    inline,
)
from ecolyzer_otel.report.figures import Tables
from ecolyzer_otel.report.observations import Observations
from ecolyzer_otel.report.projection import Projection
from ecolyzer_otel.report.provenance import Factor
from ecolyzer_otel.report.quality import Quality
from ecolyzer_otel.report.ranges import Amount
from ecolyzer_otel.report.units import count, moment

__all__ = ["Findings", "Front", "sections"]

_NO_CONTRACT: Final = "no market-based factor configured"


@dataclass(frozen=True, slots=True)
class Findings:
    """The observations of a period, and all that is computed from them."""

    observed: Observations
    tables: Tables
    factors: list[Factor]
    quality: Quality
    projection: Projection


@dataclass(frozen=True, slots=True)
class Front:
    """The front matter of a report, as the user gives it, and the time of generation."""

    title: str
    organisation: str
    generated_s: float


def sections(found: Findings, organisation: str, plots: frozenset[str]) -> list[Section]:
    """The sections of the report that are not empty. ``plots``: the names of the plots that exist."""
    all_sections = [
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
        Section("method", "Method", evidence.method(found.observed)),
        Section("glossary", "Glossary", [Bullets(texts.GLOSSARY)]),
    ]
    return [section for section in all_sections if section.blocks]


def _market_cell(amount: Amount) -> Cell:
    shown = cell(amount)
    return Cell(_NO_CONTRACT, absent=True) if amount.why == "not configured" else shown


def _tokens(tables: Tables) -> float | None:
    parts = [tables.total.value(name) for name in ("input_tokens", "output_tokens")]
    counted = [part for part in parts if part is not None]
    return sum(counted) if counted else None


def _or_unknown(amount: Amount) -> str:
    return "an unknown amount" if amount.value is None else inline(amount)


def _summary(found: Findings, organisation: str) -> list[Block]:
    total, tokens = found.tables.total.amounts, _tokens(found.tables)
    severe: list[Block] = [
        Callout(note.severity, note.text) for note in found.quality.notes if note.severity == "severe"
    ]
    owner = f"the inference services of {organisation}" if organisation else "the inference services"
    if found.observed.service is not None:
        owner = f"the service {display_name(found.observed.service, '(unnamed)')}" + (
            f" of {organisation}" if organisation else ""
        )
    requests = cell(total["requests"])
    requests_text = "no request" if requests.absent else f"{requests.text} requests"
    with_tokens = "" if not tokens else f" with {count(tokens)} tokens"
    market = total["co2e_market"]
    contract = inline(market) if market.value is not None else _market_cell(market).text
    embodied = total["co2e_embodied"]
    hardware = f"{inline(embodied)}, amortised by time in flight" if embodied.value is not None else embodied.why
    sentence = (
        f"From {moment(found.observed.since)} to {moment(found.observed.until)}, {owner} answered {requests_text}"
        f"{with_tokens}. Inference used {_or_unknown(total['energy'])} of IT energy, caused "
        f"{_or_unknown(total['co2e_operational'])} of location-based CO₂e (average of the grid) and consumed "
        f"{_or_unknown(total['water'])} of water. Market-based CO₂e (by contract): {contract}. Embodied CO₂e of "
        f"the hardware: {hardware}."
    )
    cards = [
        Card("Energy of requests", cell(total["energy"])),
        Card("CO₂e, location-based", cell(total["co2e_operational"])),
        Card("CO₂e, market-based", _market_cell(market)),
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
        (
            "E1-5", "Energy consumption with the overhead of the site",
            cell(charged), cell(site["facility_energy"]), "× PUE",
        ),
        (
            "E1-6", "Scope 2, location-based",
            cell(total["co2e_operational"]), cell(site["co2e_operational"]), "grid average",
        ),
        (
            "E1-6", "Scope 2, market-based",
            _market_cell(total["co2e_market"]), _market_cell(site["co2e_market"]), "contract",
        ),
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
        "ESRS numbers as in Delegated Regulation (EU) 2023/2772. “Charged to requests” is the consumption caused "
        "by inference, with its part of idle power. “Whole devices” is the total consumption of the metered CPUs, "
        "memory and GPUs, for all purposes: the consumption of the operator, of which the first is a part."
    )
    return [Table(columns, rows, caption, texts=2, note=note), Bullets(texts.OWNERSHIP)]


def _boundary() -> list[Block]:
    return [
        Paragraph("Included in the figures:"),
        Bullets(texts.INCLUDED),
        Paragraph("Not included in the figures:"),
        Bullets(texts.EXCLUDED),
    ]


def _time(plots: frozenset[str]) -> list[Block]:
    if "timeline" not in plots:
        return []
    return [
        Figure(
            "timeline",
            "Energy of the devices by share, and operational emissions (location-based). Times are UTC.",
            "Stacked bars of energy over time by share (requests, process, host, idle), and bars of grams of CO₂e "
            "below; the numbers are in figures.json under timeline.",
        )
    ]
