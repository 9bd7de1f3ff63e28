"""How a worker reaches its meter: through a Unix socket, or by plain calls in the same process."""

from __future__ import annotations

import contextlib
import select
import socket
from abc import ABC, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING

from ecolyzer_otel.agent.protocol import Frames, FromMeter, FromWorker, encode
from ecolyzer_otel.errors import ProtocolError

if TYPE_CHECKING:
    from ecolyzer_otel.agent.client import Client
    from ecolyzer_otel.meter import Meter

__all__ = ["Link", "LocalLink", "SocketLink"]

#: A meter that does not read for this long is as good as dead to this worker.
_SEND_TIMEOUT = 0.5


class Link(ABC):
    """A worker's side of its connection. Used by one thread; no method raises."""

    @abstractmethod
    def connect(self) -> bool:
        """Try once; whether the meter is there."""

    @abstractmethod
    def send(self, message: FromWorker) -> bool:
        """Hand a message over; False when the link is broken, and then it is closed."""

    @abstractmethod
    def receive(self, timeout: float) -> list[FromMeter] | None:
        """What has come, waiting at most ``timeout`` seconds for the first; None when the link is broken."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""


class SocketLink(Link):
    """A link to the meter process or the node agent that listens on ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._frames = Frames("meter")

    def connect(self) -> bool:  # noqa: D102 - see Link
        self.close()
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(_SEND_TIMEOUT)
        try:
            link.connect(self._path)
        except OSError:
            link.close()
            return False
        self._socket, self._frames = link, Frames("meter")
        return True

    def send(self, message: FromWorker) -> bool:  # noqa: D102
        if self._socket is None:
            return False
        try:
            self._socket.sendall(encode(message))
        except (OSError, ProtocolError):
            self.close()
            return False
        return True

    def receive(self, timeout: float) -> list[FromMeter] | None:  # noqa: D102
        messages: list[FromMeter] = []
        deadline = monotonic() + timeout
        while self._socket is not None:
            wait = 0.0 if messages else max(0.0, deadline - monotonic())
            try:
                if not select.select([self._socket], [], [], wait)[0]:
                    return messages
                data = self._socket.recv(1 << 16)
                if not data:
                    break
                messages += self._frames.feed(data)  # type: ignore[arg-type]
            except (OSError, ValueError, ProtocolError):
                break
        self.close()
        return messages or None

    def close(self) -> None:  # noqa: D102
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


class LocalLink(Link):
    """A link to a meter that is a thread of this process."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._client: Client | None = None

    def connect(self) -> bool:  # noqa: D102
        self._client = self._meter.join()
        return True

    def send(self, message: FromWorker) -> bool:  # noqa: D102
        if self._client is None or self._meter.stopped:
            return False
        self._meter.hear(self._client, message)
        return True

    def receive(self, timeout: float) -> list[FromMeter] | None:  # noqa: D102
        if self._client is None or self._meter.stopped:
            return None
        return self._client.take(timeout)

    def close(self) -> None:  # noqa: D102
        if self._client is not None:
            self._meter.leave(self._client)
            self._client = None
