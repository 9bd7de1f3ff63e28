"""How a worker reaches its meter: through a Unix socket, or by plain calls in the same process."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Final, Protocol

from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.wire.native import original
from ecolyzer_otel.wire.protocol import Frames, FromMeter, FromWorker, encode

__all__ = ["Link", "PrivateLink", "SocketLink"]

#: With this much unread by the meter, nothing more is handed over: what finishes meanwhile waits in the queue,
#: which is bounded.
_CONGESTED: Final = 1 << 20
_AT_ONCE: Final = 1 << 16
#: A meter that has read nothing for this long is as good as dead to this worker, in seconds.
_PATIENCE: Final = 5.0
#: Seconds between two starts of a meter, from first to last.
_RESTART: Final = (0.5, 60.0)
_LOG = logging.getLogger(__name__)


class Link(ABC):
    """A worker's side of its connection. Used by one thread; no method raises or blocks."""

    @abstractmethod
    def connect(self) -> bool:
        """Try once; whether the meter is there."""

    @abstractmethod
    def send(self, message: FromWorker) -> bool:
        """Hand a message over; False when the link is broken, and then it is closed."""

    @abstractmethod
    def receive(self) -> list[FromMeter] | None:
        """What has come, and a try to get rid of what waits; None when the link is broken."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""

    #: Whether the meter receives what was sent whatever becomes of this process.
    outlives_process: ClassVar[bool] = True
    #: Whether :meth:`receive` costs nothing, so that each wake-up of the background thread may call it.
    free_to_receive: ClassVar[bool] = False

    def on_message(self, ring: Callable[[], None]) -> None:  # noqa: B027 - most links have a descriptor for that
        """Call ``ring`` when there is something to receive and :attr:`descriptor` does not show it."""

    def forked(self) -> None:
        """In a forked child: give the parent's connection up."""
        self.close()

    @property
    def descriptor(self) -> int:
        """Becomes readable when there is something to receive; -1 for none."""
        return -1

    @property
    def unsent(self) -> bool:
        """Whether something waits to be sent."""
        return False

    @property
    def congested(self) -> bool:
        """Whether the meter should be given time to read."""
        return False


class SocketLink(Link):
    """A link to the meter process or the node agent that listens on ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket: Any = None
        self._frames = Frames("meter")
        self._waiting = bytearray()
        self._moved = 0.0

    def connect(self) -> bool:  # noqa: D102 - see Link
        self.close()
        try:
            # gevent's would wait in the event loop of the service.
            module = original("socket", "AF_UNIX"), original("socket", "SOCK_STREAM")
            link = original("socket", "socket")(*module)
        except (OSError, AttributeError):
            return False
        link.setblocking(False)
        try:
            link.connect(self.path)
        except OSError:  # not there, not allowed, or its queue is full
            link.close()
            return False
        self._socket, self._frames = link, Frames("meter")
        self._waiting.clear()
        self._moved = monotonic()
        return True

    def send(self, message: FromWorker) -> bool:  # noqa: D102
        if self._socket is None:
            return False
        if not self._waiting:
            self._moved = monotonic()
        self._waiting += encode(message)
        return self._push()

    def _push(self) -> bool:
        try:
            while self._waiting:
                sent = self._socket.send(self._waiting)
                del self._waiting[:sent]
                self._moved = monotonic()
        except BlockingIOError:
            if monotonic() - self._moved > _PATIENCE:
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
            while data := self._socket.recv(_AT_ONCE):
                messages += self._frames.feed(data)  # type: ignore[arg-type]
                if len(data) < _AT_ONCE:  # that was all: each further look gives the interpreter's lock away
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
        return bool(self._waiting)

    @property
    def congested(self) -> bool:  # noqa: D102
        return len(self._waiting) > _CONGESTED


class Startable(Protocol):
    """A meter of a service's own, which its workers can start."""

    #: The path of its socket.
    path: str

    def start(self) -> None:
        """Start it, unless another process is about to.

        Raises:
            OSError: it cannot be started from here.
        """


class PrivateLink(SocketLink):
    """A link to a service's own meter, which is started when it is not there.

    Args:
        meter: the meter.
    """

    def __init__(self, meter: Startable) -> None:
        super().__init__(meter.path)
        self._meter = meter
        self._next_start = 0.0
        self._pause = _RESTART[0]
        self._warned = False

    def connect(self) -> bool:  # noqa: D102
        if super().connect():
            return True
        now = monotonic()
        if now < self._next_start:
            return False
        # One that keeps dying is started ever more seldom.
        calm = now - self._next_start > _RESTART[1]
        self._pause = _RESTART[0] if calm else min(2 * self._pause, _RESTART[1])
        self._next_start = now + self._pause
        try:
            self._meter.start()
        except FileNotFoundError:
            return False  # the last one took the folder along just now
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
