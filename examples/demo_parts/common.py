"""What all parts need."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

SERVICE = "demo"


class DemoError(Exception):
    """What went wrong, for the user."""


def exchange(
    port: int, method: str, path: str, body: bytes | None = None, kind: str = "", host: str = "127.0.0.1"
) -> tuple[int, bytes]:
    """One HTTP exchange: status and answer."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def fetch(port: int, method: str, path: str, host: str = "127.0.0.1") -> bytes:
    """What is answered with status 200."""
    status, data = exchange(port, method, path, host=host)
    if status != 200:
        raise DemoError(f"{method} {path} on port {port} answered {status}: {data[:200]!r}")
    return data


def wait_for(done: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise DemoError(otherwise())
        time.sleep(0.1)
