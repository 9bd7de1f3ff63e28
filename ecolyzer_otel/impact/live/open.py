"""From the options' text to a source that is ready to be started."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.cache import Cache, cache_folder
from ecolyzer_otel.impact.live.csvfile import CsvFile
from ecolyzer_otel.impact.live.electricitymaps import ElectricityMaps
from ecolyzer_otel.impact.live.endpoint import Endpoint
from ecolyzer_otel.impact.live.entsoe import Entsoe
from ecolyzer_otel.impact.live.figure import Figure
from ecolyzer_otel.impact.live.neso import Neso
from ecolyzer_otel.impact.live.provider import Ask, Provider
from ecolyzer_otel.impact.live.refresh import LiveGrid, Pace
from ecolyzer_otel.impact.live.rte import Rte
from ecolyzer_otel.impact.live.watttime import WattTime

__all__ = ["open_live"]

_PROVIDERS: Final[Mapping[str, Callable[[Ask], Provider]]] = {
    "electricitymaps": ElectricityMaps.open,
    "neso": Neso.open,
    "rte": Rte.open,
    "entsoe": Entsoe.open,
    "watttime": WattTime.open,
}
#: How often a change of a file is looked for, in seconds.
_LOOK_SECONDS: Final = 15.0


def open_live(
    source: str,
    *,
    key: str,
    zone: str,
    em_zone: str | None = None,
    region: str | None = None,
    url: str | None = None,
    refresh: float,
    max_age: float,
    cache: str | None,
    marginal: bool = False,
    environ: Mapping[str, str] | None = None,
    cloud: tuple[str, str] | None = None,
    pace: Pace | None = None,
    clock: Callable[[], float] = time.time,
    uniform: Callable[[float, float], float] = random.uniform,
) -> LiveGrid:
    """A live source of grid carbon intensity. Nothing is fetched before :meth:`LiveGrid.start`.

    Args:
        source: the option's text: electricitymaps, neso, rte, entsoe, watttime, ``csv:FILE`` or an http(s) address.
        key: the option as the user spelled it, for messages.
        zone: our grid zone (``FR``, ``US-CA``).
        em_zone: Electricity Maps' name of it, where known.
        region: the provider's name of it, where the user gave one.
        url: the API's address in place of the public one.
        refresh: seconds after which a figure is asked for anew.
        max_age: seconds for which the last figure stands when no new one comes, from its own time.
        cache: as the option: a folder, None for the user's cache folder, ``none`` for none.
        marginal: whether marginal figures are asked for, which are never mixed with average ones.
        environ: where tokens and the proxy are looked up; default ``os.environ``.
        cloud: provider and region, where this runs in a cloud.
        pace: other waits after failures, for tests; ``refresh`` is then its.
        clock: Unix time in seconds.
        uniform: a random number between two.

    Raises:
        ConfigError: for what can never work: a token missing, a place that the source does not cover, a file with a
            line that cannot be true, an address that is not encrypted.
    """
    environ = os.environ if environ is None else environ
    region = region.strip() if region and region.strip() else None
    ask = Ask(
        key=key,
        zone=zone,
        em_zone=em_zone or None,
        region=region,
        url=url,
        max_age=max_age,
        marginal=marginal,
        environ=environ,
        cloud=cloud,
    )
    kind, _, rest = source.partition(":")
    first: Sequence[Figure] = ()
    provider: Provider
    pace = pace or Pace(refresh=refresh)
    if kind == "csv":
        provider, first = CsvFile.open(rest, ask)
        pace = Pace(refresh=min(pace.refresh, _LOOK_SECONDS), backoff_first=1.0, backoff_most=_LOOK_SECONDS)
    elif kind in ("http", "https"):
        provider = Endpoint.open(source, ask)
    elif kind in _PROVIDERS:
        provider = _PROVIDERS[kind](ask)
    else:
        raise ConfigError(key, f"{source[:40]!r} is not a live source", f"give one of {', '.join(_PROVIDERS)}")
    return LiveGrid(
        provider,
        key=key,
        pace=pace,
        max_age=max_age,
        cache=Cache(cache_folder(cache, environ), provider.source, provider.identity),
        fallback="no marginal figure is given meanwhile" if marginal else "the bundled figure is used meanwhile",
        first=first,
        clock=clock,
        uniform=uniform,
    )
