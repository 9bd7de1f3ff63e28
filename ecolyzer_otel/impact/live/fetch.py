"""One GET, bounded in time and size, that follows no redirect to another host; its errors show no secret."""

from __future__ import annotations

import email.utils
import functools
import http.client
import io
import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import IO, Any, Final, cast
from urllib.parse import urlsplit

from ecolyzer_otel.impact.live.figure import Problem
from ecolyzer_otel.impact.live.provider import is_loopback
from ecolyzer_otel.version import __version__

__all__ = ["Fetcher", "parse_json", "retry_after"]

_MAX_BYTES: Final = 1 << 20
_MAX_REDIRECTS: Final = 3
#: Longest Retry-After that is respected, in seconds; a wrong year must not end the figures.
_MAX_RETRY_AFTER: Final = 3600.0
_CHUNK: Final = 1 << 16


class Fetcher:
    """GETs for one source. Timeouts are seconds: for connecting, for each wait for bytes, and in total."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 10.0,
        total_timeout: float = 20.0,
    ) -> None:
        self._proxy = environ.get("https_proxy") or environ.get("HTTPS_PROXY")
        self._no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._total_timeout = total_timeout
        self._context: ssl.SSLContext | None = None

    def get(self, url: str, headers: Mapping[str, str] | None = None, *, remedy: str = "") -> bytes:
        """The body of the answer to a GET of ``url``.

        Raises:
            Problem: no answer of status 200 with at most 1 MiB arrived in time; ``remedy`` is for a 4xx status.
        """
        host = urlsplit(url).hostname or ""
        deadline = time.monotonic() + self._total_timeout
        request = urllib.request.Request(  # noqa: S310 - base_address() allows only http and https
            url, headers={"User-Agent": f"ecolyzer-otel/{__version__}", "Connection": "close", **(headers or {})}
        )
        # These errors may contain the address, and so a token: each becomes a text of our own, without a cause that
        # a traceback would show.
        try:
            with self._opener(url, deadline).open(request, timeout=self._connect_timeout) as response:
                return _read(response, host)
        except urllib.error.HTTPError as error:
            problem = _status_problem(error, host, remedy)
            error.close()
        except _Redirected as error:
            problem = Problem(
                "redirect", f"{host} redirects {error.where}", "give the address that it redirects to"
            )
        except Problem as error:
            problem = error
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
            problem = _network_problem(error, host)
        raise problem from None

    def get_json(self, url: str, headers: Mapping[str, str] | None = None, *, remedy: str = "") -> Any:
        """As :meth:`get`, with the body parsed as JSON. Raises :class:`Problem`."""
        return parse_json(self.get(url, {"Accept": "application/json", **(headers or {})}, remedy=remedy), url)

    def _opener(self, url: str, deadline: float) -> urllib.request.OpenerDirector:
        """An opener for http and https only, whose connections end at ``deadline`` (monotonic clock)."""
        host = urlsplit(url).hostname or ""
        if self._context is None and url.startswith("https:"):
            self._context = ssl.create_default_context()  # reads all of the system's certificates
        proxies = {}
        bypass = cast("Any", urllib.request).proxy_bypass_environment
        if self._proxy and not is_loopback(host) and not bypass(host, {"no": self._no_proxy}):
            proxies = {"https": self._proxy}
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(),
            _Handler(deadline, self._read_timeout, self._context),
        ):
            opener.add_handler(handler)
        return opener


class _Redirected(Exception):
    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


class _TooLarge(OSError):
    """More bytes than allowed; raised where urllib itself reads, as the body of a redirect."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to the same scheme, host and port, because the headers contain the token."""

    max_redirections = _MAX_REDIRECTS
    max_repeats = 2

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc.lower()) != (new.scheme, new.netloc.lower()):
            plain = old.scheme == "https" and new.scheme == "http"
            raise _Redirected("to plain http" if plain else "to another host")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Handler(urllib.request.AbstractHTTPHandler):
    def __init__(self, deadline: float, read_timeout: float, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._response = functools.partial(_Response, deadline=deadline, read_timeout=read_timeout)
        self._context = context

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection(http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        made = self._connection(http.client.HTTPSConnection)
        return self.do_open(made, req, context=self._context)

    http_request = urllib.request.AbstractHTTPHandler.do_request_
    https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _connection(self, kind: type[http.client.HTTPConnection]) -> Any:
        def make(*args: Any, **kwargs: Any) -> http.client.HTTPConnection:
            connection = kind(*args, **kwargs)
            connection.response_class = self._response  # type: ignore[assignment]
            return connection

        return make


class _Response(http.client.HTTPResponse):
    """A response whose every read, status line and headers included, ends at the deadline."""

    def __init__(
        self, sock: socket.socket, *args: Any, deadline: float, read_timeout: float, **kwargs: Any
    ) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = _Raw(sock, deadline, read_timeout)
        self.fp.close()  # the other file on this socket: only _Raw reads
        self.fp = io.BufferedReader(raw)


class _Raw(io.RawIOBase):
    """A socket's bytes; the timeout is set before each wait, so that slow bytes do not extend the deadline."""

    def __init__(self, sock: socket.socket, deadline: float, read_timeout: float) -> None:
        super().__init__()
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = deadline
        self._read_timeout = read_timeout
        self._left = _MAX_BYTES + _CHUNK * 2  # headers and framing come on top of the body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0.0:
            raise TimeoutError
        if self._left <= 0:
            raise _TooLarge
        self._sock.settimeout(min(left, self._read_timeout))
        read = self._file.readinto(buffer)
        self._left -= read or 0
        return read

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _read(response: Any, host: str) -> bytes:
    if response.status != 200:
        raise Problem("http_other", f"{host} answered with status {response.status}")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length[:18]) > _MAX_BYTES:
        raise Problem("too_large", f"the answer of {host} is larger than {_MAX_BYTES >> 20} MiB")
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise Problem("too_large", f"the answer of {host} is larger than {_MAX_BYTES >> 20} MiB")
    if length.isdecimal() and len(body) < int(length[:18]):
        raise Problem("network", f"the connection to {host} ended before the end of the answer")
    return bytes(body)


def _status_problem(error: urllib.error.HTTPError, host: str, remedy: str) -> Problem:
    status, wait = error.code, retry_after(error.headers.get("Retry-After") if error.headers else None, time.time())
    text = f"{host} answered with status {status}"
    if status in (401, 403):
        return Problem("unauthorized", f"{text}, not authorised", remedy, permanent=True)
    if status == 429:
        return Problem("http_429", f"{text}, too many requests", "raise --grid-refresh", retry_after=wait)
    if status >= 500:
        return Problem("http_5xx", text, retry_after=wait if status == 503 else None)
    if status >= 400:
        return Problem("http_4xx", text, remedy)
    return Problem("redirect", f"{host} redirects too often or nowhere", "give the address that it redirects to")


def _network_problem(error: Exception, host: str) -> Problem:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, _TooLarge):
        return Problem("too_large", f"the answer of {host} is larger than {_MAX_BYTES >> 20} MiB")
    if isinstance(reason, TimeoutError):
        return Problem("timeout", f"{host} did not answer in time")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Problem(
            "network", f"the certificate of {host} is not trusted", "set SSL_CERT_FILE to your CA's file"
        )
    if isinstance(reason, ssl.SSLError):
        return Problem("network", f"no TLS connection to {host}")
    if isinstance(reason, socket.gaierror):
        return Problem("network", f"{host} is not found", "check name resolution, or set HTTPS_PROXY")
    if isinstance(reason, ConnectionRefusedError):
        return Problem("network", f"{host} refuses the connection")
    return Problem("network", f"the connection to {host} failed ({type(reason).__name__})")


def retry_after(text: str | None, now_s: float) -> float | None:
    """Seconds of a Retry-After header (a number or an HTTP date), from 0 to 3600, or None."""
    text = (text or "").strip()
    if text.isdecimal():
        return min(float(text[:9]), _MAX_RETRY_AFTER)
    try:
        wait = email.utils.parsedate_to_datetime(text).timestamp() - now_s
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return min(max(wait, 0.0), _MAX_RETRY_AFTER)


def parse_json(body: bytes, url: str) -> Any:
    """``body`` parsed as JSON. Raises :class:`Problem` where it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        host = urlsplit(url).hostname
        raise Problem("not_json", f"the answer of {host} is not JSON", "check the address") from None
