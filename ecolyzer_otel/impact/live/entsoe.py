"""ENTSO-E's Transparency Platform: actual generation per type (A75, A16), weighted by life-cycle medians.

The generation in an area, without imports and exports, hours late for some areas. Its API takes the token only in
the address, so no text here may contain an address.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final
from urllib.parse import urlencode

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.eic import find_area
from ecolyzer_otel.impact.live.fetch import Fetcher
from ecolyzer_otel.impact.live.figure import Figure, Problem, grams
from ecolyzer_otel.impact.live.mix import latest_mix
from ecolyzer_otel.impact.live.provider import LiveRequest
from ecolyzer_otel.impact.live.tokens import Secret, need_secret

__all__ = ["Entsoe"]

_PUBLIC: Final = "https://web-api.tp.entsoe.eu"
_TOKEN: Final = "ECOLYZER_ENTSOE_TOKEN"  # noqa: S105 - a variable's name
_SHORTEST_WINDOW: Final = 3 * 3600.0
_LONGEST_WINDOW: Final = 24 * 3600.0
#: A ZIP of 1 MiB could contain a thousand times as much.
_MAX_UNPACKED: Final = 8 << 20


class Entsoe:
    """``GET /api`` with documentType A75 and processType A16 for an area's Energy Identification Code."""

    source = "ENTSO-E mix"
    replaces = False
    fixed = False

    def __init__(
        self, base: str, token: Secret, area: str, zone: str, max_age: float, floor_s: float, fetcher: Fetcher
    ):
        self.floor_s = floor_s
        self.secrets = (token,)
        self.identity = f"{self.source} {base} {area}"
        self._base = base
        self._token = token
        self._area = area
        self._zone = zone
        self._window = min(max(max_age, _SHORTEST_WINDOW), _LONGEST_WINDOW)
        self._fetcher = fetcher

    @classmethod
    def open(cls, request: LiveRequest) -> Entsoe:
        """Raises ConfigError: no token, or no area of the zone."""
        request.average_only(cls.source)
        token = need_secret(request.environ, _TOKEN, request.key, cls.source)
        area = find_area(request.region or request.zone)
        if area is None:
            raise ConfigError(
                request.key if request.region is None else request.region_key,
                f"ENTSO-E has no area for {(request.region or request.zone)[:40]}",
                f"give {request.region_key}: DE-LU, SE3 or a 16-character EIC code (Great Britain: use neso)",
            )
        zone = request.region or request.zone
        return cls(
            request.base(_PUBLIC), token, area, zone, request.max_age, request.floor_s, Fetcher(request.environ)
        )

    def fetch(self, now_s: float) -> Sequence[Figure]:
        """The mix of the latest time that all types have reported. Raises Problem."""
        query = {
            "securityToken": self._token.reveal(),
            "documentType": "A75",
            "processType": "A16",
            "in_Domain": self._area,
            "periodStart": _hour(now_s - self._window),
            "periodEnd": _hour(now_s + 3600.0),
        }
        body = self._fetcher.get(
            f"{self._base}/api?{urlencode(query)}",
            {"Accept": "application/xml"},
            remedy=f"check {_TOKEN} and the area {self._area}",
        )
        mix = latest_mix(_unpacked(body), self._area)
        return [
            Figure(
                grams_per_kwh=grams(mix.grams_per_kwh),
                zone=self._zone,
                basis="derived_lifecycle_mix",
                source=self.source,
                source_detail=(
                    f"ENTSO-E Transparency Platform, generation per type (A75) of {self._area}, x medians of IPCC "
                    "AR5 WGIII Annex III (technology_carbon.csv), gCO2e/kWh, under the platform's terms"
                ),
                from_s=mix.from_s,
                estimated=True,
            )
        ]


def _hour(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s // 3600 * 3600, timezone.utc).strftime("%Y%m%d%H%M")


def _unpacked(body: bytes) -> bytes:
    """The XML document of the answer, which may be a ZIP of one. Raises Problem."""
    if not body.startswith(b"PK"):
        return body
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            names = [name for name in archive.namelist()[:100] if name.lower().endswith(".xml")]
            if len(names) != 1:
                raise Problem("not_xml", "the ZIP does not contain exactly one XML document")
            with archive.open(names[0]) as file:
                document = file.read(_MAX_UNPACKED + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError):
        raise Problem("not_xml", "the answer is a damaged ZIP") from None
    if len(document) > _MAX_UNPACKED:
        raise Problem("too_large", f"the document is larger than {_MAX_UNPACKED >> 20} MiB")
    return document
