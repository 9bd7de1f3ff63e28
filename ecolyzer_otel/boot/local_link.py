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
        notify: called, by the meter's thread, when it has something for the worker.
    """

    def __init__(self, meter: Meter, notify: Callable[[], None] = lambda: None) -> None:
        self._meter = meter
        self._client: Client | None = None
        self.notify = notify

    def connect(self) -> bool:  # noqa: D102
        self._client = self._meter.join()
        self._client.notify = self.notify
        return True

    def send(self, message: FromWorker) -> bool:  # noqa: D102
        if self._client is None or self._meter.stopped:
            return False
        self._client = self._meter.hear(self._client, message)
        return True

    def receive(self) -> list[FromMeter] | None:  # noqa: D102
        if self._client is None or self._meter.stopped:
            return None
        return self._client.take()

    def close(self) -> None:  # noqa: D102
        if self._client is not None:
            self._meter.leave(self._client)
            self._client = None
