"""The one shape of all live sources, and the request that opens one."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.figure import Figure
from ecolyzer_otel.impact.live.tokens import Secret

__all__ = ["LiveRequest", "Provider", "base_address", "is_loopback", "same_name"]

#: Shortest time between two requests to a public API, and to one of the user's own, in seconds.
PUBLIC_FLOOR_SECONDS: Final = 60.0
OWN_FLOOR_SECONDS: Final = 1.0


class Provider(Protocol):
    """A source of figures. One thread at a time calls ``fetch``, which may block for a bounded time."""

    @property
    def source(self) -> str:
        """Its name, short enough for a metric label."""

    @property
    def identity(self) -> str | None:
        """The cache's key for its figures, unique to them; None: they are not cached."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must not appear in any text."""

    @property
    def floor_s(self) -> float:
        """Shortest time between two calls of ``fetch`` in seconds."""

    @property
    def replaces(self) -> bool:
        """Whether a fetch returns all figures, as a file does, instead of the newest only."""

    @property
    def fixed(self) -> bool:
        """Whether its one figure holds at any time and never expires (a file with a figure per zone)."""

    def fetch(self, now_s: float) -> Sequence[Figure] | None:
        """The figures in order of time, the newest last; None: unchanged.

        Raises:
            Problem: no figure could be had.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """Which live source to open, for which place.

    ``source`` is the option's text: electricitymaps, neso, rte, entsoe, watttime, ``csv:FILE`` or an http(s)
    address; ``key`` is the option as the user spelled it, for messages.

    ``zone`` is our grid zone (``FR``, ``US-CA``), ``em_zone`` Electricity Maps' name of it where available,
    ``region`` the provider's name of it where the user gave one, ``cloud`` provider and region where this runs in a
    cloud. ``url`` replaces the address of the public API. ``marginal`` requests marginal figures, which are never
    mixed with average ones.

    A figure is fetched again after ``refresh`` seconds; without a new one, the last figure holds for ``max_age``
    seconds from its own time. ``cache`` is the option: a folder, None for the user's cache folder, ``none`` for
    none. ``environ`` holds tokens and the proxy; default ``os.environ``.
    """

    source: str = field(repr=False)
    key: str
    zone: str
    em_zone: str | None = None
    region: str | None = None
    url: str | None = field(default=None, repr=False)
    refresh: float
    max_age: float
    cache: str | None
    marginal: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    cloud: tuple[str, str] | None = None

    @property
    def region_key(self) -> str:
        """The option that names the provider's region, for error messages."""
        return (
            "--marginal-region (ECOLYZER_MARGINAL_REGION)"
            if self.marginal
            else "--grid-region (ECOLYZER_GRID_REGION)"
        )

    @property
    def floor_s(self) -> float:
        """Shortest time between two requests in seconds; shorter for a server of the user's own."""
        return PUBLIC_FLOOR_SECONDS if self.url is None else OWN_FLOOR_SECONDS

    def base(self, public: str) -> str:
        """The address of the API without a slash at its end. Raises ConfigError."""
        if self.url is None:
            return public
        key = "--marginal-url (ECOLYZER_MARGINAL_URL)" if self.marginal else "--grid-url (ECOLYZER_GRID_URL)"
        return base_address(self.url, key)

    def average_only(self, source: str) -> None:
        """Refuse a source of average figures where marginal ones are requested. Raises ConfigError."""
        if self.marginal:
            raise ConfigError(
                self.key,
                f"{source} has average carbon intensities, not marginal ones",
                "give watttime, csv:FILE or an address whose basis is marginal",
            )


def base_address(text: str, key: str, *, query: bool = False) -> str:
    """``text`` as an address to fetch from, without the slash at its end.

    Errors show its host only: addresses may contain tokens.

    Raises:
        ConfigError: it is not HTTPS (plain HTTP: loopback only), or carries a password, a query or a fragment.
    """
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or any(letter <= " " for letter in text.strip()):
        raise ConfigError(key, "is not an http(s) address", "give one such as https://grid.example.org/now")
    if parts.username is not None or parts.password is not None:
        variable = "ECOLYZER_MARGINAL_TOKEN" if "MARGINAL" in key else "ECOLYZER_GRID_TOKEN"
        raise ConfigError(key, f"the address at {host} contains a password", f"put it into {variable} instead")
    if parts.fragment or (parts.query and not query):
        raise ConfigError(key, f"the address at {host} has a ? or # part", "remove it")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(key, f"http to {host} is not encrypted", "give an https address (http: loopback only)")
    return text.strip().rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether ``host`` is the loopback interface, by its name or address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_name(one: str, other: str) -> bool:
    """Whether two spellings mean the same zone: case, spaces, ``_`` and ``-`` do not matter."""

    def plain(text: str) -> str:
        return "".join(letter for letter in text if letter not in " _-").casefold()

    return plain(one) == plain(other)
