"""Where the machine stands, and every factor that follows from it, each with its source."""

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

    ``uncertainty`` is its relative standard uncertainty (:mod:`~ecolyzer_otel.impact.uncertainty`). A live figure
    has ``time_s``, the Unix time that it stands for, and ``year`` is that of it.

    Site: ``pue`` (a ratio) and ``wue`` (litres per IT kWh), each with its source.

    Water: ``ewif`` (litres consumed per kWh generated) is the figure of ``water_zone`` for ``water_year``, with the
    range ``water_low`` to ``water_high``; ``water_method`` is published, derived, configured, or fallback where
    ``water_zone`` is not ``zone``.

    Second figures, None where there are none: ``market`` (gCO2e per kWh of the contract, with ``market_source``),
    and ``marginal`` (gCO2 per kWh, with ``marginal_source``), which is never mixed with the average.

    ``region`` is the cloud region (``aws:eu-central-1``) where one was given, ``em_zone`` what Electricity Maps
    calls the zone, where known; ``defaulted`` is True where no place was given and the world's average was taken.
    ``told_by`` says who told the place, where that was not the configuration.
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
    told_by: str = ""

    @property
    def data_timestamp_seconds(self) -> float:
        """What the carbon figure stands for, to watch its age: Unix time; of a year, its last second (UTC)."""
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
        told = f" (told by {self.told_by})" if self.told_by else ""
        when = "live" if self.time_s is not None else self.year
        figure = f"{self.grams_per_kwh:.0f} g/kWh {self.basis}, {self.source} {when}"
        return f"{where}{told}, {figure}{estimated}{pue}"

    def with_live(self, figure: Figure | None, marginal: Figure | None = None) -> Place:
        """The same place with live figures; None leaves the table's, and no marginal one."""
        place = self
        if marginal is not None:
            place = replace(
                place, marginal=marginal.grams_per_kwh, marginal_source=marginal.source,
                marginal_detail=marginal.source_detail, marginal_zone=marginal.zone,
            )  # fmt: skip
        if figure is None:
            return place
        known = figure.uncertainty
        return replace(
            place,
            grams_per_kwh=figure.grams_per_kwh,
            basis=figure.basis,
            source=figure.source,
            source_detail=figure.source_detail,
            year=datetime.fromtimestamp(figure.from_s, timezone.utc).year,
            estimated=figure.estimated,
            uncertainty=live_uncertainty(estimated=figure.estimated) if known is None else known,
            time_s=figure.from_s,
        )


def resolve_place(
    zone: str | None,
    *,
    pue: float | None = None,
    wue: float | None = None,
    ewif: float | None = None,
    reservoir_evaporation: bool = True,
    market: float | None = None,
    market_source: str | None = None,
    told_by: str = "",
) -> Place:
    """The factors of a place.

    Args:
        zone: a grid zone (``FR``, ``us_ca``) or a cloud region (``aws:eu-central-1``, ``azure:West Europe``); case,
            spaces, ``_`` and ``-`` do not matter. None or blank: the world's average.
        pue: power usage effectiveness of the site, a ratio of 1 to 10; wins over the table's.
        wue: water usage effectiveness of the site, 0 to 100 litres per IT kWh; wins over the table's.
        ewif: litres consumed per kWh generated, 0 to 100; wins over the table's.
        reservoir_evaporation: whether what reservoirs of hydro power evaporate counts (it does in published
            figures). Without, the figure derived from the generation mix less hydro is used.
        market: gCO2e per kWh of the contract for this electricity.
        market_source: what that rests on.
        told_by: who told the zone, where it was not configured.

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
    water = _water(grid.zone, ewif, reservoir_evaporation)
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
        market=market,
        market_source=(market_source or _CONFIGURED) if market is not None else "",
        em_zone=(cloud.em_zone if cloud else _em_zone(grid.zone)) or None,
        told_by=told_by,
    )


def _em_zone(zone: str) -> str:
    """What Electricity Maps calls a zone, where all cloud regions in it agree; else ""."""
    names = {row.em_zone for row in cloud_table().values() if row.zone == zone and row.em_zone}
    return names.pop() if len(names) == 1 else ""


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


@dataclass(frozen=True, slots=True)
class _Water:
    """The water figure that is used: litres per kWh with its range, and where it is from."""

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
    wanted = zone
    while zone not in table or not (reservoirs or table[zone].without_hydro is not None):
        zone = zone.rpartition("-")[0] or _WORLD
    row, fallback = table[zone], zone != wanted
    litres, method, source, year = row.litres_per_kwh, row.method, row.source, row.year
    if not reservoirs and row.without_hydro is not None:
        litres, method, source = row.without_hydro, "derived", f"{MIX_SOURCE} less hydro"
        year = row.mix_year or row.year
    low, high = water_range(row, litres, fallback=fallback)
    return _Water(litres, low, high, "fallback" if fallback else method, zone, year, source)
