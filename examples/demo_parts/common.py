"""What all parts need."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

SERVICE = "demo"


class DemoError(Exception):
    """What went wrong, for the user."""


def fetch(port: int, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
    """One HTTP exchange on loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise DemoError(f"{method} {path} on port {port} answered {response.status}: {data[:200]!r}")
    return data


def wait_for(done: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise DemoError(otherwise())
        time.sleep(0.1)
