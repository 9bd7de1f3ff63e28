"""The one shape of everything that shows the store: the HTTP server, OTLP, the journal, the bridge.

Each is made with the store first and keyword-only options after it, and reports a setting that cannot be used when
it is made.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Exporter"]


class Exporter(Protocol):
    """Shows or stores what the metric store holds, from :meth:`start` until :meth:`stop`."""

    def start(self) -> None:
        """Begin, without waiting for anybody. A second call does nothing."""

    def stop(self, timeout_seconds: float = ...) -> bool:
        """Deliver the last values and release threads, ports and files. A second call does nothing.

        Returns:
            True when everything was delivered. Never waits longer than ``timeout_seconds``.
        """
