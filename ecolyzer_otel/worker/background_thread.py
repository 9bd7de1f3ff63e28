"""The background thread of a worker: reports finished and open calls to the meter, and ends spans as it answers."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from time import monotonic
from typing import Final

from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.wire.limits import MAX_NAME
from ecolyzer_otel.wire.link import Link
from ecolyzer_otel.wire.native import Waker, start_thread, unpatched
from ecolyzer_otel.wire.protocol import (
    OLDEST,
    VERSION,
    Batch,
    Flush,
    Flushed,
    FromMeter,
    FromWorker,
    Hello,
    PlaceFacts,
    Refused,
    Settlements,
    Welcome,
)
from ecolyzer_otel.worker.accounts import Accounts
from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.reports import Reporter
from ecolyzer_otel.worker.spans import service_of_spans, spans_are_exported
from ecolyzer_otel.worker.state import State

__all__ = ["PERIOD", "Worker"]

_LOG = logging.getLogger(__name__)

#: Seconds between two reports; a killed worker loses at most this much.
PERIOD: Final = 0.1
_FLUSHING: Final = 0.01
_QUIET_AFTER: Final = 2.0
#: Without calls, how long to sleep, in seconds: a call, the meter, or a flush ends it.
_REST: Final = 60.0
#: First and longest pause between two tries to connect.
_BACKOFF: Final = (0.1, 1.0)
#: So many tries are made at the first pace: a meter that another worker has just started closes its first intervals
#: less than a second after it is up, and what is told of them later comes too late.
_SOON: Final = 20
#: A meter that says that it cannot serve us is asked again after this long.
_REFUSED: Final = 60.0
#: Spans of requests that are on their way to a meter that is gone wait this long for it to come back.
_RETURN_SECONDS: Final = 1.0
#: A meter that we have come back to answers within this, or what finishes meanwhile is lost.
_WELCOME_SECONDS: Final = 2.0


class Worker:
    """One per process, made by its first instrumented call.

    Args:
        state: the calls of this process.
        link: the way to the meter.
        service: ``service.name`` of the process; "" takes that of its spans.
    """

    def __init__(self, state: State, link: Link, service: str = "") -> None:
        self._state = state
        self._link = link
        self._service = service
        self._accounts = Accounts(state)
        self._reporter = Reporter(state, self._accounts)
        self._place: PlaceFacts | None = None
        self._token = os.urandom(8).hex()
        self._connections = 0
        self._connected = self._welcome = False
        self._since = 0.0  # of the connection, or of its end
        self._retry_at = self._backoff = 0.0
        self._tries = 0
        self._quiet = False
        self._last_busy = monotonic()
        self._waker = Waker()
        self._stopping = self._running = False
        self._thread_id = 0
        self._flush_lock = unpatched("_thread", "allocate_lock")()
        self._flush_wanted = self._flush_sent = self._flush_done = 0
        self._deliver_wanted = self._delivering = self._delivered = 0
        link.on_message(self._waker.wake)

    def start(self) -> None:
        """Start the thread."""
        self._running = True
        start_thread(self._run)

    @property
    def exports_spans(self) -> bool:
        """Whether somebody gets the spans of this process."""
        return spans_are_exported()

    def counts(self) -> dict[str, int]:
        """Requests of this process: served, accounted for by the meter, dropped, and not yet accounted for."""
        return self._accounts.counts()

    def flush(self, timeout: float) -> bool:
        """Wait until every request finished so far is accounted for; whether that came about in time."""
        if not self._can_be_waited_for():
            return False
        with self._flush_lock:
            number = self._flush_wanted = self._flush_wanted + 1
        self._waker.wake()
        return self._wait_until(lambda: self._flush_done >= number, timeout)

    def deliver(self, timeout: float) -> bool:
        """Wait until every request finished so far is told of, settled or not; whether that came about in time.

        What is in the socket reaches the meter, whatever becomes of this process.
        """
        if not self._link.outlives_process:
            return self.flush(timeout)
        if not self._can_be_waited_for():
            return False
        with self._flush_lock:
            number = self._deliver_wanted = self._deliver_wanted + 1
        self._waker.wake()
        return self._wait_until(lambda: self._delivered >= number, timeout)

    def _can_be_waited_for(self) -> bool:
        """Not by itself, and not once it has ended."""
        return self._running and unpatched("_thread", "get_ident")() != self._thread_id

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = monotonic() + timeout
        # The service's own sleep, so that under gevent its other greenlets go on.
        while not condition() and self._running and monotonic() < deadline:
            time.sleep(0.002)
        return condition()

    def stop(self, timeout: float) -> None:
        """Flush, end the thread and close the link."""
        self.flush(timeout)
        self._stopping = True
        self._waker.wake()
        deadline = monotonic() + timeout
        while self._running and monotonic() < deadline:
            time.sleep(0.002)

    def forked(self) -> None:
        """In a forked child: give up the parent's descriptors, or the meter would not see the parent end."""
        with contextlib.suppress(Exception):
            self._link.forked()
            self._waker.close()

    def _run(self) -> None:
        self._thread_id = unpatched("_thread", "get_ident")()
        self._reporter.clocks.own.add(unpatched("_thread", "get_native_id")())
        next_report = 0.0
        attentive = True
        while not self._stopping:
            try:
                hurry = self._flush_wanted > self._flush_sent or self._deliver_wanted > self._delivering
                due = hurry or monotonic() >= next_report
                if self._connected and (due or attentive):
                    self._listen()
                if due:
                    next_report = monotonic() + PERIOD
                    self._turn()
                if not self._link.unsent:
                    self._delivered = self._delivering
                flushing = self._flush_wanted > self._flush_done or self._deliver_wanted > self._delivered
                pause = _FLUSHING if flushing else max(0.0, next_report - monotonic())
                # What the meter says can wait until the next report, where nobody waits for it: on a busy core each
                # time that this thread wakes costs the service more than what it does then.
                attentive = flushing or not self._welcome or self._link.unsent or self._link.free_to_receive
                if not attentive and self._may_rest():
                    self._rest()
                else:
                    self._waker.wait(pause, self._link.descriptor if attentive else -1, write=self._link.unsent)
            except Exception:  # noqa: BLE001 - never hurt the service
                # Nothing of ours may end the service or be silent about it for ever.
                _LOG.warning("ecolyzer: the worker thread met an error and goes on", exc_info=True)
                self._waker.wait(PERIOD)
        self._link.close()
        self._reporter.end_spans()
        self._waker.close()
        self._running = False

    def _may_rest(self) -> bool:
        """Whether there is nothing to tell, and the meter knows that. The next call wakes the thread."""
        if not (self._quiet and self._connected) or self._reporter.spans:
            return False
        self._state.resting = True
        if self._reporter.busy:  # it came between the last look and that
            self._state.resting = False
        return self._state.resting

    def _rest(self) -> None:
        self._waker.wait(_REST, self._link.descriptor)
        self._state.resting = False
        self._reporter.rest()  # a call that has woken us has spent next to nothing yet
        if self._connected:
            self._listen()

    def wake(self) -> None:
        """End a rest. Called on the request path."""
        self._waker.wake()

    def _turn(self) -> None:
        wanted, deliver = self._flush_wanted, self._deliver_wanted
        if not self._connected and not self._connect():
            self._without_meter(wanted)
            self._delivering = deliver
            return
        if not self._welcome:  # come back to a meter: it says first what it knows of us
            if monotonic() - self._since > _WELCOME_SECONDS:
                self._reporter.drop_waiting("no_meter")
                self._flush_finished(wanted)
                self._delivering = deliver
            return
        if self._link.congested:
            return  # what finishes meanwhile waits in the queue, which drops and counts when it is full
        self._report(flush=wanted > self._flush_sent or deliver > self._delivering)
        self._delivering = deliver
        if self._connected and wanted > self._flush_sent:
            self._flush_sent = wanted
            self._send(Flush(wanted))

    def _without_meter(self, wanted: int) -> None:
        self._reporter.drop_waiting("no_meter")
        if wanted > self._flush_done or monotonic() - self._since > _RETURN_SECONDS:
            self._reporter.end_spans()
        self._flush_sent = wanted
        self._flush_finished(wanted)

    # The connection.

    def _connect(self) -> bool:
        if monotonic() < self._retry_at:
            return False
        if not self._link.connect():
            self._tries += 1
            patient = self._backoff * 2 if self._tries > _SOON else 0.0
            self._backoff = min(max(patient, _BACKOFF[0]), _BACKOFF[1])
            self._retry_at = monotonic() + self._backoff
            return False
        self._connections += 1
        # The first one is sent records before it answers: the worker may not live that long.
        self._connected, self._welcome, self._backoff = True, self._connections == 1, 0.0
        self._tries = 0
        self._since = self._last_busy = monotonic()
        self._quiet = False
        self._flush_sent = self._flush_done
        self._reporter.models.reset_keys()
        service = (self._service or service_of_spans())[:MAX_NAME]
        return self._send(Hello(VERSION, self._state.pid, service, OLDEST, self._token))

    def _send(self, message: FromWorker) -> bool:
        if self._connected and not self._link.send(message):
            self._disconnected()
        return self._connected

    def _disconnected(self) -> None:
        """The meter is gone, or has sent us away."""
        self._connected = self._welcome = False
        self._since = monotonic()
        self._retry_at = max(self._retry_at, monotonic() + _BACKOFF[0])
        self._accounts.disconnected()
        self._flush_finished(self._flush_wanted)

    def _listen(self) -> None:
        messages = self._link.receive()
        for message in messages or ():
            self._receive(message)
        if messages is None:
            self._disconnected()

    def _receive(self, message: FromMeter) -> None:
        if isinstance(message, Settlements):
            self._accounts.tell(message.accounted)
            if message.place is not None:
                self._place = message.place
            for settled in message.items:
                span = self._reporter.spans.pop(settled.id, None)
                if span is not None:
                    span.end(settled, self._place)
        elif isinstance(message, Flushed):
            self._flush_finished(message.number)
        elif isinstance(message, Welcome):
            self._place = message.place
            self._reporter.end_spans(after=self._accounts.welcomed(message.meter, message.received))
            if not self._welcome:
                self._welcome = True
                self._waker.wake()
        elif isinstance(message, Refused):
            _LOG.warning("ecolyzer: the meter refuses this process: %s", message.reason)
            self._retry_at = monotonic() + _REFUSED

    def _flush_finished(self, number: int) -> None:
        self._flush_done = max(self._flush_done, min(number, self._flush_wanted))

    # The report.

    def _report(self, *, flush: bool) -> None:
        if self._reporter.busy:
            self._last_busy = monotonic()
        elif self._quiet and not flush:
            self._reporter.rest()
            return
        quiet = monotonic() - self._last_busy > _QUIET_AFTER
        for batch, calls in self._reporter.batches(hold=not flush, quiet=quiet):
            self._tell(batch, calls)
        self._quiet = quiet

    def _tell(self, batch: Batch, calls: list[Call]) -> None:
        """Send one batch; where the connection ends meanwhile, its requests are uncertain like those before."""
        for done in batch.done:
            self._accounts.sent += 1
            span = self._reporter.spans.get(done.id)
            if span is not None:
                span.position = self._accounts.sent
        for done in batch.joint:
            span = self._reporter.spans.get(done.id)
            if span is not None:
                span.position = self._accounts.sent
        try:
            self._send(batch)
        except ProtocolError:  # longer than a frame may be
            self._accounts.sent -= len(calls)
            self._accounts.lose("queue_full", len(calls))
            _LOG.warning("ecolyzer: %d requests have names too long to report", len(calls))
            for done in (*batch.joint, *batch.done):
                span = self._reporter.spans.pop(done.id, None)
                if span is not None:
                    span.end(None, None)
