"""The socket server of a meter: one loop over the listening socket, workers, liveness descriptors and time."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import weakref
from time import monotonic
from typing import Any, Final, Protocol

from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.wire.identity import Peer, peer_of
from ecolyzer_otel.wire.protocol import Frames, FromMeter, FromWorker, encode

__all__ = ["Server"]

_LOG = logging.getLogger(__name__)

#: A worker that leaves more bytes unread is disconnected.
_MAX_UNREAD: Final = 8 * 1024 * 1024
_MAX_CLIENTS: Final = 1024
#: Once no liveness descriptor is left, a forked worker has this long, in seconds, to connect.
_LINGER_SECONDS: Final = 0.3
#: Only a longer pause, in seconds, is extended by the meter's slack.
_LONG_PAUSE: Final = 0.05
#: At most so many lines about connections are logged in so many seconds; the others are counted.
_LOG_LINES: Final = 20
_LOG_SECONDS: Final = 10.0
#: A connection without hello is closed after this long, in seconds.
_HELLO_SECONDS: Final = 10.0


class ConnectedWorker(Protocol):
    """A worker, as a :class:`Receiver` returns it."""

    @property
    def peer(self) -> Peer:
        """The process at the other end."""

    @property
    def greeted(self) -> bool:
        """Whether its first message was received."""

    def take(self) -> list[FromMeter]:
        """Returns the messages for it, and removes them."""


class Receiver(Protocol):
    """The meter, as the server uses it: it receives the messages of workers and settles their requests."""

    #: Whether it has ended.
    stopped: bool

    @property
    def slack(self) -> float:
        """Seconds by which a tick may be early where something wakes the server anyway."""

    @property
    def due(self) -> bool:
        """Whether the next tick is due."""

    @property
    def idle(self) -> bool:
        """Whether no worker is connected and no request waits."""

    def tick(self) -> float:
        """Sample and settle; returns the seconds until the next tick."""

    def finish_early(self) -> None:
        """Stop waiting for further workers to connect."""

    def join(self, peer: Peer, connection: Any) -> ConnectedWorker:
        """Returns the worker of a new connection."""

    def receive(self, client: Any, message: FromWorker) -> ConnectedWorker:
        """Process a message; returns the worker that the connection belongs to from now on.

        Raises:
            ProtocolError: the message is not valid; the connection must be closed.
        """

    def leave(self, client: Any, connection: Any) -> None:
        """Note the end of a connection."""


class _Connection:
    """One worker's socket."""

    __slots__ = ("_server", "client", "frames", "since", "socket", "unsent")

    def __init__(self, link: socket.socket, peer: Peer, server: Server, receiver: Receiver) -> None:
        self.client = receiver.join(peer, self)
        self.socket = link
        self.frames = Frames("worker")
        self.unsent = bytearray()
        self.since = monotonic()
        self._server = server

    def replaced(self) -> None:
        """Close: the worker has reconnected. It counts as lost what it sent here and was not read."""
        self._server.close(self)


