"""The pages of the meter's HTTP server and their content negotiation, apart from the transport."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.export.exposition import CLASSIC_CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE, render
from ecolyzer_otel.export.store import MetricStore

__all__ = ["TEXT", "Health", "Pages", "accepts_gzip", "accepts_openmetrics"]

#: Content type of plain pages.
TEXT: Final = "text/plain; charset=utf-8"
_INDEX: Final = b"ecolyzer-otel\n\n/metrics  Prometheus and OpenMetrics\n/healthz  state of the meter\n"

#: Returns (healthy, details).
Health = Callable[[], tuple[bool, dict[str, Any]]]


def _preferences(header: str) -> list[tuple[str, dict[str, str], float]]:
    """``a/b;version=1;q=0.5, …`` as (name, parameters, quality)."""
    found = []
    for part in header.split(","):
        name, *texts = (text.strip().lower() for text in part.split(";"))
        parameters = {key.strip(): value.strip(' "') for key, _, value in (text.partition("=") for text in texts)}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if name:
            found.append((name, parameters, quality))
    return found


def accepts_openmetrics(accept: str) -> bool:
    """Whether an Accept header prefers OpenMetrics 1.0 to the classic text format (which wins a tie)."""
    best, text, anything = 0.0, None, 0.0
    for name, parameters, quality in _preferences(accept):
        if name == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0":
            best = max(best, quality)
        elif name == "text/plain":
            text = max(text or 0.0, quality)
        elif name in ("text/*", "*/*"):
            anything = max(anything, quality)
    return best > (anything if text is None else text)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    allowed = {name: quality > 0 for name, _, quality in _preferences(accept_encoding)}
    return allowed.get("gzip", allowed.get("*", False))


class Pages:
    """The answers to GET by path.

    Args:
        store: what ``/metrics`` shows.
        health: what ``/healthz`` shows: 200 or 503, with the details as JSON.
        page_seconds: a page of metrics is reused for this long; 0 renders each.
        version: a page of metrics is rendered again at once when this has changed.
    """

    def __init__(
        self, store: MetricStore, *, health: Health, page_seconds: float, version: Callable[[], int]
    ) -> None:
        self._store = store
        self._health = health
        self._page_seconds = page_seconds
        self._version = version
        self._kept: dict[bool, tuple[float, int, bytes]] = {}
        self._rendering = threading.Lock()

    def get(self, path: str, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Status, content type and body of one page."""
        if path == "/metrics":
            return self._metrics(headers.get("Accept", ""))
        if path == "/healthz":
            healthy, details = self._health()
            body = json.dumps(details, default=str).encode() + b"\n"
            return (200 if healthy else 503), "application/json", body
        if path == "/":
            return 200, TEXT, _INDEX
        return 404, TEXT, b"not found; see /\n"

    def _metrics(self, accept: str) -> tuple[int, str, bytes]:
        openmetrics = accepts_openmetrics(accept)
        content_type = OPENMETRICS_CONTENT_TYPE if openmetrics else CLASSIC_CONTENT_TYPE
        if not self._page_seconds:
            return 200, content_type, render(self._store, openmetrics)
        with self._rendering:
            rendered, version, page = self._kept.get(openmetrics, (0.0, -1, b""))
            if time.monotonic() - rendered > self._page_seconds or version != self._version():
                version = self._version()
                page = render(self._store, openmetrics)
                self._kept[openmetrics] = time.monotonic(), version, page
        return 200, content_type, page
