"""The place where the machine stands, and every factor that follows from it, each with its source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.lookup import find_cloud, find_zone, unknown_place
from ecolyzer_otel.impact.tables import MIX_SOURCE, CloudRow, cloud_table, grid_table, water_table
from ecolyzer_otel.impact.uncertainty import carbon_uncertainty, live_uncertainty, water_range

if TYPE_CHECKING:
    from ecolyzer_otel.impact.live.figure import Figure

__all__ = ["Place", "SiteSettings", "resolve_place"]

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

    ``uncertainty`` is its relative standard uncertainty (:mod:`~ecolyzer_otel.impact.uncertainty`). A live figure
    has ``time_s``, the Unix time that it is valid for, and the ``year`` of that time.

    Site: ``pue`` (a ratio) and ``wue`` (litres per IT kWh), each with its source.

    Water: ``ewif`` (litres consumed per kWh generated) is the figure of ``water_zone`` for ``water_year``, with the
    range ``water_low`` to ``water_high``; ``water_method`` is published, derived, configured, or fallback where
    ``water_zone`` is not ``zone``.

    Second figures, None where not available: ``market`` (gCO2e per kWh of the contract, with ``market_source``),
    and ``marginal`` (gCO2 per kWh, with ``marginal_source``), which is never mixed with the average.

    ``region`` is the cloud region (``aws:eu-central-1``) where one was given, ``em_zone`` Electricity Maps' name of
    the zone, where available; ``defaulted`` is True where no place was given and the world's average is used.
    ``zone_source`` names what reported the place (``aws metadata``), empty where it is configured.
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
    uncertainty: float = 0.0
    water_low: float = 0.0
    water_high: float = 0.0
    market: float | None = None
    market_source: str = ""
    marginal: float | None = None
    marginal_source: str = ""
    marginal_detail: str = ""
    marginal_zone: str = ""
    time_s: float | None = None
    em_zone: str | None = None
    zone_source: str = ""

    @property
    def data_timestamp_seconds(self) -> float:
        """Unix time that the carbon figure is valid for, to watch its age; of a year, its last second (UTC)."""
        if self.time_s is not None:
            return self.time_s
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
        origin = f" (from {self.zone_source})" if self.zone_source else ""
        when = "live" if self.time_s is not None else self.year
        figure = f"{self.grams_per_kwh:.0f} g/kWh {self.basis}, {self.source} {when}"
        return f"{where}{origin}, {figure}{estimated}{pue}"

    def with_live(self, figure: Figure | None, marginal: Figure | None = None) -> Place:
        """The same place with live figures; None leaves the table's figure, and no marginal one."""
        place = self
        if marginal is not None:
            place = replace(
                place, marginal=marginal.grams_per_kwh, marginal_source=marginal.source,
                marginal_detail=marginal.source_detail, marginal_zone=marginal.zone,
            )  # fmt: skip
        if figure is None:
            return place
        reported = figure.uncertainty
        return replace(
            place,
            grams_per_kwh=figure.grams_per_kwh,
            basis=figure.basis,
            source=figure.source,
            source_detail=figure.source_detail,
            year=datetime.fromtimestamp(figure.from_s, timezone.utc).year,
            estimated=figure.estimated,
            uncertainty=live_uncertainty(estimated=figure.estimated) if reported is None else reported,
            time_s=figure.from_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """The factors of a site that the user configured; each one replaces the table's.

    ``pue`` is the power usage effectiveness, a ratio of 1 to 10; ``wue`` the water usage effectiveness, 0 to 100
    litres per IT kWh; ``ewif`` 0 to 100 litres consumed per kWh generated.

    ``reservoir_evaporation`` counts the evaporation from reservoirs of hydro power, as published figures do.
    Without it, the figure derived from the generation mix without hydro is used.

    ``market`` is the contract's gCO2e per kWh, ``market_source`` its evidence (contract, certificate, year).
    """

    pue: float | None = None
    wue: float | None = None
    ewif: float | None = None
    reservoir_evaporation: bool = True
    market: float | None = None
    market_source: str | None = None


_NOT_CONFIGURED: Final = SiteSettings()


def resolve_place(zone: str | None, site: SiteSettings = _NOT_CONFIGURED, *, zone_source: str = "") -> Place:
    """The factors of a place.

    Args:
        zone: a grid zone (``FR``, ``us_ca``) or a cloud region (``aws:eu-central-1``, ``azure:West Europe``); case,
            spaces, ``_`` and ``-`` do not matter. None or blank: the world's average.
        site: the configured factors.
        zone_source: what reported the zone, where it was not configured.

    Where PUE or WUE is not configured and the table has none for the cloud region or its provider, PUE is 1 and WUE
    0: the boundary is the machine alone. A made-up data centre would be a guess that no figure shows.

    Raises:
        ConfigError: the zone is unknown (with up to three suggestions), or a factor is out of range.
        FactorTableError: a packaged table is damaged.
    """
    given = (zone or "").strip()
    cloud = find_cloud(given)
    grid = grid_table()[cloud.zone] if cloud else find_zone(given or _WORLD)
    if grid is None:
        raise unknown_place(given)
    site_pue, pue_source = _site("pue", site.pue, cloud, 1.0, 10.0)
    site_wue, wue_source = _site("wue", site.wue, cloud, 0.0, 100.0)
    water = _water(grid.zone, site.ewif, site.reservoir_evaporation)
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
        water_method=water.method,
        water_source=water.source,
        water_year=water.year,
        water_zone=water.zone,
        defaulted=not given,
        uncertainty=carbon_uncertainty(grid, datetime.now(timezone.utc).year),
        water_low=water.low,
        water_high=water.high,
        market=site.market,
        market_source=(site.market_source or _CONFIGURED) if site.market is not None else "",
        em_zone=(cloud.em_zone if cloud else _em_zone(grid.zone)) or None,
        zone_source=zone_source,
    )


