"""The one shape of everything that exports the store: the HTTP server, OTLP, the journal, the bridge.

Each constructor takes the store first and keyword-only options after it, and raises for an option that cannot be
used.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Exporter"]


class Exporter(Protocol):
    """Exports the metric store from :meth:`start` until :meth:`stop`."""

    def start(self) -> None:
        """Begin to export, without blocking. A second call does nothing."""

    def stop(self, timeout_seconds: float = ...) -> bool:
        """Deliver the last values and release threads, ports and files. A second call does nothing.

        Returns:
            True when everything was delivered. Never waits longer than ``timeout_seconds``.
        """
