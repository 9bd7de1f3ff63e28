"""The small HTTP server of the meter: ``/metrics``, ``/healthz``, and a signpost at ``/``.

Bounded in everything a client can ask for: connections, seconds per connection, and work per request.
"""

from __future__ import annotations

import errno
import gzip
import json
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

from ecolyzer_otel.export.exposition import CLASSIC_CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE, render
from ecolyzer_otel.export.store import MetricStore

__all__ = ["MetricsServer", "accepts_gzip", "accepts_openmetrics"]

_log = logging.getLogger(__name__)

_MAX_CONNECTIONS: Final = 16
_IDLE_SECONDS: Final = 5.0  # for the next byte
_TOTAL_SECONDS: Final = 30.0  # for the whole connection, whatever trickles in
_LOOK_SECONDS: Final = 0.2  # at open connections, for those that have had their time
_GZIP_FROM_BYTES: Final = 1024
_TEXT: Final = "text/plain; charset=utf-8"
_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
)

Health = Callable[[], tuple[bool, dict[str, Any]]]


def _preferences(header: str) -> list[tuple[str, dict[str, str], float]]:
    """``a/b;version=1;q=0.5, …`` as (name, parameters, quality)."""
    found = []
    for part in header.split(","):
        name, *texts = (text.strip().lower() for text in part.split(";"))
        parameters = {key.strip(): value.strip(' "') for key, _, value in (text.partition("=") for text in texts)}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if name:
            found.append((name, parameters, quality))
    return found


def accepts_openmetrics(accept: str) -> bool:
    """Whether an Accept header prefers OpenMetrics 1.0 to the classic text format (which wins a tie)."""
    best, text, anything = 0.0, None, 0.0
    for name, parameters, quality in _preferences(accept):
        if name == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0":
            best = max(best, quality)
        elif name == "text/plain":
            text = max(text or 0.0, quality)
        elif name in ("text/*", "*/*"):
            anything = max(anything, quality)
    return best > (anything if text is None else text)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    allowed = {name: quality > 0 for name, _, quality in _preferences(accept_encoding)}
    return allowed.get("gzip", allowed.get("*", False))


