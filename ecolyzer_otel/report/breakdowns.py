"""Sections that divide the totals: by device, service, model, route; and water."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from ecolyzer_otel.export.store import OTHER
from ecolyzer_otel.report.blocks import Block, Cell, Figure, Paragraph, Table, cell, label
from ecolyzer_otel.report.devices import SHARES
from ecolyzer_otel.report.figures import Row, Tables
from ecolyzer_otel.report.provenance import Factor
from ecolyzer_otel.report.units import amount, clean, count, percent

__all__ = ["balance", "models", "routes", "services", "water"]

#: Longer tables go on in figures.csv.
_MOST_ROWS: Final = 25
_EMPTY: Final = {"model": "(unnamed)", "route": "(no route)", "service": "(unnamed)"}

_Column = tuple[str, Callable[[Row], Cell]]


def _total(quantity: str) -> Callable[[Row], Cell]:
    return lambda row: cell(row.amounts[quantity])


def _each(quantity: str) -> Callable[[Row], Cell]:
    return lambda row: cell(row.amounts[quantity], total=False)


def _name(key: str) -> Callable[[Row], Cell]:
    def shown(row: Row) -> Cell:
        text = row.labels[key]
        return Cell("(others, over the limit)") if text == OTHER else Cell(label(text, _EMPTY.get(key, "-")))

    return shown


def _table(rows: Sequence[Row], texts: int, columns: Sequence[_Column], caption: str, note: str = "") -> Table:
    shown = list(rows[:_MOST_ROWS])
    cells = [[make(row) for _, make in columns] for row in shown]
    if len(rows) > len(shown):
        share = math.fsum(row.value("energy_share") or 0.0 for row in rows[len(shown) :])
        note += f" {count(len(rows) - len(shown))} more rows, {percent(share)} of the energy, are in figures.csv."
    return Table([title for title, _ in columns], cells, caption, texts=texts, note=note.strip())


def balance(tables: Tables, plots: frozenset[str]) -> list[Block]:
    """The ledger: where the joules of each device went, and that they add up."""
    if not tables.devices:
        return [Paragraph("The source tells nothing of devices.")]
    rows = [
        [
            Cell(clean(one.host)),
            Cell(clean(one.device)),
            Cell(clean(", ".join(sorted(one.methods)))),
            *(Cell(amount(one.shares.get(share, 0.0), "Wh")) for share in SHARES),
            Cell(amount(one.joules, "Wh"), "" if one.uncertainty is None else f"± {percent(2 * one.uncertainty)}"),
        ]
        for one in tables.devices[:_MOST_ROWS]
    ]
    sums = {share: math.fsum(one.shares.get(share, 0.0) for one in tables.devices) for share in SHARES}
    whole = math.fsum(one.joules for one in tables.devices)
    rows.append(
        [
            Cell("All"),
            Cell(""),
            Cell(""),
            *(Cell(amount(sums[share], "Wh")) for share in SHARES),
            Cell(amount(whole, "Wh")),
        ]
    )
    parts = [Cell(percent(sums[share] / whole) if whole > 0.0 else "-") for share in SHARES]
    rows.append([Cell("Part"), Cell(""), Cell(""), *parts, Cell(percent(1.0) if whole > 0.0 else "-")])
    columns = (
        "Machine",
        "Device",
        "Method",
        "Requests (active)",
        "Process",
        "Host",
        "Idle",
        "Measured or modelled",
    )
    note = f"± is two standard uncertainties of the sensor. {_idle(tables)}"
    strong = frozenset({len(rows) - 2, len(rows) - 1})
    blocks: list[Block] = [
        Paragraph(
            "Every joule that a sensor shows is charged once: to the requests that caused it, to the rest of their "
            "processes, to the rest of the host, or to idling. The four add up to what was measured."
        ),
        Table(columns, rows, "Balance of each device", texts=3, note=note, strong=strong),
    ]
    if "devices" in plots:
        alt = "Horizontal bars, one for each device, divided into requests, process, host and idle, in percent."
        blocks.append(Figure("devices", "Where the joules of each device went", alt))
    return blocks


def _idle(tables: Tables) -> str:
    """How much of the idle energy was in the time of requests."""
    idle, active = tables.total.value("idle_energy"), tables.total.value("active_energy")
    if idle is None or active is None:
        return ""
    return (
        f"Requests are charged {amount(active, 'Wh')} of active energy and {amount(idle, 'Wh')} of the idle "
        "column, for the time that they were in flight."
    )


def services(tables: Tables) -> list[Block]:
    """One row per service."""
    columns: list[_Column] = [
        ("Service", _name("service")),
        ("Requests", _total("requests")),
        ("Energy", _total("energy")),
        ("Part", _total("energy_share")),
        ("CO₂e location", _total("co2e_operational")),
        *([("CO₂e market", _total("co2e_market"))] if tables.market_configured else []),
        *([("CO₂e embodied", _total("co2e_embodied"))] if tables.embodied_configured else []),
        ("Water", _total("water")),
    ]
    rows = tables.rows["service"]
    return [_table(rows, 1, columns, "What each service was charged")] if rows else []


def models(tables: Tables, plots: frozenset[str]) -> list[Block]:
    """One row per model: totals, then what a request costs."""
    rows = tables.rows["model"]
    if not rows:
        return []
    many = len({row.labels["service"] for row in rows}) > 1
    names: list[_Column] = [("Model", _name("model")), *([("Service", _name("service"))] if many else [])]
    totals: list[_Column] = [
        *names,
        ("Framework", _name("framework")),
        ("Requests", _total("requests")),
        ("Energy", _total("energy")),
        ("Part", _total("energy_share")),
        ("CO₂e location", _total("co2e_operational")),
        ("Water", _total("water")),
    ]
    unique = len({row.labels["model"] for row in rows}) == len(rows)
    short = names[:1] if unique else names
    each: list[_Column] = [
        *short,
        ("Energy / request", _each("energy_per_request")),
        ("CO₂e / request", _each("co2e_per_request")),
        ("Water / request", _each("water_per_request")),
    ]
    if tables.embodied_configured:
        each.append(("SCI / request", _each("sci_per_request")))
    if any(row.value("energy_per_million_tokens") is not None for row in rows):
        each.append(("Energy / 10⁶ tokens", _each("energy_per_million_tokens")))
        if tables.embodied_configured:
            each.append(("SCI / 10⁶ tokens", _each("sci_per_million_tokens")))
    if any(row.value("ess") is not None for row in rows):
        each.append(("ESS", _each("ess")))
    note = (
        ""
        if tables.embodied_configured
        else "SCI: not configured (it needs embodied emissions, ECOLYZER_EMBODIED)."
    )
    return [
        _table(rows, len(names) + 1, totals, "What each model was charged"),
        _table(rows, len(short), each, "What a request of each model costs", note),
        *([_plot()] if "models" in plots else []),
    ]


def _plot() -> Figure:
    return Figure(
        "models",
        "Energy of the ten largest models, and operational emissions of one request, with 95 % ranges",
        "Two horizontal bar charts by model: energy in total, and grams of CO₂e per request on a logarithmic axis; "
        "the numbers are in the tables above.",
    )


def routes(tables: Tables) -> list[Block]:
    """One row per route, where any is known."""
    rows = tables.rows["route"]
    if not any(row.labels["route"] for row in rows):
        return []
    many = len({row.labels["service"] for row in rows}) > 1
    columns: list[_Column] = [
        ("Route", _name("route")),
        *([("Service", _name("service"))] if many else []),
        ("Requests", _total("requests")),
        ("Energy", _total("energy")),
        ("Part", _total("energy_share")),
        ("Energy / request", _each("energy_per_request")),
        ("CO₂e / request", _each("co2e_per_request")),
    ]
    return [_table(rows, 1 + many, columns, "What each route was charged")]


def water(tables: Tables, factors: Sequence[Factor]) -> list[Block]:
    """On and off site, with method and range."""
    total, site = tables.total.amounts, tables.site
    rows = [
        [Cell("On site (cooling)"), cell(total["water_onsite"]), cell(site["water_onsite"])],
        [Cell("Off site (electricity)"), cell(total["water_offsite"]), cell(site["water_offsite"])],
        [Cell("Together"), cell(total["water"]), cell(site["water"])],
    ]
    said = [
        f"{clean(one.zone)}: {clean(one.value)} {clean(one.unit)}" + (f", {clean(one.basis)}" if one.basis else "")
        for one in factors
        if one.kind == "water"
    ]
    none = " Water on site is not in the sum: no WUE was configured, and the provider publishes none."
    text = (
        "Consumption, not withdrawal. Water of electricity generation is a factor-of-two figure: published factors "
        "and those derived from the generation mix differ by a median of 43 %, and evaporation from hydro "
        "reservoirs dominates where there is any. The range holds this."
        + (none if total["water_onsite"].value is None else "")
    )
    note = f"Water intensity of electricity: {'; '.join(said)}." if said else ""
    columns = ("", "Charged to requests", "Whole devices")
    caption = "Water consumed"
    return [Paragraph(text), Table(columns, rows, caption, note=note, strong=frozenset({2}))]
