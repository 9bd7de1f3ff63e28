"""The one shape that all sources have, and what is known when one is opened."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.figure import Figure
from ecolyzer_otel.impact.live.tokens import Secret

__all__ = ["Ask", "Provider", "base_address", "is_loopback", "same_name"]

#: Shortest time between two requests to a public API, and to one of the user's own, in seconds.
PUBLIC_FLOOR_SECONDS: Final = 60.0
OWN_FLOOR_SECONDS: Final = 1.0


class Provider(Protocol):
    """A source of figures. ``fetch`` is called by one thread at a time and may block for a bounded time."""

    @property
    def source(self) -> str:
        """Its name, fit for a metric label."""

    @property
    def identity(self) -> str | None:
        """What tells its figures from all others, as the cache's key; None: not to be cached."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must not show in any text."""

    @property
    def floor_s(self) -> float:
        """Shortest time between two calls of ``fetch`` in seconds."""

    @property
    def replaces(self) -> bool:
        """Whether a fetch gives all that is known, as a file does, and not the newest only."""

    @property
    def fixed(self) -> bool:
        """Whether its one figure stands at any time and never grows old (a file with a figure per zone)."""

    def fetch(self, now_s: float) -> Sequence[Figure] | None:
        """The figures in order of time, the newest last; None: nothing has changed.

        Raises:
            Problem: there are none.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the user set, as :func:`ecolyzer_otel.impact.live.open.open_live` has it. ``max_age`` is seconds."""

    key: str
    zone: str
    em_zone: str | None
    region: str | None
    url: str | None = field(repr=False)
    max_age: float
    marginal: bool
    environ: Mapping[str, str] = field(repr=False)
    cloud: tuple[str, str] | None

    @property
    def region_key(self) -> str:
        """The option in which the user names the provider's region, for error messages."""
        return (
            "--marginal-region (ECOLYZER_MARGINAL_REGION)"
            if self.marginal
            else "--grid-region (ECOLYZER_GRID_REGION)"
        )

    @property
    def floor_s(self) -> float:
        """Shortest time between two requests in seconds: a server of the user's own may be asked more often."""
        return PUBLIC_FLOOR_SECONDS if self.url is None else OWN_FLOOR_SECONDS

    def base(self, public: str) -> str:
        """The address of the API without a slash at its end. Raises ConfigError."""
        if self.url is None:
            return public
        key = "--marginal-url (ECOLYZER_MARGINAL_URL)" if self.marginal else "--grid-url (ECOLYZER_GRID_URL)"
        return base_address(self.url, key)

    def average_only(self, source: str) -> None:
        """Refuse to take average figures for marginal ones. Raises ConfigError."""
        if self.marginal:
            raise ConfigError(
                self.key,
                f"{source} gives average carbon intensities, not marginal ones",
                "give watttime, csv:FILE or an address whose basis is marginal",
            )


def base_address(text: str, key: str, *, query: bool = False) -> str:
    """``text`` as an address to fetch from, without the slash at its end.

    Nothing of it but the host appears in an error: people write tokens into addresses.

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
        raise ConfigError(key, f"the address at {host} holds a password", f"put it into {variable} instead")
    if parts.fragment or (parts.query and not query):
        raise ConfigError(key, f"the address at {host} has a ? or # part", "leave it out")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(key, f"http to {host} is not encrypted", "give an https address (http: loopback only)")
    return text.strip().rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its name or address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_name(one: str, other: str) -> bool:
    """Whether two spellings mean one zone: case, spaces, ``_`` and ``-`` carry no meaning."""

    def plain(text: str) -> str:
        return "".join(letter for letter in text if letter not in " _-").casefold()

    return plain(one) == plain(other)
