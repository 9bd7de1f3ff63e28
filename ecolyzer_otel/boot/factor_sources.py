"""From the settings to the factors: the place, its live sources, and the embodied emissions of the hardware.

Nothing here fails: a setting that cannot be used is added to the problems, and the next best figure is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ecolyzer_otel.common.config import Config
from ecolyzer_otel.common.errors import ConfigError, EcolyzerError
from ecolyzer_otel.impact.embodied import Embodied, embodied_of
from ecolyzer_otel.impact.place import Place, SiteSettings, resolve_place
from ecolyzer_otel.impact.timeline import LiveSource, Timeline
from ecolyzer_otel.sensors import SensorInfo

if TYPE_CHECKING:
    from ecolyzer_otel.impact.live.provider import LiveRequest

__all__ = ["embodied_parts", "find_place", "open_timeline"]

_ZONE: str = "--zone (ECOLYZER_ZONE)"


def find_place(config: Config, problems: list[EcolyzerError]) -> Place:
    """The configured place, else the one that the cloud's metadata report, else the world."""
    zone, zone_source = config.zone, ""
    if zone is None and config.cloud_metadata != "off":
        from ecolyzer_otel.impact.cloud import find_cloud_place  # late: not needed where a zone is configured

        found = find_cloud_place(config.cloud_metadata, sysfs=config.sysfs)
        zone, zone_source = found.place, found.source
        if found.problem:
            problems.append(EcolyzerError(found.problem))
    if config.market_factor is None and config.market_source is not None:
        key = "--market-source (ECOLYZER_MARKET_SOURCE)"
        problems.append(ConfigError(key, "needs a contractual factor", "give --market-factor G/KWH"))
    site = SiteSettings(
        pue=config.pue,
        wue=config.wue,
        ewif=config.ewif,
        reservoir_evaporation=config.reservoir_evaporation,
        market=config.market_factor,
        market_source=config.market_source,
    )
    try:
        return resolve_place(zone, site, zone_source=zone_source)
    except ConfigError as error:
        problems.append(ConfigError(_ZONE, error.problem, f"{error.remedy}; WORLD is used for now"))
        return resolve_place(None, site)


def open_timeline(config: Config, place: Place, problems: list[EcolyzerError]) -> Timeline:
    """The factors over time, with the configured live sources, which are not started yet."""
    average = marginal = None
    if config.grid != "table":
        average = _open(_request(config, place, marginal=False), problems)
    if config.marginal != "none":
        marginal = _open(_request(config, place, marginal=True), problems)
    return Timeline(place, average, marginal)


def _request(config: Config, place: Place, *, marginal: bool) -> LiveRequest:
    from ecolyzer_otel.impact.live.provider import LiveRequest  # late: only where a live source is configured

    provider, _, region = (place.region or "").partition(":")
    return LiveRequest(
        source=config.marginal if marginal else config.grid,
        key="--marginal (ECOLYZER_MARGINAL)" if marginal else "--grid (ECOLYZER_GRID)",
        zone=place.zone,
        em_zone=place.em_zone,
        region=config.marginal_region if marginal else config.grid_region,
        url=config.marginal_url if marginal else config.grid_url,
        refresh=config.grid_refresh,
        max_age=config.grid_max_age,
        cache=config.cache,
        marginal=marginal,
        cloud=(provider, region) if region else None,
    )


def _open(request: LiveRequest, problems: list[EcolyzerError]) -> LiveSource | None:
    from ecolyzer_otel.impact.live.open import open_live  # late: only a live source needs XML and HTTP

    try:
        return open_live(request)
    except ConfigError as error:
        problems.append(error)
        return None


def embodied_parts(config: Config, sensors: Iterable[SensorInfo], problems: list[EcolyzerError]) -> Embodied:
    """Embodied emissions of the host."""
    embodied = embodied_of(config.embodied, config.lifetime, config.reserved, sensors)
    problems.extend(embodied.problems)
    return embodied