class MetricsServer:
    """Serves ``store`` on ``host:port`` from a daemon thread.

    Args:
        store: what ``/metrics`` shows.
        host: a name, an IPv4 or an IPv6 address.
        port: 0 picks a free one.
        health: gives (well or not, details) for ``/healthz``: 200 or 503 with the details as JSON.
        before_scrape: called before each scrape, so that gauges are fresh; what it raises is logged at debug.
        page_seconds: a page is shown for this long before it is made anew.
        version: a page is made anew at once when this has changed.

    Raises:
        OSError: the address is in use or not of this host; at once, before :meth:`start`.
    """

    def __init__(
        self,
        store: MetricStore,
        host: str,
        port: int,
        health: Health,
        before_scrape: Callable[[], None] | None = None,
        *,
        page_seconds: float = 0.0,
        version: Callable[[], int] = lambda: 0,
    ) -> None:
        self._server = _bind(host, port, _Site(store, health, before_scrape, page_seconds, version))
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._woken, self._waker = socket.socketpair()
        self.port: int = self._server.server_address[1]
        _servers.add(self)

    @property
    def url(self) -> str:
        """The base address, for people: ``http://127.0.0.1:9465``."""
        host = str(self._server.server_address[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self) -> None:
        """Begin to answer. A second call does nothing."""
        if self._thread is None and not self._stopped:
            self._thread = threading.Thread(target=self._serve, name="ecolyzer-http", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        """Answer until :meth:`stop`. Not ``serve_forever``, which wakes up all the time to look whether to end."""
        server = self._server
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopped:
                ready = selector.select(_LOOK_SECONDS if server.busy else None)
                if self._stopped:
                    return
                try:
                    if any(key.fileobj is server for key, _ in ready):
                        server.handle_request()
                    server.service_actions()
                except Exception:  # noqa: BLE001 - the page stays, whatever one request did
                    _log.debug("a request could not be taken", exc_info=True)

    def stop(self) -> None:
        """Free the port. A second call does nothing; requests under way may still finish."""
        if self._stopped:
            return
        self._stopped = True
        if self._thread is not None:
            self._waker.close()  # the other end becomes readable
            self._thread.join(2.0)
        self._close()

    def _after_fork(self) -> None:
        # The child has no thread to answer, and its copy of the socket would keep the port taken.
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


class _Site:
    """The pages, apart from the transport."""

    def __init__(
        self,
        store: MetricStore,
        health: Health,
        before_scrape: Callable[[], None] | None,
        page_seconds: float,
        version: Callable[[], int],
    ) -> None:
        self._store = store
        self._health = health
        self._before_scrape = before_scrape
        self._page_seconds = page_seconds
        self._version = version
        self._kept: dict[bool, tuple[float, int, bytes]] = {}
        self._making = threading.Lock()

    def page(self, path: str, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Status, content type and body of one page."""
        if path == "/metrics":
            return self._metrics(headers.get("Accept", ""))
        if path == "/healthz":
            well, details = self._health()
            body = json.dumps(details, default=str).encode() + b"\n"
            return (200 if well else 503), "application/json", body
        if path == "/":
            return (
                200,
                _TEXT,
                b"ecolyzer-otel\n\n/metrics  Prometheus and OpenMetrics\n/healthz  state of the meter\n",
            )
        return 404, _TEXT, b"not found; see /\n"

    def _metrics(self, accept: str) -> tuple[int, str, bytes]:
        openmetrics = accepts_openmetrics(accept)
        content_type = OPENMETRICS_CONTENT_TYPE if openmetrics else CLASSIC_CONTENT_TYPE
        if not self._page_seconds:
            return 200, content_type, self._render(openmetrics)
        with self._making:
            made, version, page = self._kept.get(openmetrics, (0.0, -1, b""))
            if time.monotonic() - made > self._page_seconds or version != self._version():
                version = self._version()
                page = self._render(openmetrics)
                self._kept[openmetrics] = time.monotonic(), version, page
        return 200, content_type, page

    def _render(self, openmetrics: bool) -> bytes:
        if self._before_scrape is not None:
            try:
                self._before_scrape()
            except Exception:  # noqa: BLE001 - what is known is still worth a scrape
                _log.debug("before_scrape failed", exc_info=True)
        return render(self._store, openmetrics)


class _Handler(BaseHTTPRequestHandler):
    server_version = "ecolyzer"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET

    def _not_allowed(self) -> None:
        self._send(405, _TEXT, b"only GET and HEAD\n", {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _not_allowed

    def _answer(self) -> None:
        site = cast("_Server", self.server).site
        try:
            status, content_type, body = site.page(
                urlsplit(self.path).path, cast("Mapping[str, str]", self.headers)
            )
        except Exception:  # noqa: BLE001 - a fault of ours must show to the client, not end the thread
            _log.debug("could not answer %s", self.path, exc_info=True)
            status, content_type, body = 500, _TEXT, b"internal error\n"
        headers = {"Vary": "Accept, Accept-Encoding"}
        if len(body) >= _GZIP_FROM_BYTES and accepts_gzip(self.headers.get("Accept-Encoding", "")):
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        self._send(status, content_type, body, headers)

    def _send(self, status: int, content_type: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        # An idle kept-alive connection would hold one of the few threads.
        for name, value in {**headers, "Content-Type": content_type, "Connection": "close"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A request line that is no HTTP, or a method that is none: plain text instead of the default page."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._not_allowed()
        else:
            self._send(code, _TEXT, f"{message or HTTPStatus(code).phrase}\n".encode(), {})

    def log_message(self, format: str, *args: Any) -> None:
        """No access log."""


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32
    timeout = 0  # of handle_request: who calls it knows that there is one
    # On Linux this only skips the TIME_WAIT pause; on Windows it would let a second server steal the port.
    allow_reuse_address = os.name != "nt"

    def __init__(self, family: socket.AddressFamily, address: Any, site: _Site) -> None:
        self.address_family = family
        self.site = site
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
        """Whether connections are open, which may have to be ended."""
        return bool(self._open)

    def service_actions(self) -> None:
        """End connections that have had their time; their thread then gets an error and goes."""
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


def _bind(host: str, port: int, site: _Site) -> _Server:
    """A listening server on the first address of ``host`` that this machine has."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    missing: OSError | None = None
    for family, _, _, _, address in found:
        try:
            return _Server(family, address, site)
        except OSError as error:
            # Only an address family that is not there is a reason to try the next; a port in use is not.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            missing = error
    raise missing or OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
