"""Shared by all parts: HTTP exchanges, waiting, errors."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

SERVICE = "demo"


class DemoError(Exception):
    """An error with a message for the user."""


def exchange(
    port: int, method: str, path: str, body: bytes | None = None, kind: str = "", host: str = "127.0.0.1"
) -> tuple[int, bytes]:
    """One HTTP exchange: status and body of the response."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def fetch(port: int, method: str, path: str, host: str = "127.0.0.1") -> bytes:
    """The body of a response with status 200."""
    status, data = exchange(port, method, path, host=host)
    if status != 200:
        raise DemoError(f"{method} {path} on port {port} answered {status}: {data[:200]!r}")
    return data


def wait_for(condition: Callable[[], bool], seconds: float, error_text: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(error_text())
        time.sleep(0.1)
