"""A worker as the meter sees it, over all of its connections, and the limits of one worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from ecolyzer_otel.ledger import Settlement
from ecolyzer_otel.meter.parts import RequestParts
from ecolyzer_otel.meter.shares import JointShares
from ecolyzer_otel.wire.identity import Peer
from ecolyzer_otel.wire.protocol import Done, FromMeter, Model, Settled

__all__ = ["MAX_IN_FLIGHT", "MAX_MODELS", "Client", "Connection", "is_plausible"]

_MAX_OUTBOX: Final = 100_000
#: Limits of one worker: requests over them are counted as unsettled, and do not affect other workers.
MAX_IN_FLIGHT: Final = 100_000
MAX_MODELS: Final = 20_000


class Connection(Protocol):
    """The present connection of a client."""

    def replaced(self) -> None:
        """The worker has opened another connection: close this one."""


@dataclass(eq=False)
class Client:
    """One worker. ``number`` stands for its process in the ledger.

    Attributes:
        number: the worker's number in the ledger.
        peer: its process.
        service: its service name.
        token: identifies its process over several connections.
        connection: None between two connections.
        greeted: its first message was received.
        finished: it will not reconnect.
        away: it is disconnected for so long that intervals no longer wait for it.
        lost_at: when its connection was lost, in monotonic seconds; None while it is connected.
        quiet: it runs nothing, and reports no watermark until its next batch.
        watermark_ns: no record with an earlier start can arrive.
        factors_sent: the number of the factors' change that its present connection was sent.
        clock: the last (time, process CPU time, pool CPU time) in nanoseconds.
        models: by key.
        labels: the label sets that its requests use.
        open: ids of open requests.
        waiting: finished requests that are not settled yet.
        parts: parts of the requests that have phases.
        joint_calls: calls that served several requests and are not settled yet.
        shares: shares of settled joint calls, by request.
        ready: requests that are settled except for such shares: settlement, joules by phase, since when in ns.
        results: settlements that the worker asked for and that are not posted yet.
        served: finished requests that it has reported.
        received: records of them that were received.
        accounted: records that are settled or unsettled.
        reported: ``accounted`` as it was last posted.
        dropped: requests whose record was lost, by reason.
        flushes: numbers of the flushes that are not answered yet.
        outbox: messages for it.
        notify: called after each message.
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
    factors_sent: int = 0
    clock: tuple[int, int, int] | None = None
    models: dict[int, Model] = field(default_factory=dict)
    labels: set[tuple[str, ...]] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    waiting: dict[int, tuple[Done, Model]] = field(default_factory=dict)
    parts: dict[int, RequestParts] = field(default_factory=dict)
    joint_calls: dict[int, tuple[Done, Model]] = field(default_factory=dict)
    shares: dict[int, JointShares] = field(default_factory=dict)
    ready: dict[int, tuple[Settlement, dict[str, float], int]] = field(default_factory=dict)
    results: list[Settled] = field(default_factory=list)
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
        """Number of requests that have ended and are not accounted for yet."""
        return max(0, self.served - self.accounted - sum(self.dropped.values()))

    @property
    def active(self) -> bool:
        """Whether its records can still arrive, so that intervals wait for it."""
        return self.greeted and not self.finished and not self.away

    @property
    def unsettled(self) -> bool:
        """Whether any of its finished requests or joint calls is not settled yet."""
        return bool(self.waiting or self.joint_calls)

    def post(self, message: FromMeter) -> None:
        """Put a message into the outbox; a worker that never takes its messages loses the oldest."""
        if len(self.outbox) >= _MAX_OUTBOX:
            self.outbox.popleft()
        self.outbox.append(message)
        self.notify()

    def take(self) -> list[FromMeter]:
        """Returns the messages posted so far, and removes them from the outbox."""
        return [self.outbox.popleft() for _ in range(len(self.outbox))]


def is_plausible(done: Done, now: int) -> bool:
    """Returns whether a record is possible: a worker may be newer, older, or faulty."""
    ids = (len(done.trace_id), len(done.span_id))
    hexadecimal = all(letter in "0123456789abcdef" for letter in done.trace_id + done.span_id)
    return 0 < done.start_ns <= done.end_ns <= now and ids in ((0, 0), (32, 16)) and hexadecimal
