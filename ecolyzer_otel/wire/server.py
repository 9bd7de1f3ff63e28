"""The meter as a process: one loop over the listening socket, the workers, the signs of life and the clock."""

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

#: A worker that leaves this much unread is cut off.
_MAX_UNREAD: Final = 8 * 1024 * 1024
_MAX_CLIENTS: Final = 1024
#: After everything else is gone, a worker that was forked and has not connected yet gets this long.
_LINGER: Final = 0.3
#: A pause of this length, in seconds, may be a little longer.
_WORTH_IT: Final = 0.05


#: So many lines about connections are logged in so many seconds; more are counted.
_LOG_LINES: Final = 20
_LOG_SECONDS: Final = 10.0
#: A connection that has not said hello after this long is closed, in seconds.
_HELLO_SECONDS: Final = 10.0


class Client(Protocol):
    """A worker as the server needs it."""

    @property
    def peer(self) -> Peer:
        """The process at the other end."""

    @property
    def greeted(self) -> bool:
        """Whether its first message has come."""

    def take(self) -> list[FromMeter]:
        """The messages for it so far."""


class Meter(Protocol):
    """The receiver of what workers send."""

    #: Seconds by which a tick may be early where something wakes the server anyway.
    slack: float
    #: Whether it has ended.
    stopped: bool

    @property
    def due(self) -> bool:
        """Whether the next tick is due."""

    @property
    def idle(self) -> bool:
        """Whether no worker is connected and nothing waits."""

    def tick(self) -> float:
        """Do what is due; returns the seconds until the next tick."""

    def finish_early(self) -> None:
        """Stop waiting for further workers."""

    def join(self, peer: Peer, connection: Any) -> Client:
        """A new connection."""

    def receive(self, client: Any, message: FromWorker) -> Client:
        """A message of ``client``; returns the client that the connection belongs to from now on.

        Raises:
            ProtocolError: the message is not valid; the connection must be closed.
        """

    def leave(self, client: Any, connection: Any) -> None:
        """The connection of ``client`` has ended."""


class _Connection:
    """One worker's socket."""

    __slots__ = ("_server", "client", "frames", "since", "socket", "unsent")

    client: Client

    def __init__(self, link: socket.socket, server: Server) -> None:
        self.socket = link
        self.frames = Frames("worker")
        self.unsent = bytearray()
        self.since = monotonic()
        self._server = server

    def replaced(self) -> None:
        """The worker has connected anew; what it sent here and was not read yet, it counts as lost."""
        self._server.close(self)


