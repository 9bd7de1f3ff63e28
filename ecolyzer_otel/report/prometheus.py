"""A small client of the Prometheus HTTP API: instant and range queries, with errors that state a remedy.

API: https://prometheus.io/docs/prometheus/latest/querying/api/ (Thanos, Mimir and VictoriaMetrics offer it too).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.version import __version__

__all__ = ["KEY", "TOKEN_VARIABLE", "Prometheus", "Sampled"]

KEY: Final = "--prometheus"
TOKEN_VARIABLE: Final = "ECOLYZER_PROMETHEUS_TOKEN"  # noqa: S105 - the name of a variable
_TIMEOUT_SECONDS: Final = 60.0
_MAX_BYTES: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class Sampled:
    """One series of a response: its labels, including ``__name__``, and (Unix seconds, value) in order of time."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class Prometheus:
    """A Prometheus server. Its address may hold ``user:password@``; else ``token`` is sent as bearer token.

    Raises:
        ConfigError: the address cannot be used.
    """

    def __init__(self, url: str, token: str | None = None, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(KEY, "not an http(s) address", "give one such as http://localhost:9090")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        place = host if port is None else f"{host}:{port}"
        #: The address without credentials, for messages and the report.
        self.address: Final = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
        self._timeout = timeout_seconds
        self._authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        elif token:
            self._authorization = f"Bearer {token.strip()}"
        #: Warnings in the responses of the server.
        self.warnings: set[str] = set()

    def query(self, expression: str, at: float) -> list[Sampled]:
        """The value of each series at a Unix time; of a range selector, all samples in the range."""
        return self._series("query", {"query": expression, "time": f"{at:.3f}"})

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Sampled]:
        """The values of each series at ``start``, ``start + step`` ... up to ``end``."""
        parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return self._series("query_range", parameters)

    def retention(self) -> str:
        """The retention time that the server reports (``15d``); empty if it reports none."""
        try:
            data = self._get("status/runtimeinfo", {})
        except ConfigError:
            return ""
        return str(data.get("storageRetention", "")) if isinstance(data, dict) else ""

    def _series(self, path: str, parameters: Mapping[str, str]) -> list[Sampled]:
        data = self._get(path, parameters)
        found = []
        try:
            for item in data["result"]:
                points = item["values"] if "values" in item else [item["value"]]
                kept = [(float(t), float(value)) for t, value in points]
                labels = {str(name): str(value) for name, value in item["metric"].items()}
                found.append(Sampled(labels, [point for point in kept if math.isfinite(point[1])]))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise self._not_prometheus("the response has another form") from None
        return found

    def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        query = f"?{urlencode(parameters)}" if parameters else ""
        request = Request(f"{self.address}/api/v1/{path}{query}")  # noqa: S310 - http(s) only, see __init__
        request.add_header("Accept", "application/json")
        request.add_header("User-Agent", f"ecolyzer-otel/{__version__}")
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)  # never to another host
        try:
            with urlopen(request, timeout=self._timeout) as response:  # noqa: S310
                body = response.read(_MAX_BYTES + 1)
        except HTTPError as error:
            with error:
                raise self._http_error(error.code, error.read(1 << 16)) from None
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            detail = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise ConfigError(
                KEY,
                f"{self.address} does not answer ({detail})",
                "check the address, and that Prometheus is running",
            ) from None
        if len(body) > _MAX_BYTES:
            raise ConfigError(KEY, "the response is too large", "give a shorter period or add --selector")
        document = _json(body)
        if document is None or document.get("status") != "success":
            raise self._not_prometheus("the response is not the JSON of its API")
        self.warnings |= {str(text) for text in document.get("warnings") or ()}
        return document.get("data")

    def _http_error(self, status: int, body: bytes) -> ConfigError:
        if status in (401, 403):
            return ConfigError(
                KEY,
                f"{self.address} refuses access (HTTP {status})",
                f"put a bearer token into {TOKEN_VARIABLE}, or user:password@ into the address",
            )
        document = _json(body)
        if document is None or "error" not in document:
            return self._not_prometheus(f"HTTP {status}")
        detail = str(document["error"]).partition("\n")[0][:200]
        return ConfigError(
            KEY,
            f"{self.address} cannot answer (HTTP {status}: {detail})",
            "give a shorter period or add --selector",
        )

    def _not_prometheus(self, reason: str) -> ConfigError:
        return ConfigError(
            KEY,
            f"{self.address} is not a Prometheus ({reason})",
            "give the address that serves /api/v1/query",
        )


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
