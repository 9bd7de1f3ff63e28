"""The link to a meter that is a thread of the same process."""

from __future__ import annotations

from collections.abc import Callable

from ecolyzer_otel.meter import Client, Meter
from ecolyzer_otel.wire.link import Link
from ecolyzer_otel.wire.protocol import FromMeter, FromWorker

__all__ = ["LocalLink"]


class LocalLink(Link):
    """A link to a meter that is a thread of this process.

    Args:
        meter: the meter.
    """

    outlives_process = False
    free_to_receive = True

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._client: Client | None = None
        self._wake: Callable[[], None] = lambda: None

    def on_message(self, wake: Callable[[], None]) -> None:
        """Let the meter's thread call ``wake`` when it has a message for the worker."""
        self._wake = wake

    def forked(self) -> None:
        """Do nothing: the child has no meter, and the worker of the parent stays connected."""

    def connect(self) -> bool:  # noqa: D102 - see Link
        self._client = self._meter.join()
        self._client.notify = self._wake
        return True

    def send(self, message: FromWorker) -> bool:  # noqa: D102
        if self._client is None or self._meter.stopped:
            return False
        self._client = self._meter.receive(self._client, message)
        return True

    def receive(self) -> list[FromMeter] | None:  # noqa: D102
        if self._client is None or self._meter.stopped:
            return None
        return self._client.take()

    def close(self) -> None:  # noqa: D102
        if self._client is not None:
            self._meter.leave(self._client)
            self._client = None
