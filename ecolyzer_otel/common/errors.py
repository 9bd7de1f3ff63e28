"""The package's own exceptions. Each message states the problem and the remedy."""

from __future__ import annotations

__all__ = ["ConfigError", "EcolyzerError", "ProtocolError", "ReplayError"]


class EcolyzerError(Exception):
    """Base of every exception that this package raises deliberately."""


class ConfigError(EcolyzerError):
    """A setting that cannot be used.

    ``key`` is the setting as the user spelled it (``--port``, ``ECOLYZER_ZONE``, ``zone in conf.toml``),
    ``remedy`` what to set instead. ``str()`` is one line with all three.
    """

    def __init__(self, key: str, problem: str, remedy: str) -> None:
        super().__init__(f"{key}: {problem}; {remedy}")
        self.key = key
        self.problem = problem
        self.remedy = remedy


class ProtocolError(EcolyzerError):
    """An invalid frame from the other side; the connection that sent it is closed."""


class ReplayError(EcolyzerError):
    """A replay file that cannot be used; the message names the key and its expected value."""
