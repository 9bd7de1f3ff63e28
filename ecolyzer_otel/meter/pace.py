"""How urgent readings are, and when the next reading and the next tick are due."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from time import monotonic
from typing import Final

from ecolyzer_otel.meter.client import Client
from ecolyzer_otel.meter.schedule import FLUSH_PERIOD, REST_PERIOD, Urgency

__all__ = ["Pace"]

#: Readings stay urgent this long after the last requests, in seconds.
_BUSY_SECONDS: Final = 2.0
_LONGEST_TICK: Final = 5.0
_SLACK: Final = 0.01


class Pace:
    """The times of one meter. Called under the meter's lock, except :attr:`due`.

    Args:
        clients: the meter's workers.
        open_requests: the ledger; its length is the number of requests that it holds.
        sampling_period: seconds between readings under load, as configured.
        shared: the meter serves many services, and none of them can make it read its sensors faster than configured
            (a fast reader of an energy counter can learn secrets of others: CVE-2020-8694).

    Attributes:
        closing: no further worker connects; requests are settled as soon as possible.
        wake: wakes the thread that calls the meter's tick.
        longest_tick: seconds from one tick to the next, at most. A watchdog relies on it.
        slack: seconds by which a tick may be early where something wakes the meter anyway. 0 for a shared meter.
    """

    def __init__(
        self, clients: Sequence[Client], open_requests: Sized, sampling_period: float, *, shared: bool
    ) -> None:
        self.closing = False
        self.wake: Callable[[], None] = lambda: None
        self.longest_tick = _LONGEST_TICK
        self.slack = 0.0 if shared else _SLACK
        self._clients = clients
        self._open_requests = open_requests
        self._sampling_period = sampling_period
        self._shared = shared
        now = monotonic()
        self._sampled = 0.0
        self._next_sample = now
        self._expedited = True
        self._busy_until = 0.0
        #: When the meter started, or a worker last connected.
        self._last_hello = now
        self._due = 0.0

    # What happens.

    def worker_connected(self) -> None:
        """Note a new worker: while none was connected, sensors were read seldom."""
        self._last_hello = monotonic()
        self.expedite()

    def requests_reported(self) -> None:
        """Note requests in flight or finished."""
        now = monotonic()
        resting = now > self._busy_until
        self._busy_until = now + _BUSY_SECONDS
        if resting:
            self.expedite()

    def expedite(self) -> None:
        """Wake the meter; the next sample reads every sensor, at once or, for a shared meter, when it is due."""
        soonest = self._sampled + self._sampling_period if self._shared else 0.0
        self._next_sample = min(self._next_sample, soonest)
        self._expedited = True
        self.wake()

    def sample_next(self) -> None:
        """Let the next tick sample."""
        self._next_sample = 0.0

    def sampled(self, now: float, next_sample: float) -> None:
        """Note a sample at ``now``; the next is due at ``next_sample``."""
        self._expedited = False
        self._sampled = now
        self._next_sample = next_sample

    # What is due.

    @property
    def due(self) -> bool:
        """Whether the next tick is due: a worker waits for it, or its time has passed."""
        return self._expedited or monotonic() >= self._due - self.slack

    @property
    def expedited(self) -> bool:
        """Whether the next sample reads every sensor, due or not."""
        return self._expedited

    def sample_is_due(self, now: float) -> bool:
        """Returns whether a sample is due at ``now``."""
        return now >= self._next_sample - self.slack

    def quiet_seconds(self, now: float) -> float:
        """Returns the seconds since the last work or new worker."""
        return max(0.0, now - max(self._busy_until, self._last_hello))

    def urgency(self) -> Urgency:
        """Returns how urgent readings are."""
        flushing = any(client.flushes for client in self._clients)
        if (self.closing or flushing) and not self._shared:
            return "flush"
        if flushing or monotonic() < self._busy_until or len(self._open_requests):
            return "load"
        return "rest" if any(client.connection or client.active for client in self._clients) else "unused"

    def next_tick(self, now: float) -> float:
        """Plan the tick after the one at ``now``; returns the seconds until then."""
        self._due = min(self._next_sample, now + self._period())
        return max(0.0, self._due - monotonic())

    def _period(self) -> float:
        """Seconds from one tick to the next. Intervals close, and workers are lost, between readings, too."""
        urgency = self.urgency()
        if urgency == "flush":
            return FLUSH_PERIOD
        if urgency == "load":
            return self._sampling_period
        # At rest, state changes only by a reading, or because a worker does not reconnect.
        lost = any(client.lost_at is not None for client in self._clients)
        return max(REST_PERIOD, self._sampling_period) if lost else self.longest_tick
