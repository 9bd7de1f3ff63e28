"""The small HTTP server of the meter: ``/metrics``, ``/healthz``, and an index at ``/``.

Everything that a client can cause is bounded: connections, seconds per connection, and work per request.
"""

from __future__ import annotations

import errno
import gzip
import logging
import os
import selectors
import socket
import socketserver
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, cast
from urllib.parse import urlsplit

from ecolyzer_otel.export.pages import TEXT, Health, Pages, accepts_gzip
from ecolyzer_otel.export.store import MetricStore

__all__ = ["MetricsServer"]

_log = logging.getLogger(__name__)

_MAX_CONNECTIONS: Final = 16
_IDLE_SECONDS: Final = 5.0  # for the next byte
_TOTAL_SECONDS: Final = 30.0  # for the connection in total, however slowly bytes arrive
_CHECK_SECONDS: Final = 0.2  # between two checks of open connections for those past their deadline
_GZIP_FROM_BYTES: Final = 1024
_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
)


class MetricsServer:
    """Serves ``store`` on ``host:port`` from a daemon thread.

    Args:
        store: what ``/metrics`` shows.
        host: a name, an IPv4 or an IPv6 address.
        port: 0 picks a free one.
        health: returns (healthy, details) for ``/healthz``: 200 or 503 with the details as JSON.
        page_seconds: a page of metrics is reused for this long.
        version: a page of metrics is rendered again at once when this has changed.

    Raises:
        OSError: the address is in use or not of this host; at once, before :meth:`start`.
    """

    def __init__(
        self,
        store: MetricStore,
        *,
        host: str,
        port: int,
        health: Health,
        page_seconds: float = 0.0,
        version: Callable[[], int] = lambda: 0,
    ) -> None:
        pages = Pages(store, health=health, page_seconds=page_seconds, version=version)
        self._server = _bind(host, port, pages)
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._woken, self._waker = socket.socketpair()
        self.port: int = self._server.server_address[1]
        _servers.add(self)

    @property
    def url(self) -> str:
        """The base address as people type it: ``http://127.0.0.1:9465``."""
        host = str(self._server.server_address[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self) -> None:
        """Begin to answer. A second call does nothing."""
        if self._thread is None and not self._stopped:
            self._thread = threading.Thread(target=self._serve, name="ecolyzer-http", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        """Answer until :meth:`stop`. Not ``serve_forever``, which wakes periodically to check for a shutdown."""
        server = self._server
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopped:
                ready = selector.select(_CHECK_SECONDS if server.busy else None)
                if self._stopped:
                    return
                try:
                    if any(key.fileobj is server for key, _ in ready):
                        server.handle_request()
                    server.service_actions()
                except Exception:  # noqa: BLE001 - one request must not end the server
                    _log.debug("a connection could not be accepted", exc_info=True)

    def stop(self, timeout_seconds: float = 2.0) -> bool:
        """Free the port. A second call does nothing; responses in progress may still finish.

        Returns:
            True unless the thread did not end within ``timeout_seconds``.
        """
        if not self._stopped:
            self._stopped = True
            if self._thread is not None:
                self._waker.close()  # the other end becomes readable
                self._thread.join(timeout_seconds)
            self._close()
        return self._thread is None or not self._thread.is_alive()

    def _after_fork(self) -> None:
        # The child has no thread that answers, and its copy of the socket would keep the port in use.
        if not self._stopped:
            self._stopped = True
            self._close()

    def _close(self) -> None:
        self._server.server_close()
        self._waker.close()
        self._woken.close()


_servers: weakref.WeakSet[MetricsServer] = weakref.WeakSet()


def _close_in_child() -> None:
    for server in list(_servers):
        server._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class _Handler(BaseHTTPRequestHandler):
    server_version = "ecolyzer"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET

    def _not_allowed(self) -> None:
        self._send(405, TEXT, b"only GET and HEAD\n", {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _not_allowed

    def _answer(self) -> None:
        pages = cast("_Server", self.server).pages
        try:
            status, content_type, body = pages.get(
                urlsplit(self.path).path, cast("Mapping[str, str]", self.headers)
            )
        except Exception:  # noqa: BLE001 - the client gets an error, and the thread goes on
            _log.debug("could not answer %s", self.path, exc_info=True)
            status, content_type, body = 500, TEXT, b"internal error\n"
        headers = {"Vary": "Accept, Accept-Encoding"}
        if len(body) >= _GZIP_FROM_BYTES and accepts_gzip(self.headers.get("Accept-Encoding", "")):
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        self._send(status, content_type, body, headers)

    def _send(self, status: int, content_type: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        # An idle kept-alive connection would occupy one of the few threads.
        for name, value in {**headers, "Content-Type": content_type, "Connection": "close"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer an invalid request line or method in plain text instead of with the default HTML page."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._not_allowed()
        else:
            self._send(code, TEXT, f"{message or HTTPStatus(code).phrase}\n".encode(), {})

    def log_message(self, format: str, *args: Any) -> None:
        """No access log."""


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32
    timeout = 0  # of handle_request: it is called when a connection is waiting
    # On Linux this only skips the TIME_WAIT pause; on Windows it would let a second server steal the port.
    allow_reuse_address = os.name != "nt"

    def __init__(self, family: socket.AddressFamily, address: Any, pages: Pages) -> None:
        self.address_family = family
        self.pages = pages
        self._open: dict[socket.socket, float] = {}
        self._open_lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            busy = len(self._open) >= _MAX_CONNECTIONS
            if not busy:
                self._open[request] = time.monotonic() + _TOTAL_SECONDS
        if not busy:
            super().process_request(request, client_address)
            return
        try:
            request.settimeout(0.1)
            request.sendall(_BUSY)
        except OSError:
            pass
        finally:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    @property
    def busy(self) -> bool:
        """Whether connections are open, whose deadlines must be checked."""
        return bool(self._open)

    def service_actions(self) -> None:
        """End connections past their deadline; their thread then gets an error and ends."""
        now = time.monotonic()
        with self._open_lock:
            late = [request for request, deadline in self._open.items() if deadline < now]
        for request in late:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("connection of %s ended early", client_address, exc_info=True)


def _bind(host: str, port: int, pages: Pages) -> _Server:
    """A listening server on the first address of ``host`` that this machine has."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    missing: OSError | None = None
    for family, _, _, _, address in found:
        try:
            return _Server(family, address, pages)
        except OSError as error:
            # Try the next address only where this family is missing; a port in use is an error.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            missing = error
    raise missing or OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
