"""Where the machine stands, and every factor that follows from it, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from ecolyzer_otel.errors import ConfigError
from ecolyzer_otel.impact.lookup import find_cloud, find_zone, unknown_place
from ecolyzer_otel.impact.tables import CloudRow, WaterRow, cloud_table, grid_table, water_table

__all__ = ["Place", "resolve_place"]

_WORLD: Final = "WORLD"
_CONFIGURED: Final = "configured"
_MACHINE_ONLY: Final = "default: machine only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The factors of one place.

    Carbon: ``grams_per_kwh`` (gCO2e per kWh of electricity) is the figure of ``zone`` (``FR``, ``US-CA``) for
    ``year``; ``basis`` says what it counts (``lifecycle_production``, ``direct_generation`` ...): figures of
    different bases do not compare. ``source`` is short enough for a label, ``source_detail`` the full text,
    ``estimated`` True where the figure was computed from a generation mix instead of published.

    Site: ``pue`` (a ratio) and ``wue`` (litres per IT kWh), each with its source.

    Water: ``ewif`` (litres consumed per kWh generated) is the figure of ``water_zone`` for ``water_year``;
    ``water_method`` is published, derived, or fallback where ``water_zone`` is not ``zone``.

    ``region`` is the cloud region (``aws:eu-central-1``) where one was given; ``defaulted`` is True where no place
    was given and the world's average was taken.
    """

    zone: str
    zone_name: str
    region: str | None
    grams_per_kwh: float
    basis: str
    source: str
    source_detail: str
    year: int
    estimated: bool
    pue: float
    pue_source: str
    wue: float
    wue_source: str
    ewif: float
    water_method: str
    water_source: str
    water_year: int | None
    water_zone: str
    defaulted: bool

    @property
    def data_timestamp_seconds(self) -> float:
        """Unix time of the last second of ``year``, UTC: what the carbon figure stands for, to watch its age."""
        return datetime(self.year + 1, 1, 1, tzinfo=timezone.utc).timestamp() - 1.0

    def describe(self) -> str:
        """One phrase for a log line: ``FR (France), 44 g/kWh lifecycle_production, OWID/Ember 2024``."""
        if self.defaulted:
            where = f"{self.zone} average (no zone set: --zone or ECOLYZER_ZONE)"
        elif self.region:
            where = f"{self.region} in {self.zone} ({self.zone_name})"
        else:
            where = f"{self.zone} ({self.zone_name})"
        pue = f", PUE {self.pue:g}" if self.pue != 1.0 else ""
        estimated = ", estimated" if self.estimated else ""
        return f"{where}, {self.grams_per_kwh:.0f} g/kWh {self.basis}, {self.source} {self.year}{estimated}{pue}"


def resolve_place(zone: str | None, *, pue: float | None = None, wue: float | None = None) -> Place:
    """The factors of a place.

    Args:
        zone: a grid zone (``FR``, ``us_ca``) or a cloud region (``aws:eu-central-1``, ``azure:West Europe``); case,
            spaces, ``_`` and ``-`` do not matter. None or blank: the world's average.
        pue: power usage effectiveness of the site, a ratio of 1 to 10; wins over the table's.
        wue: water usage effectiveness of the site, 0 to 100 litres per IT kWh; wins over the table's.

    Where neither is given and the table has none for the cloud region or its provider, PUE is 1 and WUE 0: the
    boundary is the machine alone. A made-up data centre would be a guess that no figure shows.

    Raises:
        ConfigError: the zone is unknown (with up to three that may be meant), or ``pue`` or ``wue`` out of range.
        FactorTableError: a packaged table is damaged.
    """
    given = (zone or "").strip()
    cloud = find_cloud(given)
    grid = grid_table()[cloud.zone] if cloud else find_zone(given or _WORLD)
    if grid is None:
        raise unknown_place(given)
    site_pue, pue_source = _site("pue", pue, cloud, 1.0, 10.0)
    site_wue, wue_source = _site("wue", wue, cloud, 0.0, 100.0)
    water = _water(grid.zone)
    return Place(
        zone=grid.zone,
        zone_name=grid.name,
        region=f"{cloud.provider}:{cloud.region}" if cloud else None,
        grams_per_kwh=grid.grams_per_kwh,
        basis=grid.basis,
        source=grid.source,
        source_detail=grid.source_detail,
        year=grid.year,
        estimated=grid.estimated,
        pue=site_pue,
        pue_source=pue_source,
        wue=site_wue,
        wue_source=wue_source,
        ewif=water.litres_per_kwh,
        water_method=water.method if water.zone == grid.zone else "fallback",
        water_source=water.source,
        water_year=water.year,
        water_zone=water.zone,
        defaulted=not given,
    )


def _site(
    quantity: str, configured: float | None, cloud: CloudRow | None, low: float, high: float
) -> tuple[float, str]:
    """PUE or WUE and where it is from: the setting, the region, its provider's average, or the machine alone.

    ``low`` is also what the quantity is without a site around the machine: PUE 1, WUE 0.
    """
    if configured is not None:
        if not low <= configured <= high:  # also refuses NaN
            raise ConfigError(quantity, f"{configured!r} cannot be used", f"give a number from {low:g} to {high:g}")
        return float(configured), _CONFIGURED
    if cloud is None:
        return low, _MACHINE_ONLY
    for row in (cloud, cloud_table().get((cloud.provider, "*"))):
        if row is None:
            continue
        value, basis = (row.pue, row.pue_basis) if quantity == "pue" else (row.wue, row.wue_basis)
        if value is not None:
            return value, f"{row.provider}:{row.region} {basis} ({row.source})"
    return low, f"{_MACHINE_ONLY} (no sourced {quantity.upper()} for {cloud.provider}:{cloud.region})"


def _water(zone: str) -> WaterRow:
    """The water factor of a zone, else of the zone that holds it (US-CA: US), else of the world."""
    table = water_table()
    while zone not in table:
        zone = zone.rpartition("-")[0] or _WORLD
    return table[zone]
