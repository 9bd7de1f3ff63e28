"""Sections that divide the totals by device, service, model and route; and water."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from ecolyzer_otel.export.store import OTHER
from ecolyzer_otel.report.blocks import Block, Cell, Figure, Paragraph, Table, cell, display_name
from ecolyzer_otel.report.devices import SHARES
from ecolyzer_otel.report.figures import Row, Tables
from ecolyzer_otel.report.provenance import Factor
from ecolyzer_otel.report.units import amount, clean, count, percent

__all__ = ["balance", "models", "routes", "services", "water"]

#: Further rows are in figures.csv only.
_MAX_ROWS: Final = 25
_EMPTY: Final = {"model": "(unnamed)", "route": "(no route)", "service": "(unnamed)"}

_Column = tuple[str, Callable[[Row], Cell]]


def _total_column(quantity: str) -> Callable[[Row], Cell]:
    return lambda row: cell(row.amounts[quantity])


def _per_unit_column(quantity: str) -> Callable[[Row], Cell]:
    return lambda row: cell(row.amounts[quantity], total=False)


def _name_column(key: str) -> Callable[[Row], Cell]:
    def shown(row: Row) -> Cell:
        text = row.labels[key]
        return Cell("(others, over the limit)") if text == OTHER else Cell(display_name(text, _EMPTY.get(key, "-")))

    return shown


def _table(rows: Sequence[Row], texts: int, columns: Sequence[_Column], caption: str, note: str = "") -> Table:
    shown = list(rows[:_MAX_ROWS])
    cells = [[make(row) for _, make in columns] for row in shown]
    if len(rows) > len(shown):
        share = math.fsum(row.value("energy_share") or 0.0 for row in rows[len(shown) :])
        note += (
            f" {count(len(rows) - len(shown))} further rows with {percent(share)} of the energy are in figures.csv."
        )
    return Table([title for title, _ in columns], cells, caption, texts=texts, note=note.strip())


def balance(tables: Tables, plots: frozenset[str]) -> list[Block]:
    """The balance of the ledger: the joules of each device by share, and their sum."""
    if not tables.devices:
        return [Paragraph("The source holds no energy of devices.")]
    rows = [
        [
            Cell(clean(one.host)),
            Cell(clean(one.device)),
            Cell(clean(", ".join(sorted(one.methods)))),
            *(Cell(amount(one.shares.get(share, 0.0), "Wh")) for share in SHARES),
            Cell(amount(one.joules, "Wh"), "" if one.uncertainty is None else f"± {percent(2 * one.uncertainty)}"),
        ]
        for one in tables.devices[:_MAX_ROWS]
    ]
    sums = {share: math.fsum(one.shares.get(share, 0.0) for one in tables.devices) for share in SHARES}
    total = math.fsum(one.joules for one in tables.devices)
    rows.append(
        [
            Cell("All"),
            Cell(""),
            Cell(""),
            *(Cell(amount(sums[share], "Wh")) for share in SHARES),
            Cell(amount(total, "Wh")),
        ]
    )
    parts = [Cell(percent(sums[share] / total) if total > 0.0 else "-") for share in SHARES]
    rows.append([Cell("Part"), Cell(""), Cell(""), *parts, Cell(percent(1.0) if total > 0.0 else "-")])
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
            "Every joule of a sensor is charged once: to the requests that caused it, to the rest of their "
            "processes, to the rest of the host, or to idle. The four shares add up to the measured total."
        ),
        Table(columns, rows, "Balance of each device", texts=3, note=note, strong=strong),
    ]
    if "devices" in plots:
        alt = "Horizontal bars, one per device, divided into requests, process, host and idle, in percent."
        blocks.append(Figure("devices", "The energy of each device by share", alt))
    return blocks


def _idle(tables: Tables) -> str:
    """A sentence on the part of the idle energy that is charged to requests."""
    idle, active = tables.total.value("idle_energy"), tables.total.value("active_energy")
    if idle is None or active is None:
        return ""
    return (
        f"Requests are charged {amount(active, 'Wh')} of active energy, and {amount(idle, 'Wh')} of the idle "
        "column for the time they were in flight."
    )


def services(tables: Tables) -> list[Block]:
    """One row per service."""
    columns: list[_Column] = [
        ("Service", _name_column("service")),
        ("Requests", _total_column("requests")),
        ("Energy", _total_column("energy")),
        ("Part", _total_column("energy_share")),
        ("CO₂e location", _total_column("co2e_operational")),
        *([("CO₂e market", _total_column("co2e_market"))] if tables.configured.market else []),
        *([("CO₂e embodied", _total_column("co2e_embodied"))] if tables.configured.embodied else []),
        ("Water", _total_column("water")),
    ]
    rows = tables.rows["service"]
    return [_table(rows, 1, columns, "Amounts charged to each service")] if rows else []


def models(tables: Tables, plots: frozenset[str]) -> list[Block]:
    """One row per model: totals, then figures per request."""
    rows = tables.rows["model"]
    if not rows:
        return []
    many = len({row.labels["service"] for row in rows}) > 1
    names: list[_Column] = [
        ("Model", _name_column("model")),
        *([("Service", _name_column("service"))] if many else []),
    ]
    totals: list[_Column] = [
        *names,
        ("Framework", _name_column("framework")),
        ("Requests", _total_column("requests")),
        ("Energy", _total_column("energy")),
        ("Part", _total_column("energy_share")),
        ("CO₂e location", _total_column("co2e_operational")),
        ("Water", _total_column("water")),
    ]
    unique = len({row.labels["model"] for row in rows}) == len(rows)
    short = names[:1] if unique else names
    each: list[_Column] = [
        *short,
        ("Energy / request", _per_unit_column("energy_per_request")),
        ("CO₂e / request", _per_unit_column("co2e_per_request")),
        ("Water / request", _per_unit_column("water_per_request")),
    ]
    if tables.configured.embodied:
        each.append(("SCI / request", _per_unit_column("sci_per_request")))
    if any(row.value("energy_per_million_tokens") is not None for row in rows):
        each.append(("Energy / 10⁶ tokens", _per_unit_column("energy_per_million_tokens")))
        if tables.configured.embodied:
            each.append(("SCI / 10⁶ tokens", _per_unit_column("sci_per_million_tokens")))
    if any(row.value("ess") is not None for row in rows):
        each.append(("ESS", _per_unit_column("ess")))
    note = (
        ""
        if tables.configured.embodied
        else "SCI: not configured; it requires embodied emissions (ECOLYZER_EMBODIED)."
    )
    return [
        _table(rows, len(names) + 1, totals, "Amounts charged to each model"),
        _table(rows, len(short), each, "Figures per request of each model", note),
        *([_models_plot()] if "models" in plots else []),
    ]


def _models_plot() -> Figure:
    return Figure(
        "models",
        "Energy of the ten models that used most, and operational emissions per request, with 95 % ranges",
        "Two horizontal bar charts by model: total energy, and grams of CO₂e per request on a logarithmic axis. "
        "The numbers are in the tables above.",
    )


def routes(tables: Tables) -> list[Block]:
    """One row per route, if a route is recorded."""
    rows = tables.rows["route"]
    if not any(row.labels["route"] for row in rows):
        return []
    many = len({row.labels["service"] for row in rows}) > 1
    columns: list[_Column] = [
        ("Route", _name_column("route")),
        *([("Service", _name_column("service"))] if many else []),
        ("Requests", _total_column("requests")),
        ("Energy", _total_column("energy")),
        ("Part", _total_column("energy_share")),
        ("Energy / request", _per_unit_column("energy_per_request")),
        ("CO₂e / request", _per_unit_column("co2e_per_request")),
    ]
    return [_table(rows, 1 + many, columns, "Amounts charged to each route")]


def water(tables: Tables, factors: Sequence[Factor]) -> list[Block]:
    """Water on site and off site, with method and range."""
    total, site = tables.total.amounts, tables.site
    rows = [
        [Cell("On site (cooling)"), cell(total["water_onsite"]), cell(site["water_onsite"])],
        [Cell("Off site (electricity)"), cell(total["water_offsite"]), cell(site["water_offsite"])],
        [Cell("Total"), cell(total["water"]), cell(site["water"])],
    ]
    intensities = [
        f"{clean(one.zone)}: {clean(one.value)} {clean(one.unit)}" + (f", {clean(one.basis)}" if one.basis else "")
        for one in factors
        if one.kind == "water"
    ]
    no_wue = " Water on site is not in the total: no WUE is configured, and the provider publishes none."
    text = (
        "Consumption, not withdrawal. The water of electricity generation is certain to a factor of two only: "
        "published factors and factors derived from the generation mix differ by a median of 43 %, and evaporation "
        "from hydro reservoirs dominates where there are any. The range includes this."
        + (no_wue if total["water_onsite"].value is None else "")
    )
    note = f"Water intensity of electricity: {'; '.join(intensities)}." if intensities else ""
    columns = ("", "Charged to requests", "Whole devices")
    caption = "Water consumed"
    return [Paragraph(text), Table(columns, rows, caption, note=note, strong=frozenset({2}))]
