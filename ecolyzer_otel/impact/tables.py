"""The packaged factor tables, read once each when first needed, and checked row by row.

The csv module reads them and nothing cleverer: zone ``NA`` is Namibia, not a missing value. What each table holds,
where it comes from and how far to trust it: ``docs/methodology.md`` and ``NOTICE``.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from ecolyzer_otel.errors import EcolyzerError

__all__ = [
    "CloudRow",
    "FactorTableError",
    "GridRow",
    "WaterRow",
    "cloud_table",
    "grid_table",
    "parse_cloud",
    "parse_grid",
    "parse_water",
    "read_rows",
    "water_table",
]

Row = Mapping[str, str]

#: A source's text to a name short enough for a metric label; the first that occurs in the text counts.
_SHORT_SOURCES: Final = (
    ("Our World in Data", "OWID/Ember"),
    ("EPA eGRID2023", "EPA eGRID"),
    ("China MEE/NBS", "China MEE/NBS"),
    ("Canada Energy Regulator", "CER mix x IPCC"),
    ("ENTSO-E", "ENTSO-E mix"),
    ("Australian National Greenhouse Accounts", "Australia NGA"),
    ("CEA CO2 Baseline", "India CEA"),
    ("Ember", "Ember"),
    ("derived: sum_k", "Macknick 2012 x OWID mix"),
    ("WRI Guidance", "WRI 2020"),
    ("Li, Yang, Islam & Ren", "Li et al. 2025"),
)


class FactorTableError(EcolyzerError):
    """A packaged table cannot be what it should be: the installation is damaged or the table was edited badly."""


@dataclass(frozen=True, slots=True)
class GridRow:
    """Carbon intensity of a zone's electricity in gCO2e per kWh."""

    zone: str
    name: str
    grams_per_kwh: float
    year: int
    basis: str
    source: str
    source_detail: str

    @property
    def estimated(self) -> bool:
        """Whether the figure was computed from a generation mix rather than published."""
        return self.basis.startswith("derived")


@dataclass(frozen=True, slots=True)
class WaterRow:
    """Water consumed to generate a zone's electricity (EWIF) in litres per kWh."""

    zone: str
    litres_per_kwh: float
    method: str
    year: int
    source: str
    source_detail: str


@dataclass(frozen=True, slots=True)
class CloudRow:
    """A cloud region; region ``*`` holds its provider's average. PUE is a ratio, WUE litres per IT kWh."""

    provider: str
    region: str
    zone: str
    pue: float | None
    pue_basis: str
    wue: float | None
    wue_basis: str
    source: str


@cache
def grid_table() -> Mapping[str, GridRow]:
    """Carbon intensities by zone. Raises FactorTableError."""
    return parse_grid(read_rows("grid_carbon_intensity"))


@cache
def water_table() -> Mapping[str, WaterRow]:
    """Water intensities by zone. Raises FactorTableError."""
    return parse_water(read_rows("grid_water_intensity"))


@cache
def cloud_table() -> Mapping[tuple[str, str], CloudRow]:
    """Cloud regions by (provider, region). Raises FactorTableError."""
    return parse_cloud(read_rows("cloud_regions"))


def read_rows(table: str) -> list[dict[str, str]]:
    """The rows of a packaged table as texts by column name.

    Raises:
        FactorTableError: the table is missing or cannot be read.
    """
    file = resources.files("ecolyzer_otel.impact") / "data" / f"{table}.csv"
    try:
        return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, csv.Error) as error:
        raise FactorTableError(f"{table}.csv cannot be read ({error}); reinstall ecolyzer-otel") from error


def parse_grid(rows: Iterable[Row]) -> dict[str, GridRow]:
    """Rows of the carbon table by zone. Raises FactorTableError for a row that cannot be true."""
    table: dict[str, GridRow] = {}
    for row in rows:
        zone = _new_zone(row, table)
        source = _text(row, "source", zone)
        note = row.get("note") or ""
        table[zone] = GridRow(
            zone=zone,
            name=_text(row, "name", zone),
            # 2000 g/kWh is above the dirtiest lignite plant: a unit mistake, not a grid.
            grams_per_kwh=_number(row, "gco2e_per_kwh", zone, 0.0, 2000.0),
            year=int(_number(row, "year", zone, 1990, 2100)),
            basis=_text(row, "basis", zone),
            source=_short_source(source, zone),
            source_detail=f"{source}; {note}" if note else source,
        )
    return table


def parse_water(rows: Iterable[Row]) -> dict[str, WaterRow]:
    """Rows of the water table by zone. Raises FactorTableError for a row that cannot be true."""
    table: dict[str, WaterRow] = {}
    for row in rows:
        zone = _new_zone(row, table)
        method = _text(row, "method", zone)
        if method not in ("published", "derived"):
            raise FactorTableError(f"{zone}: method {method!r} is neither published nor derived")
        table[zone] = WaterRow(
            zone=zone,
            # Hydro reservoirs evaporate up to some 30 L/kWh (Brazil by WRI); far above is a unit mistake.
            litres_per_kwh=_number(row, "litres_per_kwh", zone, 0.0, 100.0),
            method=method,
            year=int(_number(row, "year", zone, 1990, 2100)),
            source=_short_source(_text(row, "source", zone), zone),
            source_detail=_text(row, "source", zone),
        )
    return table


def parse_cloud(rows: Iterable[Row]) -> dict[tuple[str, str], CloudRow]:
    """Rows of the cloud table by (provider, region). Raises FactorTableError for a row that cannot be true."""
    table: dict[tuple[str, str], CloudRow] = {}
    for row in rows:
        provider, region = _text(row, "provider", "a row"), _text(row, "region", "a row")
        where = f"{provider}:{region}"
        if (provider, region) in table:
            raise FactorTableError(f"{where}: occurs twice")
        table[provider, region] = CloudRow(
            provider=provider,
            region=region,
            zone=_text(row, "zone", where),
            pue=_number(row, "pue", where, 1.0, 10.0) if row.get("pue") else None,
            pue_basis=_basis(row, "pue"),
            wue=_number(row, "wue_l_per_kwh", where, 0.0, 100.0) if row.get("wue_l_per_kwh") else None,
            wue_basis=_basis(row, "wue"),
            source=_text(row, "source", where),
        )
    return table


def _basis(row: Row, quantity: str) -> str:
    """What a PUE or WUE stands for, with its year where known: ``region_disclosed 2024``."""
    return f"{row.get(f'{quantity}_basis') or ''} {row.get(f'{quantity}_year') or ''}".strip()


def _new_zone(row: Row, table: Mapping[str, object]) -> str:
    zone = _text(row, "zone", "a row")
    if zone in table:
        raise FactorTableError(f"{zone}: occurs twice")
    return zone


def _text(row: Row, column: str, where: str) -> str:
    text = row.get(column)
    if not text:
        raise FactorTableError(f"{where}: {column} is missing")
    return text


def _number(row: Row, column: str, where: str, low: float, high: float) -> float:
    text = _text(row, column, where)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:  # also refuses NaN
        raise FactorTableError(f"{where}: {column} {text!r} is not a number from {low:g} to {high:g}")
    return value


def _short_source(source: str, where: str) -> str:
    for marker, short in _SHORT_SOURCES:
        if marker in source:
            return short
    raise FactorTableError(f"{where}: no short name for the source {source!r}; add one to _SHORT_SOURCES")
