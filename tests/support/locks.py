"""What belongs to the whole host is used by one test at a time."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from .waiting import AGES, until


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Nobody else who asks for ``name`` on this host is in here at the same time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:

        def bound() -> bool:
            held.bind(f"\0ecolyzer-tests-lock-{name}")
            return True

        until(bound, f"another test keeps {name}", seconds=AGES, pause=0.1)
        yield
