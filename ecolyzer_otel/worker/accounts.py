"""Counts of the requests of one process: each is counted once, also when the meter ends or the connection breaks.

Requests that were sent to a meter and not accounted for are uncertain once the connection is lost. The next
connection resolves them. The same meter states how many requests it has received; the others are lost. Another
meter has received none of them.
"""

from __future__ import annotations

from ecolyzer_otel.worker.state import State

__all__ = ["Accounts"]


class Accounts:
    """Counters of one worker.

    Attributes:
        drained: requests taken from the queue.
        sent: those of them that were sent to the present meter, over all connections to it.
        accounted: those that it has settled, or reported as unsettled.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.drained = self.sent = self.accounted = 0
        self._before = 0
        self._meter: str | None = None
        self._uncertain = False
        self._lost: dict[str, int] = {}

    def lose(self, reason: str, number: int = 1) -> None:
        """Count requests that no meter will account for."""
        if number > 0:
            self._lost[reason] = self._lost.get(reason, 0) + number

    def account_for(self, accounted: int) -> None:
        """The meter has accounted for this many requests so far."""
        self.accounted = max(self.accounted, min(accounted, self.sent))

    def disconnected(self) -> None:
        """The connection is lost: requests sent and not accounted for are uncertain until the next one."""
        self._uncertain = True

    def welcomed(self, meter: str, received: int) -> int:
        """A meter has answered. Returns how many of the requests sent so far it has: these can still be settled.

        Args:
            meter: identifies this run of the meter; "" when it sends none.
            received: how many requests of this worker it has received.
        """
        if self._meter is None and not self._uncertain:
            self._meter = meter  # the first meter is sent records before it answers
            return self.sent
        self._uncertain = False
        if meter and meter == self._meter:
            received = max(self.accounted, min(received, self.sent))
            self.lose("meter_lost", self.sent - received)
            self.sent = received
            return received
        self.lose("meter_lost", self.sent - self.accounted)
        self._before += self.accounted
        self.sent = self.accounted = 0
        self._meter = meter
        return 0

    @property
    def served(self) -> int:
        """Requests of this process that were taken from the queue, less those that other meters accounted for."""
        return self.drained + self._state.dropped - self._before

    def dropped(self) -> dict[str, int]:
        """Requests lost for good, by reason."""
        dropped = dict(self._lost)
        if self._state.dropped:
            dropped["queue_full"] = self._state.dropped
        return dropped

    def counts(self) -> dict[str, int]:
        """All requests of this process: ``served`` = ``accounted`` + ``dropped`` + ``pending``."""
        dropped = sum(self._lost.values()) + self._state.dropped
        if self._uncertain:
            dropped += self.sent - self.accounted
        served = self.drained + len(self._state.done) + self._state.dropped
        accounted = self._before + self.accounted
        return {
            "served": served,
            "accounted": accounted,
            "dropped": dropped,
            "pending": served - accounted - dropped,
        }
