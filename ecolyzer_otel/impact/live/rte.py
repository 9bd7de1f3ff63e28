"""RTE éCO2mix by ODRÉ: France by quarter-hours, no token (odre.opendatasoft.com, Licence Ouverte).

``taux_co2`` is an estimate of the combustion CO2 of generation in mainland France, per kWh generated: no imports,
no life cycle (rte-france.com/eco2mix/les-emissions-de-co2-par-kwh-produit-en-france).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.fetch import Fetcher
from ecolyzer_otel.impact.live.figure import Figure, Problem, grams, instant
from ecolyzer_otel.impact.live.provider import LiveRequest
from ecolyzer_otel.impact.live.tokens import Secret

__all__ = ["Rte"]

_PUBLIC: Final = "https://odre.opendatasoft.com"
_PATH: Final = "/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"
#: It publishes several quarter-hours at once; two hours of them cover requests of some minutes ago.
_QUERY: Final = {"where": "taux_co2 is not null", "order_by": "date_heure desc", "limit": "8"}


class Rte:
    """The newest records of ``eco2mix-national-tr``."""

    source = "RTE eCO2mix"
    replaces = False
    fixed = False
    secrets: tuple[Secret, ...] = ()

    def __init__(self, base: str, floor_s: float, fetcher: Fetcher) -> None:
        self.floor_s = floor_s
        self._url = f"{base}{_PATH}?{urlencode(_QUERY)}"
        self.identity = f"{self.source} {base}"
        self._fetcher = fetcher

    @classmethod
    def open(cls, request: LiveRequest) -> Rte:
        """Raises ConfigError: outside France, or for a part of it."""
        request.average_only(cls.source)
        if request.zone != "FR":
            raise ConfigError(
                request.key, f"rte covers France, not {request.zone}", "give --zone FR, or another source"
            )
        if request.region is not None and request.region.upper() not in ("FR", "FRANCE"):
            raise ConfigError(request.region_key, "rte covers France as a single region", "remove it")
        return cls(request.base(_PUBLIC), request.floor_s, Fetcher(request.environ))

    def fetch(self, now_s: float) -> Sequence[Figure]:
        """The last published quarter-hours. Raises Problem."""
        answer = self._fetcher.get_json(self._url)
        rows = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Problem("bad_value", "the answer has no results")
        if not rows:
            raise Problem("no_data", "it has no recent figure")
        if any(row.get("perimetre", "France") != "France" for row in rows):
            raise Problem("wrong_zone", "it answered for another place than France")
        values = {
            instant(row.get("date_heure"), "date_heure"): grams(row.get("taux_co2"), "taux_co2") for row in rows
        }
        starts = sorted(values)
        return [
            Figure(
                grams_per_kwh=values[start],
                zone="FR",
                basis="direct_generation",
                source=self.source,
                source_detail="RTE éCO2mix by ODRÉ, taux_co2, gCO2/kWh of combustion, Licence Ouverte",
                from_s=start,
                until_s=end,
                estimated=True,
            )
            for start, end in zip(starts, [*starts[1:], None], strict=True)
        ]
