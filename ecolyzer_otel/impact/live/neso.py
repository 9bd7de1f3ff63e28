"""NESO's Carbon Intensity API: Great Britain by half-hours, no token (carbonintensity.org.uk, CC BY 4.0).

The national figure counts generation and imports, CO2 of combustion only (NESO, "Carbon Intensity Forecast
Methodology"); regional figures are forecasts only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.fetch import Fetcher
from ecolyzer_otel.impact.live.figure import Figure, Problem, grams, instant
from ecolyzer_otel.impact.live.provider import LiveRequest
from ecolyzer_otel.impact.live.tokens import Secret

__all__ = ["Neso"]

_PUBLIC: Final = "https://api.carbonintensity.org.uk"
#: The first half of a postcode; the API takes no more.
_OUTWARD: Final = re.compile(r"[A-Z]{1,2}[0-9][A-Z0-9]?")
_INWARD: Final = re.compile(r"[0-9][A-Z]{2}")


class Neso:
    """``GET /intensity``, or ``/regional/postcode/RG10`` or ``/regional/regionid/13`` with a region."""

    source = "NESO"
    replaces = False
    fixed = False
    secrets: tuple[Secret, ...] = ()

    def __init__(self, base: str, region: tuple[str, str] | None, floor_s: float, fetcher: Fetcher) -> None:
        self.floor_s = floor_s
        self._region = region
        self._url = f"{base}/intensity" if region is None else f"{base}/regional/{region[0]}/{region[1]}"
        self.identity = f"{self.source} {self._url}"
        self._fetcher = fetcher

    @classmethod
    def open(cls, request: LiveRequest) -> Neso:
        """Raises ConfigError: outside Great Britain, or an unknown region."""
        request.average_only(cls.source)
        if request.zone != "GB":
            raise ConfigError(
                request.key, f"neso covers Great Britain, not {request.zone}", "give --zone GB, or another source"
            )
        return cls(request.base(_PUBLIC), _region(request), request.floor_s, Fetcher(request.environ))

    def fetch(self, now_s: float) -> Sequence[Figure]:
        """The figure of the current half-hour. Raises Problem."""
        row, zone = _first(self._fetcher.get_json(self._url, remedy="check --grid-region")), "GB"
        if self._region is not None:
            kind, name = self._region
            if str(row.get(kind, name)).upper() != name:
                raise Problem("wrong_zone", f"it answered for another {kind} than {name}")
            row, zone = _first(row), f"GB {name}"
        intensity = row.get("intensity")
        if not isinstance(intensity, dict):
            raise Problem("bad_value", "the answer has no intensity")
        actual = intensity.get("actual")
        return [
            Figure(
                grams_per_kwh=grams(intensity.get("forecast") if actual is None else actual, "intensity"),
                zone=zone,
                basis="direct_consumption",
                source=self.source,
                source_detail="NESO Carbon Intensity API, gCO2/kWh of combustion, CC BY 4.0",
                from_s=instant(row.get("from"), "from"),
                until_s=instant(row.get("to"), "to"),
                estimated=actual is None,
            )
        ]


def _first(answer: Any) -> dict[str, Any]:
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
        raise Problem("bad_value", "the answer has no data")
    return rows[0]


def _region(request: LiveRequest) -> tuple[str, str] | None:
    """The kind of region and its name, as in the path."""
    text = (request.region or "").strip().upper()
    if text in ("", "GB"):
        return None
    if text.isdecimal() and 1 <= int(text) <= 17:
        return "regionid", str(int(text))
    outward, _, inward = text.partition(" ")
    if _OUTWARD.fullmatch(outward) and (not inward or _INWARD.fullmatch(inward)):
        return "postcode", outward
    raise ConfigError(
        request.region_key, f"{text[:20]!r} is not a region of neso", "give RG10 (a postcode) or 1 to 17"
    )