def _em_zone(zone: str) -> str:
    """Electricity Maps' name of a zone, where all cloud regions in it agree; else ""."""
    names = {row.em_zone for row in cloud_table().values() if row.zone == zone and row.em_zone}
    return names.pop() if len(names) == 1 else ""


def _site(
    quantity: str, configured: float | None, cloud: CloudRow | None, low: float, high: float
) -> tuple[float, str]:
    """PUE or WUE and its source: the setting, the region, its provider's average, or the machine alone.

    ``low`` is also the value without a site around the machine: PUE 1, WUE 0.
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


@dataclass(frozen=True, slots=True)
class _Water:
    """The water figure in use: litres per kWh with its range, and its source."""

    litres_per_kwh: float
    low: float
    high: float
    method: str
    zone: str
    year: int | None
    source: str


def _water(zone: str, configured: float | None, reservoirs: bool) -> _Water:
    """The water factor of a zone, else of the zone that holds it (US-CA: US), else of the world."""
    if configured is not None:
        if not 0.0 <= configured <= 100.0:  # also refuses NaN
            raise ConfigError("ewif", f"{configured!r} cannot be used", "give a number from 0 to 100")
        return _Water(configured, configured, configured, _CONFIGURED, zone, None, _CONFIGURED)
    table = water_table()
    requested = zone
    while zone not in table or not (reservoirs or table[zone].without_hydro is not None):
        zone = zone.rpartition("-")[0] or _WORLD
    row, fallback = table[zone], zone != requested
    litres, method, source, year = row.litres_per_kwh, row.method, row.source, row.year
    if not reservoirs and row.without_hydro is not None:
        litres, method, source = row.without_hydro, "derived", f"{MIX_SOURCE} less hydro"
        year = row.mix_year or row.year
    low, high = water_range(row, litres, fallback=fallback)
    return _Water(litres, low, high, "fallback" if fallback else method, zone, year, source)
