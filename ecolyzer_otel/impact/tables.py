"""The packaged factor tables, read once each when first needed, and checked row by row.

The csv module reads them, without any guessing of types: zone ``NA`` is Namibia, not a missing value. Contents,
sources and limits of each table: ``docs/methodology.md`` and ``NOTICE``.
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

from ecolyzer_otel.common.errors import EcolyzerError

__all__ = [
    "MIX_SOURCE",
    "CloudRow",
    "EmbodiedRow",
    "FactorTableError",
    "GridRow",
    "WaterRow",
    "cloud_table",
    "embodied_table",
    "grid_table",
    "parse_cloud",
    "parse_embodied",
    "parse_grid",
    "parse_water",
    "read_rows",
    "water_table",
]

Row = Mapping[str, str]

#: Short name of the source of derived water factors.
MIX_SOURCE: Final = "Macknick 2012 x OWID mix"
#: Short names of sources for metric labels: the first marker that the source's text contains applies.
_SHORT_SOURCES: Final = (
    ("derived: sum_k", MIX_SOURCE),  # before the sources of the mixes, which such rows name as well
    ("Canada Energy Regulator", "CER mix x IPCC"),
    ("Our World in Data", "OWID/Ember"),
    ("EPA eGRID2023", "EPA eGRID"),
    ("China MEE/NBS", "China MEE/NBS"),
    ("ENTSO-E", "ENTSO-E mix"),
    ("Australian National Greenhouse Accounts", "Australia NGA"),
    ("CEA CO2 Baseline", "India CEA"),
    ("Ember", "Ember"),
    ("WRI Guidance", "WRI 2020"),
    ("Li, Yang, Islam & Ren", "Li et al. 2025"),
)


class FactorTableError(EcolyzerError):
    """A packaged table is invalid: the installation is damaged, or the table was edited incorrectly."""


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
    level: str = ""

    @property
    def estimated(self) -> bool:
        """Whether the figure is computed from a generation mix instead of published."""
        return self.basis.startswith("derived")


@dataclass(frozen=True, slots=True)
class WaterRow:
    """Water consumed to generate a zone's electricity (EWIF) in litres per kWh.

    ``derived`` is the figure computed from the generation mix, ``without_hydro`` the same without evaporation from
    reservoirs; both are None where no mix is available.
    """

    zone: str
    litres_per_kwh: float
    derived: float | None
    without_hydro: float | None
    method: str
    year: int
    source: str
    source_detail: str
    mix_year: int | None = None


@dataclass(frozen=True, slots=True)
class CloudRow:
    """A cloud region; region ``*`` is its provider's average. PUE is a ratio, WUE litres per IT kWh."""

    provider: str
    region: str
    zone: str
    pue: float | None
    pue_basis: str
    wue: float | None
    wue_basis: str
    source: str
    em_zone: str = ""


@dataclass(frozen=True, slots=True)
class EmbodiedRow:
    """Embodied emissions of one item in kgCO2e; ``lifetime_years`` is None where its source states none."""

    kind: str
    item: str
    kilograms: float
    lifetime_years: float | None
    boundary: str
    confidence: str
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
def embodied_table() -> Mapping[str, EmbodiedRow]:
    """Embodied emissions by name of the item. Raises FactorTableError."""
    return parse_embodied(read_rows("embodied"))


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
    """Rows of the carbon table by zone. Raises FactorTableError for an invalid row."""
    table: dict[str, GridRow] = {}
    for row in rows:
        zone = _new_zone(row, table)
        source = _text(row, "source", zone)
        note = row.get("note") or ""
        table[zone] = GridRow(
            zone=zone,
            name=_text(row, "name", zone),
            # 2000 g/kWh is more than the dirtiest lignite plant: a larger figure is a wrong unit.
            grams_per_kwh=_number(row, "gco2e_per_kwh", zone, 0.0, 2000.0),
            year=int(_number(row, "year", zone, 1990, 2100)),
            basis=_text(row, "basis", zone),
            source=_short_source(source, zone),
            source_detail=f"{source}; {note}" if note else source,
            level=row.get("level") or "",
        )
    return table


def parse_water(rows: Iterable[Row]) -> dict[str, WaterRow]:
    """Rows of the water table by zone. Raises FactorTableError for an invalid row."""
    table: dict[str, WaterRow] = {}
    for row in rows:
        zone = _new_zone(row, table)
        method = _text(row, "method", zone)
        if method not in ("published", "derived"):
            raise FactorTableError(f"{zone}: method {method!r} is neither published nor derived")
        table[zone] = WaterRow(
            zone=zone,
            # Hydro reservoirs evaporate up to some 30 L/kWh (Brazil by WRI); far more is a wrong unit.
            litres_per_kwh=_number(row, "litres_per_kwh", zone, 0.0, 100.0),
            derived=_optional(row, "litres_per_kwh_derived", zone, 0.0, 100.0),
            without_hydro=_optional(row, "litres_per_kwh_excl_hydro", zone, 0.0, 100.0),
            method=method,
            year=int(_number(row, "year", zone, 1990, 2100)),
            source=_short_source(_text(row, "source", zone), zone),
            source_detail=_text(row, "source", zone),
            mix_year=int(_number(row, "mix_year", zone, 1990, 2100)) if row.get("mix_year") else None,
        )
    return table


def parse_cloud(rows: Iterable[Row]) -> dict[tuple[str, str], CloudRow]:
    """Rows of the cloud table by (provider, region). Raises FactorTableError for an invalid row."""
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
            pue=_optional(row, "pue", where, 1.0, 10.0),
            pue_basis=_basis(row, "pue"),
            wue=_optional(row, "wue_l_per_kwh", where, 0.0, 100.0),
            wue_basis=_basis(row, "wue"),
            source=_text(row, "source", where),
            em_zone=row.get("em_zone") or "",
        )
    return table


def parse_embodied(rows: Iterable[Row]) -> dict[str, EmbodiedRow]:
    """Rows of the table of embodied emissions by item. Raises FactorTableError for an invalid row."""
    table: dict[str, EmbodiedRow] = {}
    for row in rows:
        item = _text(row, "item", "a row")
        if item in table:
            raise FactorTableError(f"{item}: occurs twice")
        table[item] = EmbodiedRow(
            kind=_text(row, "kind", item),
            item=item,
            # The largest servers with eight accelerators have some 10 t.
            kilograms=_number(row, "embodied_kgco2e", item, 0.0, 100_000.0),
            lifetime_years=_optional(row, "lifetime_years", item, 0.1, 50.0),
            boundary=_text(row, "boundary", item),
            confidence=_text(row, "confidence", item),
            source=_text(row, "source", item),
        )
    return table


def _basis(row: Row, quantity: str) -> str:
    """The basis of a PUE or WUE, with its year where available: ``region_disclosed 2024``."""
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


def _optional(row: Row, column: str, where: str, low: float, high: float) -> float | None:
    return _number(row, column, where, low, high) if row.get(column) else None


def _short_source(source: str, where: str) -> str:
    for marker, short in _SHORT_SOURCES:
        if marker in source:
            return short
    raise FactorTableError(f"{where}: no short name for the source {source!r}; add one to _SHORT_SOURCES")
