"""Electricity Maps v3: life-cycle carbon intensity of consumption in a zone, hourly (electricitymaps.com)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.fetch import Fetcher
from ecolyzer_otel.impact.live.figure import Figure, Problem, grams, instant, label
from ecolyzer_otel.impact.live.provider import LiveRequest
from ecolyzer_otel.impact.live.tokens import Secret, need_secret

__all__ = ["ElectricityMaps"]

_PUBLIC: Final = "https://api.electricitymaps.com"
_TOKEN: Final = "ECOLYZER_ELECTRICITYMAPS_TOKEN"  # noqa: S105 - a variable's name
_BASES: Final = {"lifecycle": "lifecycle_consumption", "direct": "direct_consumption"}
#: Countries whose parts have other names there than in our table.
_OWN_NAMES: Final = frozenset({"US", "IN"})
#: For an unknown zone it would answer for the place of the caller's address instead.
_NO_GUESSING: Final = {"shouldUseFallbackCallerLookup": "false", "disableCallerLookup": "true"}


class ElectricityMaps:
    """``GET /v3/carbon-intensity/latest`` for a zone, or for a cloud region whose zone is not available."""

    source = "Electricity Maps"
    replaces = False
    fixed = False

    def __init__(
        self, base: str, token: Secret, place: dict[str, str], expected: str, floor_s: float, fetcher: Fetcher
    ):
        self.floor_s = floor_s
        self.secrets = (token,)
        self._url = f"{base}/v3/carbon-intensity/latest?" + urlencode(
            {**place, "emissionFactorType": "lifecycle", **_NO_GUESSING}
        )
        self.identity = f"{self.source} {self._url}"
        self._token = token
        self._place = place
        self._expected = expected
        self._fetcher = fetcher

    @classmethod
    def open(cls, request: LiveRequest) -> ElectricityMaps:
        """Raises ConfigError: no token, or no name of the zone."""
        request.average_only(cls.source)
        token = need_secret(request.environ, _TOKEN, request.key, cls.source)
        place, expected = _place(request)
        return cls(request.base(_PUBLIC), token, place, expected, request.floor_s, Fetcher(request.environ))

    def fetch(self, now_s: float) -> Sequence[Figure]:
        """The latest hour's figure. Raises Problem."""
        answer = self._fetcher.get_json(
            self._url,
            {"auth-token": self._token.reveal()},
            remedy=f"check {_TOKEN}, and that its plan covers {' '.join(self._place.values())}",
        )
        if not isinstance(answer, dict):
            raise Problem("bad_value", "the answer is not a JSON object")
        zone = label(answer.get("zone"), "zone")
        if zone != self._expected and not ("zone" not in self._place and _country(zone) == self._expected):
            raise Problem(
                "wrong_zone",
                f"it answered for {zone} instead of {self._expected}",
                "give Electricity Maps' name of the zone: --grid-region",
            )
        basis = _BASES.get(str(answer.get("emissionFactorType", "lifecycle")))
        if basis is None:
            raise Problem("bad_value", "emissionFactorType is neither lifecycle nor direct")
        return [
            Figure(
                grams_per_kwh=grams(answer.get("carbonIntensity"), "carbonIntensity"),
                zone=zone,
                basis=basis,
                source=self.source,
                source_detail="Electricity Maps API v3 carbon-intensity/latest, gCO2e/kWh, under your plan's terms",
                from_s=instant(answer.get("datetime"), "datetime"),
                estimated=answer.get("isEstimated") is True,
            )
        ]


def _country(zone: str) -> str:
    return zone.partition("-")[0]


def _place(request: LiveRequest) -> tuple[dict[str, str], str]:
    """The parameters of the place, and the zone (for a cloud region: the country) expected in the answer."""
    zone = request.region or request.em_zone
    if zone is None and request.cloud is not None and request.zone not in ("WORLD", "EU"):
        provider, region = request.cloud
        return {"dataCenterProvider": provider, "dataCenterRegion": region}, _country(request.zone)
    if zone is None:
        country = _country(request.zone)
        if request.zone in ("WORLD", "EU") or (country in _OWN_NAMES and request.zone != country):
            raise ConfigError(
                request.key,
                f"Electricity Maps' name of {request.zone} is not available",
                f"give {request.region_key}, for example US-CAL-CISO (names: app.electricitymaps.com)",
            )
        zone = country if country == "CN" else request.zone
    return {"zone": zone}, zone
