"""A worker's side of the connection to its meter, through a Unix socket.

The link to a meter in the same process is :mod:`ecolyzer_otel.boot.local_link`.
"""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Final, Protocol

from ecolyzer_otel.common.backoff import Backoff
from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.wire.native import unpatched
from ecolyzer_otel.wire.protocol import Frames, FromMeter, FromWorker, encode

__all__ = ["Link", "PrivateLink", "SocketLink"]

#: With this many bytes unsent, the link is congested: finished calls wait in the worker's queue, which is bounded.
_CONGESTED: Final = 1 << 20
_RECEIVE_BYTES: Final = 1 << 16
#: A meter that has read nothing for this long, in seconds, counts as dead.
_STALLED_SECONDS: Final = 5.0
#: Seconds between two starts of a meter, from first to last.
_RESTART: Final = (0.5, 60.0)
_LOG = logging.getLogger(__name__)


class Link(ABC):
    """A connection to the meter. Used by one thread; no method raises or blocks."""

    @abstractmethod
    def connect(self) -> bool:
        """Try once to connect; returns whether it succeeded."""

    @abstractmethod
    def send(self, message: FromWorker) -> bool:
        """Send a message; returns False if the link is broken, which closes it."""

    @abstractmethod
    def receive(self) -> list[FromMeter] | None:
        """Returns the messages received; None if the link is broken. Also tries to send unsent bytes."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    #: Whether the meter receives sent messages even if this process ends.
    outlives_process: ClassVar[bool] = True
    #: Whether :meth:`receive` costs nothing, so that each wake-up of the background thread may call it.
    free_to_receive: ClassVar[bool] = False

    def on_message(self, wake: Callable[[], None]) -> None:  # noqa: B027 - most links have a descriptor for that
        """Call ``wake`` when there is a message to receive and :attr:`descriptor` does not show it."""

    def forked(self) -> None:
        """In a forked child: close the parent's connection."""
        self.close()

    @property
    def descriptor(self) -> int:
        """Becomes readable when there is a message to receive; -1 without a descriptor."""
        return -1

    @property
    def unsent(self) -> bool:
        """Whether bytes wait to be sent."""
        return False

    @property
    def congested(self) -> bool:
        """Whether the sender should wait until the meter has read more."""
        return False


class SocketLink(Link):
    """A link to the meter process or the node agent that listens on ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket: Any = None
        self._frames = Frames("meter")
        self._unsent = bytearray()
        self._moved = 0.0

    def connect(self) -> bool:  # noqa: D102 - see Link
        self.close()
        try:
            # gevent's socket would wait in the event loop of the service.
            kind = unpatched("socket", "AF_UNIX"), unpatched("socket", "SOCK_STREAM")
            link = unpatched("socket", "socket")(*kind)
        except (OSError, AttributeError):
            return False
        link.setblocking(False)
        try:
            link.connect(self.path)
        except OSError:  # missing, not permitted, or its queue is full
            link.close()
            return False
        self._socket, self._frames = link, Frames("meter")
        self._unsent.clear()
        self._moved = monotonic()
        return True

    def send(self, message: FromWorker) -> bool:  # noqa: D102
        if self._socket is None:
            return False
        if not self._unsent:
            self._moved = monotonic()
        self._unsent += encode(message)
        return self._push()

    def _push(self) -> bool:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent)
                del self._unsent[:sent]
                self._moved = monotonic()
        except BlockingIOError:
            if monotonic() - self._moved > _STALLED_SECONDS:
                self.close()
                return False
        except OSError:
            self.close()
            return False
        return True

    def receive(self) -> list[FromMeter] | None:  # noqa: D102
        if self._socket is None or not self._push():
            return None
        messages: list[FromMeter] = []
        try:
            while data := self._socket.recv(_RECEIVE_BYTES):
                messages += self._frames.feed(data)
                if (
                    len(data) < _RECEIVE_BYTES
                ):  # no more to read: each further call would release the interpreter's lock
                    return messages
        except BlockingIOError:
            return messages
        except (OSError, ProtocolError):
            pass
        self.close()
        return messages or None

    def close(self) -> None:  # noqa: D102
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    @property
    def descriptor(self) -> int:  # noqa: D102
        return -1 if self._socket is None else int(self._socket.fileno())

    @property
    def unsent(self) -> bool:  # noqa: D102
        return bool(self._unsent)

    @property
    def congested(self) -> bool:  # noqa: D102
        return len(self._unsent) > _CONGESTED


class Startable(Protocol):
    """A meter that serves one service, and that its workers can start."""

    #: The path of its socket.
    path: str

    def start(self) -> None:
        """Start it, unless another process does.

        Raises:
            OSError: it cannot be started from here.
        """


class PrivateLink(SocketLink):
    """A link to the service's own meter, which is started if it does not run.

    Args:
        meter: the meter.
    """

    def __init__(self, meter: Startable) -> None:
        super().__init__(meter.path)
        self._meter = meter
        self._next_start = 0.0
        self._backoff = Backoff(*_RESTART)
        self._warned = False

    def connect(self) -> bool:  # noqa: D102
        if super().connect():
            return True
        now = monotonic()
        if now < self._next_start:
            return False
        # A meter that ends again and again is started less and less often.
        if now - self._next_start > _RESTART[1]:
            self._backoff.succeed()
        self._next_start = now + self._backoff.fail()
        try:
            self._meter.start()
        except FileNotFoundError:
            return False  # the last meter has just removed the folder
        except OSError as error:
            if not self._warned:
                self._warned = True
                _LOG.warning(
                    "ecolyzer: the meter cannot be reached or started (%s); requests are not measured; a process "
                    "that changes its user needs the node agent (ecolyzer agent)",
                    error,
                )
            return False
        return super().connect()