class Server:
    """Runs a meter until the service has ended.

    Args:
        meter: receives the messages.
        listener: a listening Unix socket; None if no process can connect.
        watched: liveness descriptors: the pidfd of the command, the lifeline pipe. Each becomes readable when its
            processes have ended. The server ends, drained, when all have and no worker is connected.
        user: the only user whose processes may connect; None if the socket's file mode decides.
    """

    def __init__(
        self, meter: Receiver, listener: socket.socket | None, watched: list[int], *, user: int | None = None
    ) -> None:
        self._meter = meter
        self._listener = listener
        self._connections: dict[int, _Connection] = {}
        self._alive = set(watched)
        self._ends = bool(watched)
        self._stopped = False
        self._lines_since, self._lines = 0.0, 0
        self._wakers: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._user = user
        if listener is not None:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, None)
        _servers.add(self)
        for descriptor in watched:
            self._selector.register(descriptor, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Serve until the service has ended, or until :meth:`stop`."""
        idle_since: float | None = None
        ending, due_at = False, 0.0
        while not self._stopped and not self._meter.stopped:
            if self._meter.due or ending:
                due_at = monotonic() + self._tick()
                self._send_all()
            delay = max(0.0, due_at - monotonic())
            if delay > _LONG_PAUSE:
                # Workers report at the same pace: one wake-up serves a report and the tick.
                delay += self._meter.slack
            ending = self._ends and not self._alive
            if ending:
                self._meter.finish_early()
                if self._meter.idle:
                    idle_since = idle_since or monotonic()
                    if monotonic() - idle_since > _LINGER_SECONDS:
                        return
                else:
                    idle_since = None
                delay = min(delay, 0.05)
            if any(not connection.client.greeted for connection in self._connections.values()):
                self._close_without_hello()
                delay = min(delay, 1.0)
            for key, events in self._selector.select(delay):
                self._handle(key.fd, events)

    def close_all(self) -> None:
        """Close all descriptors; also in a forked child, where copies would keep connections and names open."""
        self._selector.close()
        for connection in self._connections.values():
            connection.socket.close()
        if self._listener is not None:
            self._listener.close()

    def stop(self) -> None:
        """End :meth:`run`. For a signal handler, together with :meth:`wake_on`."""
        self._stopped = True

    def wake_on(self, descriptor: int) -> None:
        """Wake up when ``descriptor`` becomes readable; its bytes are read and discarded."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)
        self._wakers.add(descriptor)

    def _tick(self) -> float:
        try:
            return self._meter.tick()
        except Exception:  # noqa: BLE001 - one bad reading must not end the meter
            _LOG.warning("ecolyzer: an error in the meter, which continues", exc_info=True)
            return 1.0

    def _handle(self, descriptor: int, events: int) -> None:
        if self._listener is not None and descriptor == self._listener.fileno():
            self._accept(self._listener)
        elif descriptor in self._wakers:
            with contextlib.suppress(OSError):
                os.read(descriptor, 1024)
        elif descriptor in self._alive:
            self._check_liveness(descriptor)
        elif descriptor in self._connections:
            connection = self._connections[descriptor]
            if events & selectors.EVENT_WRITE:
                self._send(connection)
            if events & selectors.EVENT_READ and descriptor in self._connections:
                self._receive(connection)

    def _check_liveness(self, descriptor: int) -> None:
        # A pidfd stays readable once its process has ended; a pipe may hold bytes that were written by mistake.
        with contextlib.suppress(OSError):
            if os.read(descriptor, 1024):
                return
        self._alive.discard(descriptor)
        self._selector.unregister(descriptor)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            link, _ = listener.accept()
            peer = peer_of(link)
            if self._user is not None and peer.uid != self._user:
                link.close()
                return
            if len(self._connections) >= _MAX_CLIENTS:
                self._warn(f"{_MAX_CLIENTS} workers are connected; another was refused")
                link.close()
                return
            link.setblocking(False)
            connection = _Connection(link, peer, self, self._meter)
            self._connections[link.fileno()] = connection
            self._selector.register(link, selectors.EVENT_READ, None)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        try:
            for message in connection.frames.feed(data):
                connection.client = self._meter.receive(connection.client, message)
        except ProtocolError as error:
            self._disconnect(connection, str(error))
        except Exception:  # noqa: BLE001 - a message of one worker must not end the meter for all
            _LOG.debug("ecolyzer: a message could not be processed", exc_info=True)
            self._disconnect(connection, "a message could not be processed")

    def _disconnect(self, connection: _Connection, reason: str) -> None:
        """Close a connection and log the reason; a worker without hello first receives its messages (refused)."""
        self._warn(f"{connection.client.peer} was disconnected: {reason}")
        if not connection.client.greeted:
            with contextlib.suppress(OSError):
                connection.socket.send(b"".join(encode(one) for one in connection.client.take()))
        self._drop(connection)

    def _warn(self, line: str) -> None:
        """Log a line, at a limited rate: a peer that is refused again and again does not fill the log."""
        now = monotonic()
        if now - self._lines_since > _LOG_SECONDS:
            if self._lines > _LOG_LINES:
                _LOG.warning("ecolyzer: %d more lines of this kind", self._lines - _LOG_LINES)
            self._lines_since, self._lines = now, 0
        self._lines += 1
        if self._lines <= _LOG_LINES:
            _LOG.warning("ecolyzer: %s", line)

    def _close_without_hello(self) -> None:
        for connection in list(self._connections.values()):
            if not connection.client.greeted and monotonic() - connection.since > _HELLO_SECONDS:
                self._disconnect(connection, f"it sent no hello within {_HELLO_SECONDS:g} s")

    def _send_all(self) -> None:
        for connection in list(self._connections.values()):
            for message in connection.client.take():
                connection.unsent += encode(message)
            if connection.unsent:
                self._send(connection)

    def _send(self, connection: _Connection) -> None:
        try:
            sent = connection.socket.send(connection.unsent)
            del connection.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
            return
        if len(connection.unsent) > _MAX_UNREAD:
            self._disconnect(connection, f"it left more than {_MAX_UNREAD >> 20} MiB unread")
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        self._selector.modify(connection.socket, wanted, None)

    def _drop(self, connection: _Connection) -> None:
        self.close(connection)
        self._meter.leave(connection.client, connection)

    def close(self, connection: _Connection) -> None:
        """Close a connection's socket."""
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(connection.socket)
            connection.socket.close()


_servers: weakref.WeakSet[Server] = weakref.WeakSet()


def _close_in_child() -> None:
    for server in list(_servers):
        server.close_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
