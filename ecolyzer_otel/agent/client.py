"""A worker as the meter sees it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ecolyzer_otel.agent.protocol import Done, FromMeter, Model

__all__ = ["Client", "can_be"]

_MAX_OUTBOX: Final = 100_000


@dataclass(eq=False)
class Client:
    """One connection. ``number`` stands for the worker's process in the ledger."""

    number: int
    pid: int = 0
    service: str = "unknown_service"
    greeted: bool = False
    gone: bool = False
    quiet: bool = False
    watermark_ns: int = 0
    models: dict[int, Model] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    waiting: dict[int, Done] = field(default_factory=dict)
    served: int = 0
    received: int = 0
    accounted: int = 0
    told: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    flushes: deque[int] = field(default_factory=deque)
    outbox: deque[FromMeter] = field(default_factory=deque)
    ready: threading.Event = field(default_factory=threading.Event)

    def post(self, message: FromMeter) -> None:
        """Put a message where the worker will find it; one that never looks loses the oldest."""
        if len(self.outbox) >= _MAX_OUTBOX:
            self.outbox.popleft()
        self.outbox.append(message)
        self.ready.set()

    def take(self, timeout: float) -> list[FromMeter]:
        """The messages posted so far, waiting at most ``timeout`` seconds for the first."""
        if timeout > 0:
            self.ready.wait(timeout)
        self.ready.clear()
        return [self.outbox.popleft() for _ in range(len(self.outbox))]


def can_be(done: Done, now: int) -> bool:
    """Whether a record is possible; a worker may be newer, older, or wrong."""
    ids = (len(done.trace_id), len(done.span_id))
    hexadecimal = all(letter in "0123456789abcdef" for letter in done.trace_id + done.span_id)
    return (
        0 < done.start_ns <= done.end_ns <= now
        and 0 <= done.cpu_ns < 1 << 62
        and 0 <= done.items < 1 << 62
        and ids in ((0, 0), (32, 16))
        and hexadecimal
    )