class Server:
    """Runs a meter until nobody needs it.

    Args:
        meter: the meter.
        listener: a listening Unix socket; None where nobody can connect.
        watched: descriptors that become readable when a sign of life ends: the pidfd of the command, the
            lifeline pipe. The server ends, drained, when all are gone and no worker is connected.
        user: the only user whose processes may connect; None where the socket's file mode decides.
    """

    def __init__(
        self, meter: Meter, listener: socket.socket | None, watched: list[int], *, user: int | None = None
    ) -> None:
        self._meter = meter
        self._listener = listener
        self._connections: dict[int, _Connection] = {}
        self._alive = set(watched)
        self._until = bool(watched)
        self._stopped = False
        self._said_since, self._said = 0.0, 0
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
        """Serve until the service is gone, or until :meth:`stop`."""
        lonely_since: float | None = None
        ending, due_at = False, 0.0
        while not self._stopped and not self._meter.stopped:
            if self._meter.due or ending:
                due_at = monotonic() + self._tick()
                self._send_all()
            delay = max(0.0, due_at - monotonic())
            if delay > _WORTH_IT:
                # A report that comes in about then wakes us once for both; workers report at the same pace.
                delay += self._meter.slack
            ending = self._until and not self._alive
            if self._until and not self._alive:
                self._meter.finish_early()
                if self._meter.idle:
                    lonely_since = lonely_since or monotonic()
                    if monotonic() - lonely_since > _LINGER:
                        return
                else:
                    lonely_since = None
                delay = min(delay, 0.05)
            if any(not connection.client.greeted for connection in self._connections.values()):
                self._close_silent()
                delay = min(delay, 1.0)
            for key, events in self._selector.select(delay):
                self._handle(key.fd, events)

    def close_all(self) -> None:
        """Give every descriptor back. In a forked child, too: its copies would keep connections and names alive."""
        self._selector.close()
        for connection in self._connections.values():
            connection.socket.close()
        if self._listener is not None:
            self._listener.close()

    def stop(self) -> None:
        """End :meth:`run`. For a signal handler, together with :meth:`wake_on`."""
        self._stopped = True

    def wake_on(self, descriptor: int) -> None:
        """Look up from waiting when ``descriptor`` becomes readable; what comes there is read and thrown away."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)
        self._wakers.add(descriptor)

    def _tick(self) -> float:
        try:
            return self._meter.tick()
        except Exception:  # noqa: BLE001 - the meter must not end for one bad reading
            _LOG.warning("ecolyzer: the meter met an error and goes on", exc_info=True)
            return 1.0

    def _handle(self, descriptor: int, events: int) -> None:
        if self._listener is not None and descriptor == self._listener.fileno():
            self._accept(self._listener)
        elif descriptor in self._wakers:
            with contextlib.suppress(OSError):
                os.read(descriptor, 1024)
        elif descriptor in self._alive:
            self._sign_of_life(descriptor)
        elif descriptor in self._connections:
            connection = self._connections[descriptor]
            if events & selectors.EVENT_WRITE:
                self._send(connection)
            if events & selectors.EVENT_READ and descriptor in self._connections:
                self._receive(connection)

    def _sign_of_life(self, descriptor: int) -> None:
        # A pidfd stays readable once its process ended; a pipe may hold bytes that somebody wrote by mistake.
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
            connection = _Connection(link, self)
            connection.client = self._meter.join(peer, connection)
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
                connection.client = self._meter.receive(connection.client, message)  # type: ignore[arg-type]
        except ProtocolError as error:
            self._say_goodbye(connection, str(error))
        except Exception:  # noqa: BLE001 - what one worker says must not end the meter for all
            _LOG.debug("ecolyzer: a message could not be taken in", exc_info=True)
            self._say_goodbye(connection, "a message could not be taken in")

    def _say_goodbye(self, connection: _Connection, reason: str) -> None:
        """Close a connection for a reason, after one try to deliver what the worker should know."""
        self._warn(f"{connection.client.peer} was disconnected: {reason}")
        if not connection.client.greeted:
            with contextlib.suppress(OSError):
                connection.socket.send(b"".join(encode(one) for one in connection.client.take()))
        self._drop(connection)

    def _warn(self, line: str) -> None:
        """Log a line; a peer that is refused again and again does not fill the log."""
        now = monotonic()
        if now - self._said_since > _LOG_SECONDS:
            if self._said > _LOG_LINES:
                _LOG.warning("ecolyzer: %d more lines of this kind", self._said - _LOG_LINES)
            self._said_since, self._said = now, 0
        self._said += 1
        if self._said <= _LOG_LINES:
            _LOG.warning("ecolyzer: %s", line)

    def _close_silent(self) -> None:
        for connection in list(self._connections.values()):
            if not connection.client.greeted and monotonic() - connection.since > _HELLO_SECONDS:
                self._say_goodbye(connection, f"it did not say hello within {_HELLO_SECONDS:g} s")

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
            self._say_goodbye(connection, f"it left more than {_MAX_UNREAD >> 20} MiB unread")
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        self._selector.modify(connection.socket, wanted, None)

    def _drop(self, connection: _Connection) -> None:
        self.close(connection)
        self._meter.leave(connection.client, connection)

    def close(self, connection: _Connection) -> None:
        """Give a connection's descriptor back."""
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
