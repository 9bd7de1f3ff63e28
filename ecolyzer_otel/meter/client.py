"""A worker as the meter sees it, over all of its connections, and how much it may ask for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from ecolyzer_otel.ledger import Settlement
from ecolyzer_otel.meter.parts import Joint, Told
from ecolyzer_otel.wire.identity import Peer
from ecolyzer_otel.wire.protocol import Done, FromMeter, Model

__all__ = ["MAX_IN_FLIGHT", "MAX_MODELS", "Client", "Connection", "can_be"]

_MAX_OUTBOX: Final = 100_000
#: Limits of one worker: what is over them is counted, and costs nobody else anything.
MAX_IN_FLIGHT: Final = 100_000
MAX_MODELS: Final = 20_000


class Connection(Protocol):
    """What carries a client's messages now."""

    client: Client

    def replaced(self) -> None:
        """The worker has connected anew: this connection is of no further use."""


@dataclass(eq=False)
class Client:
    """One worker. ``number`` stands for its process in the ledger.

    ``connection`` is None between two connections; ``away`` says that the next one lets itself be waited for, and
    ``finished`` that there will be none. ``served``, ``received`` and ``accounted`` count finished requests: told
    of, records come, settled or unsettled.
    """

    number: int
    peer: Peer = field(default_factory=Peer)
    service: str = "unknown_service"
    token: str = ""
    connection: Connection | None = None
    greeted: bool = False
    finished: bool = False
    away: bool = False
    lost_at: float | None = None
    quiet: bool = False
    watermark_ns: int = 0
    #: How many changes of the factors its present connection was told of.
    places: int = 0
    clock: tuple[int, int, int] | None = None
    models: dict[int, Model] = field(default_factory=dict)
    labels: set[tuple[str, ...]] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    waiting: dict[int, tuple[Done, Model]] = field(default_factory=dict)
    #: Parts of the requests that have phases.
    told: dict[int, Told] = field(default_factory=dict)
    #: Calls that served several requests, not settled yet; shares of those that are, by request; requests that are
    #: settled but for such shares.
    serving: dict[int, tuple[Done, Model]] = field(default_factory=dict)
    joint: dict[int, Joint] = field(default_factory=dict)
    ready: dict[int, tuple[Settlement, dict[str, float], int]] = field(default_factory=dict)
    served: int = 0
    received: int = 0
    accounted: int = 0
    reported: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    flushes: deque[int] = field(default_factory=deque)
    outbox: deque[FromMeter] = field(default_factory=deque)
    notify: Callable[[], None] = lambda: None

    @property
    def pending(self) -> int:
        """Requests that have ended and are not accounted for yet."""
        return max(0, self.served - self.accounted - sum(self.dropped.values()))

    @property
    def active(self) -> bool:
        """Whether records of it can still come, so that it has a say in what is closed."""
        return self.greeted and not self.finished and not self.away

    def post(self, message: FromMeter) -> None:
        """Put a message where the worker will find it; one that never looks loses the oldest."""
        if len(self.outbox) >= _MAX_OUTBOX:
            self.outbox.popleft()
        self.outbox.append(message)
        self.notify()

    def take(self) -> list[FromMeter]:
        """The messages posted so far."""
        return [self.outbox.popleft() for _ in range(len(self.outbox))]


def can_be(done: Done, now: int) -> bool:
    """Whether a record is possible; a worker may be newer, older, or wrong."""
    ids = (len(done.trace_id), len(done.span_id))
    hexadecimal = all(letter in "0123456789abcdef" for letter in done.trace_id + done.span_id)
    return 0 < done.start_ns <= done.end_ns <= now and ids in ((0, 0), (32, 16)) and hexadecimal
