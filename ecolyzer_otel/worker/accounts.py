"""What became of the requests of one process, so that none is lost from the books and none stands there twice.

A meter may die, be cut off, or come back while requests are on their way to it. What was sent and never accounted
for is uncertain then. The next meter resolves it: the same one says how many it has received, so the rest was lost;
another one has received none of them.
"""

from __future__ import annotations

from ecolyzer_otel.worker.state import State

__all__ = ["Accounts"]


class Accounts:
    """Counters of one worker.

    Attributes:
        drained: requests taken from the queue.
        sent: those of them that the present meter was sent, over all connections to it.
        accounted: those that it has settled, or found that it cannot.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.drained = self.sent = self.accounted = 0
        self._before = 0
        self._life: str | None = None
        self._uncertain = False
        self._lost: dict[str, int] = {}

    def lose(self, reason: str, number: int = 1) -> None:
        """Requests that no meter will account for."""
        if number > 0:
            self._lost[reason] = self._lost.get(reason, 0) + number

    def tell(self, accounted: int) -> None:
        """What the meter says that it has accounted for."""
        self.accounted = max(self.accounted, min(accounted, self.sent))

    def disconnected(self) -> None:
        """What is on its way to the meter is uncertain until the next connection."""
        self._uncertain = True

    def welcomed(self, life: str, received: int) -> int:
        """A meter answers. Returns how many of the requests sent so far it has: these can still be settled.

        Args:
            life: its name for this life of it; "" when it tells none.
            received: how many requests of this worker have reached it.
        """
        if self._life is None and not self._uncertain:
            self._life = life  # the first: it is sent records before it answers
            return self.sent
        self._uncertain = False
        if life and life == self._life:
            received = max(self.accounted, min(received, self.sent))
            self.lose("meter_lost", self.sent - received)
            self.sent = received
            return received
        self.lose("meter_lost", self.sent - self.accounted)
        self._before += self.accounted
        self.sent = self.accounted = 0
        self._life = life
        return 0

    @property
    def served(self) -> int:
        """Requests of this process that were taken from the queue, less what other meters have accounted for."""
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
