"""Tickets of callers that wait for work of the background thread: a flush, a delivery."""

from __future__ import annotations

from ecolyzer_otel.wire.native import unpatched

__all__ = ["Tickets"]


class Tickets:
    """Numbered requests to the background thread, and how far it is with them.

    Any thread may take a ticket and ask whether it is done; only the background thread changes the rest.

    Attributes:
        taken: the latest ticket.
        sent: the latest ticket that the background thread has acted on.
        done: the latest ticket that is done, and with it all before.
    """

    __slots__ = ("_lock", "done", "sent", "taken")

    def __init__(self) -> None:
        # gevent's lock would need its event loop, which the background thread does not run in.
        self._lock = unpatched("_thread", "allocate_lock")()
        self.taken = self.sent = self.done = 0

    def take(self) -> int:
        """Returns the number of a new ticket."""
        with self._lock:
            self.taken += 1
            return self.taken

    @property
    def to_send(self) -> bool:
        """Whether the background thread has yet to act on a ticket."""
        return self.taken > self.sent

    @property
    def waiting(self) -> bool:
        """Whether a ticket is not done."""
        return self.taken > self.done

    def finish(self, number: int) -> None:
        """The tickets up to this one are done. A number above all that were taken counts as the latest."""
        self.done = max(self.done, min(number, self.taken))

    def send_again(self) -> None:
        """The background thread has to act again on every ticket that is not done: its connection is a new one."""
        self.sent = self.done
