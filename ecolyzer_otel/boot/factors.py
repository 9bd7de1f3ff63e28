"""From the settings to the factors: where this is, whom to ask for live figures, what the hardware embodies.

Nothing here fails: what cannot be used is noted as a problem, and the next best figure is taken.
"""

from __future__ import annotations

from collections.abc import Iterable

from ecolyzer_otel.common.config import Config
from ecolyzer_otel.common.errors import ConfigError, EcolyzerError
from ecolyzer_otel.impact.embodied import Embodied, embodied_of
from ecolyzer_otel.impact.place import Place, resolve_place
from ecolyzer_otel.impact.timeline import LiveSource, Timeline
from ecolyzer_otel.sensors import SensorInfo

__all__ = ["embodied_parts", "find_place", "open_timeline"]

_ZONE: str = "--zone (ECOLYZER_ZONE)"


def find_place(config: Config, problems: list[EcolyzerError]) -> Place:
    """The configured place, else what the cloud's metadata say, else the world."""
    zone, told_by = config.zone, ""
    if zone is None and config.cloud_metadata != "off":
        from ecolyzer_otel.impact.cloud import find_cloud_place  # late: most services know where they are

        found = find_cloud_place(config.cloud_metadata, sysfs=config.sysfs)
        zone, told_by = found.place, found.told_by
        if found.problem:
            problems.append(EcolyzerError(found.problem))
    if config.market_factor is None and config.market_source is not None:
        key = "--market-source (ECOLYZER_MARKET_SOURCE)"
        problems.append(ConfigError(key, "there is no factor that it could be of", "give --market-factor G/KWH"))
    try:
        return _resolve(config, zone, told_by)
    except ConfigError as error:
        problems.append(ConfigError(_ZONE, error.problem, f"{error.remedy}; WORLD is used for now"))
        return _resolve(config, None, "")


def _resolve(config: Config, zone: str | None, told_by: str) -> Place:
    return resolve_place(
        zone,
        pue=config.pue,
        wue=config.wue,
        ewif=config.ewif,
        reservoir_evaporation=config.reservoir_evaporation,
        market=config.market_factor,
        market_source=config.market_source,
        told_by=told_by,
    )


def open_timeline(config: Config, place: Place, problems: list[EcolyzerError]) -> Timeline:
    """The factors over time, with the live sources that are configured; they are not started."""
    average = marginal = None
    if config.grid != "table":
        key, where = "--grid (ECOLYZER_GRID)", (config.grid_region, config.grid_url)
        average = _open(config, place, config.grid, key, where, problems)
    if config.marginal != "none":
        key, where = "--marginal (ECOLYZER_MARGINAL)", (config.marginal_region, config.marginal_url)
        marginal = _open(config, place, config.marginal, key, where, problems)
    return Timeline(place, average, marginal)


def _open(
    config: Config,
    place: Place,
    source: str,
    key: str,
    where: tuple[str | None, str | None],
    problems: list[EcolyzerError],
) -> LiveSource | None:
    from ecolyzer_otel.impact.live.open import open_live  # late: XML, HTTP and the rest are for those who ask

    provider, _, region = (place.region or "").partition(":")
    try:
        return open_live(
            source,
            key=key,
            zone=place.zone,
            em_zone=place.em_zone,
            region=where[0],
            url=where[1],
            refresh=config.grid_refresh,
            max_age=config.grid_max_age,
            cache=config.cache,
            marginal=key.startswith("--marginal"),
            cloud=(provider, region) if region else None,
        )
    except ConfigError as error:
        problems.append(error)
        return None


def embodied_parts(config: Config, sensors: Iterable[SensorInfo], problems: list[EcolyzerError]) -> Embodied:
    """Embodied emissions of the host."""
    embodied = embodied_of(config.embodied, config.lifetime, config.reserved, sensors)
    problems.extend(embodied.problems)
    return embodied
