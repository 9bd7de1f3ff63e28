"""A user's own HTTP endpoint that answers a GET with one figure as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.fetch import Fetcher
from ecolyzer_otel.impact.live.figure import Figure, Problem, grams, instant, label
from ecolyzer_otel.impact.live.provider import OWN_FLOOR_SECONDS, LiveRequest, base_address, same_name
from ecolyzer_otel.impact.live.tokens import Secret, find_secret

__all__ = ["Endpoint"]

_MARGINAL = "marginal"


class Endpoint:
    """Answers such as ``{"grams_per_kwh": 123.4, "zone": "FR", "time": "...", "until": "...", "basis": "...",
    "source": "...", "estimated": false}``; only ``grams_per_kwh`` is required (marginal: ``basis`` too).
    """

    replaces = False
    fixed = False
    floor_s = OWN_FLOOR_SECONDS

    def __init__(self, url: str, token: Secret | None, zone: str, *, marginal: bool, fetcher: Fetcher) -> None:
        self.source = (urlsplit(url).hostname or "")[:80]
        self.identity = f"endpoint {url} {zone} {marginal}"
        self.secrets = () if token is None else (token,)
        self._url = url
        self._variable = _variable(marginal)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token.reveal()}"}
        self._zone = zone
        self._marginal = marginal
        self._fetcher = fetcher

    @classmethod
    def open(cls, text: str, request: LiveRequest) -> Endpoint:
        """Raises ConfigError: the address is not allowed, or the token cannot be sent."""
        if request.url is not None:
            raise ConfigError(request.key, "is an address already", "remove --marginal-url and --grid-url")
        return cls(
            base_address(text, request.key, query=True),
            find_secret(request.environ, _variable(request.marginal)),
            request.region or request.zone,
            marginal=request.marginal,
            fetcher=Fetcher(request.environ),
        )

    def fetch(self, now_s: float) -> Sequence[Figure]:
        """The figure of its answer. Raises Problem."""
        answer = self._fetcher.get_json(self._url, self._headers, remedy=f"check {self._variable} and the address")
        if not isinstance(answer, dict) or "grams_per_kwh" not in answer:
            raise Problem("bad_value", "the answer is not a JSON object with grams_per_kwh")
        zone = label(answer["zone"], "zone") if answer.get("zone") is not None else self._zone
        if not same_name(zone, self._zone):
            raise Problem("wrong_zone", f"it answered for {zone} instead of {self._zone}")
        reported = answer.get("source")
        return [
            Figure(
                grams_per_kwh=grams(answer["grams_per_kwh"], "grams_per_kwh"),
                zone=zone,
                basis=check_basis(answer.get("basis"), marginal=self._marginal),
                source=self.source,
                source_detail=f"{self.source}: {label(reported, 'source')}"
                if reported is not None
                else self.source,
                from_s=_time(answer, "time", now_s),
                until_s=None if answer.get("until") is None else instant(answer["until"], "until"),
                estimated=answer.get("estimated") is True,
            )
        ]


def check_basis(value: Any, *, marginal: bool) -> str:
    """The basis that a user's source states; marginal and average must not be mixed. Raises Problem."""
    basis = "unspecified" if value is None or value == "" else label(value, "basis")
    if marginal and basis != _MARGINAL:
        raise Problem(
            "bad_value", f"the basis is {basis}, but marginal figures are required", "give basis marginal"
        )
    if not marginal and basis == _MARGINAL:
        raise Problem("bad_value", "the basis is marginal, but average figures are required", "give --marginal")
    return basis


def _time(answer: dict[str, Any], name: str, otherwise: float) -> float:
    return otherwise if answer.get(name) is None else instant(answer[name], name)


def _variable(marginal: bool) -> str:
    return "ECOLYZER_MARGINAL_TOKEN" if marginal else "ECOLYZER_GRID_TOKEN"
