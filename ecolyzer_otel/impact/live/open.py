"""Opens a live source: from the text of the options to a source that is ready to start."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.cache import Cache, cache_folder
from ecolyzer_otel.impact.live.csvfile import CsvFile
from ecolyzer_otel.impact.live.electricitymaps import ElectricityMaps
from ecolyzer_otel.impact.live.endpoint import Endpoint
from ecolyzer_otel.impact.live.entsoe import Entsoe
from ecolyzer_otel.impact.live.figure import Figure
from ecolyzer_otel.impact.live.neso import Neso
from ecolyzer_otel.impact.live.provider import LiveRequest, Provider
from ecolyzer_otel.impact.live.refresh import LiveGrid, Pace
from ecolyzer_otel.impact.live.rte import Rte
from ecolyzer_otel.impact.live.watttime import WattTime

__all__ = ["open_live"]

_PROVIDERS: Final[Mapping[str, Callable[[LiveRequest], Provider]]] = {
    "electricitymaps": ElectricityMaps.open,
    "neso": Neso.open,
    "rte": Rte.open,
    "entsoe": Entsoe.open,
    "watttime": WattTime.open,
}
#: Seconds between two checks of a file for changes.
_FILE_CHECK_SECONDS: Final = 15.0


def open_live(
    request: LiveRequest,
    *,
    pace: Pace | None = None,
    clock: Callable[[], float] = time.time,
    uniform: Callable[[float, float], float] = random.uniform,
) -> LiveGrid:
    """A live source of grid carbon intensity. Nothing is fetched before :meth:`LiveGrid.start`.

    Args:
        request: the source and the place.
        pace: other intervals, for tests; it replaces ``request.refresh``.
        clock: Unix time in seconds.
        uniform: returns a random number between two.

    Raises:
        ConfigError: the source can never work: a token is missing, the place is not covered, a line of the file is
            invalid, or the address is not encrypted.
    """
    request = replace(request, region=(request.region or "").strip() or None, em_zone=request.em_zone or None)
    pace = pace or Pace(refresh=request.refresh)
    kind, _, rest = request.source.partition(":")
    first: Sequence[Figure] = ()
    provider: Provider
    if kind == "csv":
        provider, first = CsvFile.open(rest, request)
        pace = Pace(
            refresh=min(pace.refresh, _FILE_CHECK_SECONDS), backoff_first=1.0, backoff_most=_FILE_CHECK_SECONDS
        )
    elif kind in ("http", "https"):
        provider = Endpoint.open(request.source, request)
    elif kind in _PROVIDERS:
        provider = _PROVIDERS[kind](request)
    else:
        remedy = f"give one of {', '.join(_PROVIDERS)}, csv:FILE or an http(s) address"
        raise ConfigError(request.key, f"{request.source[:40]!r} is not a live source", remedy)
    return LiveGrid(
        provider,
        key=request.key,
        pace=pace,
        max_age=request.max_age,
        cache=Cache(cache_folder(request.cache, request.environ), provider.source, provider.identity),
        fallback="no marginal figure is reported meanwhile"
        if request.marginal
        else "the bundled figure is used meanwhile",
        first=first,
        clock=clock,
        uniform=uniform,
    )
