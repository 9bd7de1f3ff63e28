"""WattTime v3: marginal operating emissions rate (MOER) of a grid region, every 5 minutes (docs.watttime.org)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import urlencode

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.fetch import Fetcher
from ecolyzer_otel.impact.live.figure import Figure, Problem, grams, instant, label
from ecolyzer_otel.impact.live.provider import LiveRequest, same_name
from ecolyzer_otel.impact.live.tokens import Secret, need_secret

__all__ = ["GRAMS_PER_KWH_OF_LBS_PER_MWH", "WattTime"]

_PUBLIC: Final = "https://api.watttime.org"
_NAME: Final = "ECOLYZER_WATTTIME_USERNAME"
_PASSWORD: Final = "ECOLYZER_WATTTIME_PASSWORD"  # noqa: S105 - a variable's name
_SIGNAL: Final = "co2_moer"
_UNITS: Final = "lbs_co2_per_mwh"
#: 1 lb = 0.45359237 kg exactly (international pound, 1959), so 1 lb/MWh = 0.45359237 g/kWh.
GRAMS_PER_KWH_OF_LBS_PER_MWH: Final = 0.45359237
_DETAIL: Final = "WattTime API v3 historical, co2_moer (marginal), lb/MWh x 0.45359237, under its terms"
_WINDOW_SECONDS: Final = 2 * 3600.0


class WattTime:
    """``GET /v3/historical`` of the last two hours, after ``GET /login``, whose token is valid for half an hour."""

    source = "WattTime"
    replaces = False
    fixed = False

    def __init__(self, base: str, name: Secret, password: Secret, region: str, floor_s: float, fetcher: Fetcher):
        self.floor_s = floor_s
        self.identity = f"{self.source} {base} {region}"
        self._base = base
        self._name = name
        self._password = password
        self._region = region
        self._fetcher = fetcher
        self._token: Secret | None = None

    @classmethod
    def open(cls, request: LiveRequest) -> WattTime:
        """Raises ConfigError: average figures requested, no account, or no region."""
        if not request.marginal:
            raise ConfigError(
                request.key,
                "WattTime has marginal carbon intensities, not average ones",
                "give --marginal watttime (ECOLYZER_MARGINAL)",
            )
        name = need_secret(request.environ, _NAME, request.key, cls.source)
        password = need_secret(request.environ, _PASSWORD, request.key, cls.source)
        if request.region is None:
            raise ConfigError(
                request.key, "WattTime has its own region names", f"give {request.region_key}: CAISO_NORTH ..."
            )
        return cls(request.base(_PUBLIC), name, password, request.region, request.floor_s, Fetcher(request.environ))

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Password, login header and the current token."""
        pair = Secret(f"{self._name.reveal()}:{self._password.reveal()}", _PASSWORD)
        return (pair, self._password, *((self._token,) if self._token else ()))

    def fetch(self, now_s: float) -> Sequence[Figure]:
        """The figures of the last two hours. Raises Problem."""
        fresh = self._token is None
        token = self._token or self._login()
        try:
            return self._figures(self._historical(token, now_s))
        except Problem as problem:
            # An expired token is answered with 401; a new token that is refused stays refused.
            if problem.outcome != "unauthorized" or fresh:
                raise
        return self._figures(self._historical(self._login(), now_s))

    def _login(self) -> Secret:
        self._token = None
        pair = f"{self._name.reveal()}:{self._password.reveal()}".encode()
        answer = self._fetcher.get_json(
            f"{self._base}/login",
            {"Authorization": "Basic " + base64.b64encode(pair).decode()},
            remedy=f"check {_NAME} and {_PASSWORD}",
        )
        token = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token or not all("!" <= letter <= "~" for letter in token):
            raise Problem("bad_value", "its login returned no token")
        self._token = Secret(token, "token")
        return self._token

    def _historical(self, token: Secret, now_s: float) -> Any:
        query = {
            "region": self._region,
            "signal_type": _SIGNAL,
            "start": _time(now_s - _WINDOW_SECONDS),
            "end": _time(now_s),
        }
        return self._fetcher.get_json(
            f"{self._base}/v3/historical?{urlencode(query)}",
            {"Authorization": f"Bearer {token.reveal()}"},
            remedy=f"check that your plan covers {self._region} (--marginal-region)",
        )

    def _figures(self, answer: Any) -> list[Figure]:
        meta, data = (answer.get("meta"), answer.get("data")) if isinstance(answer, dict) else (None, None)
        if not isinstance(meta, dict) or not isinstance(data, list):
            raise Problem("bad_value", "the answer has no meta or no data")
        region = label(meta.get("region"), "region")
        if not same_name(region, self._region):
            raise Problem("wrong_zone", f"it answered for {region} instead of {self._region}")
        if meta.get("units") != _UNITS or meta.get("signal_type") != _SIGNAL:
            # An index of 0 to 100, or dollars of health damage, would look like a plausible intensity.
            raise Problem("bad_value", f"the answer is not {_SIGNAL} in {_UNITS}")
        values = {instant(point.get("point_time"), "point_time"): point.get("value") for point in map(_row, data)}
        starts = sorted(values)
        if not starts:
            raise Problem("no_data", f"it has no figure for {region} in the last two hours")
        return [
            Figure(
                grams_per_kwh=grams(_in_grams(values[start]), "value"),
                zone=region,
                basis="marginal",
                source=self.source,
                source_detail=_DETAIL,
                from_s=start,
                until_s=end,
                estimated=True,
            )
            for start, end in zip(starts, [*starts[1:], None], strict=True)
        ]


def _row(point: Any) -> dict[str, Any]:
    if not isinstance(point, dict):
        raise Problem("bad_value", "a point of data is not a JSON object")
    return point


def _in_grams(value: Any) -> Any:
    usable = isinstance(value, (float, int)) and not isinstance(value, bool) and abs(value) < 1e6
    return value * GRAMS_PER_KWH_OF_LBS_PER_MWH if usable else None


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s // 60 * 60, timezone.utc).isoformat()
