"""The background thread of a worker: reports calls to the meter, and ends spans at their settlement."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from time import monotonic
from typing import Final

from ecolyzer_otel.common.backoff import Backoff
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
from ecolyzer_otel.worker.state import State
from ecolyzer_otel.worker.tickets import Tickets
from ecolyzer_otel.worker.trace_provider import service_of_spans, spans_are_exported

__all__ = ["PERIOD", "Worker"]

_LOG = logging.getLogger(__name__)

#: Seconds between two reports; a killed worker loses at most the requests of this time.
PERIOD: Final = 0.1
#: Seconds between two cycles while a caller waits for a flush or a delivery.
_FLUSHING: Final = 0.01
_QUIET_AFTER: Final = 2.0
#: The longest rest without calls, in seconds. A call, a message of the meter, or a flush ends it.
_REST: Final = 60.0
#: First and longest wait between two tries to connect, in seconds.
_CONNECT_WAITS: Final = (0.1, 1.0)
#: This many tries are made at the first wait: a meter that another worker has just started closes its first
#: intervals within a second, and records of these that arrive later are late.
_TRIES_AT_FIRST: Final = 20
#: Wait after a refusal by the meter, in seconds.
_REFUSED: Final = 60.0
#: After the meter is lost, spans of requests sent to it wait this long for it to return, in seconds.
_RETURN_SECONDS: Final = 1.0
#: After a reconnection, requests that finish wait this long for the meter's answer, in seconds.
_WELCOME_SECONDS: Final = 2.0


class Worker:
    """The background thread. One per process, created by its first instrumented call.

    Args:
        state: the calls of this process.
        link: the connection to the meter.
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
        self._retry_at = 0.0
        self._backoff = Backoff(*_CONNECT_WAITS, _TRIES_AT_FIRST)
        self._quiet = False
        self._last_busy = monotonic()
        self._waker = Waker()
        self._stopping = self._running = False
        self._thread_id = 0
        #: Done when the meter has accounted for the finished requests; see :meth:`flush`.
        self._flushes = Tickets()
        #: Done when the finished requests are written to the socket; see :meth:`deliver`.
        self._deliveries = Tickets()
        link.on_message(self._waker.wake)

    def start(self) -> None:
        """Start the thread."""
        self._running = True
        start_thread(self._run)

    @property
    def exports_spans(self) -> bool:
        """Whether the spans of this process are exported."""
        return spans_are_exported()

    def counts(self) -> dict[str, int]:
        """Requests of this process: served, accounted for by the meter, dropped, and pending."""
        return self._accounts.counts()

    # Waiting, in threads of the service.

    def flush(self, timeout: float) -> bool:
        """Wait until every request finished so far is accounted for. Returns whether it is within ``timeout``."""
        return self._wait_for(self._flushes, timeout)

    def deliver(self, timeout: float) -> bool:
        """Wait until every request finished so far is reported, settled or not. Returns whether it is in time.

        The meter receives the bytes in the socket even if this process ends.
        """
        return self._wait_for(self._deliveries if self._link.outlives_process else self._flushes, timeout)

    def _wait_for(self, tickets: Tickets, timeout: float) -> bool:
        # The thread cannot wait for itself, and nothing is done once it has ended.
        if not self._running or unpatched("_thread", "get_ident")() == self._thread_id:
            return False
        number = tickets.take()
        self._waker.wake()
        deadline = monotonic() + timeout
        # The service's own sleep, so that under gevent its other greenlets go on.
        while tickets.done < number and self._running and monotonic() < deadline:
            time.sleep(0.002)
        return tickets.done >= number

    def stop(self, timeout: float) -> None:
        """Flush, end the thread and close the link."""
        self.flush(timeout)
        self._stopping = True
        self._waker.wake()
        deadline = monotonic() + timeout
        while self._running and monotonic() < deadline:
            time.sleep(0.002)

    def wake(self) -> None:
        """End a rest. Called on the request path."""
        self._waker.wake()

    def forked(self) -> None:
        """In a forked child: close the parent's descriptors, or the meter would not notice the parent's end."""
        with contextlib.suppress(Exception):
            self._link.forked()
            self._waker.close()

    # The thread.

    def _run(self) -> None:
        self._thread_id = unpatched("_thread", "get_ident")()
        self._reporter.clocks.own.add(unpatched("_thread", "get_native_id")())
        next_report = 0.0
        attentive = True
        while not self._stopping:
            try:
                due = self._flushes.to_send or self._deliveries.to_send or monotonic() >= next_report
                if self._connected and (due or attentive):
                    self._receive_messages()
                if due:
                    next_report = monotonic() + PERIOD
                    self._cycle()
                if not self._link.unsent:
                    self._deliveries.finish(self._deliveries.sent)
                waited_for = self._flushes.waiting or self._deliveries.waiting
                pause = _FLUSHING if waited_for else max(0.0, next_report - monotonic())
                # Without a waiting caller, messages of the meter are read with the next report: on a busy core
                # each wake-up of this thread costs the service more than the work done in it.
                attentive = waited_for or not self._welcome or self._link.unsent or self._link.free_to_receive
                if not attentive and self._may_rest():
                    self._rest()
                else:
                    self._waker.wait(pause, self._link.descriptor if attentive else -1, write=self._link.unsent)
            except Exception:  # noqa: BLE001 - never hurt the service
                # An error of ours must neither end the service nor stay unreported.
                _LOG.warning("ecolyzer: error in the background thread, which continues", exc_info=True)
                self._waker.wait(PERIOD)
        self._link.close()
        self._reporter.end_spans()
        self._waker.close()
        self._running = False

    def _may_rest(self) -> bool:
        """Whether there is nothing to report, and the meter has been sent that. The next call wakes the thread."""
        if not (self._quiet and self._connected) or self._reporter.spans:
            return False
        self._state.resting = True
        if self._reporter.busy:  # a call began before it could see that
            self._state.resting = False
        return self._state.resting

    def _rest(self) -> None:
        self._waker.wait(_REST, self._link.descriptor)
        self._state.resting = False
        self._reporter.rest()  # a call that has woken the thread has used next to no CPU time yet
        if self._connected:
            self._receive_messages()

    def _cycle(self) -> None:
        """Connect where needed, report, and pass flushes on to the meter."""
        flush, delivery = self._flushes.taken, self._deliveries.taken
        if not self._connected and not self._connect():
            self._without_meter(flush)
            self._deliveries.sent = delivery
            return
        if not self._welcome:  # reconnected: the meter first states which requests it has received
            if monotonic() - self._since > _WELCOME_SECONDS:
                self._reporter.drop_waiting("no_meter")
                self._flushes.finish(flush)
                self._deliveries.sent = delivery
            return
        if self._link.congested:
            return  # what finishes meanwhile waits in the queue, which drops and counts when it is full
        self._report(flush=flush > self._flushes.sent or delivery > self._deliveries.sent)
        self._deliveries.sent = delivery
        if self._connected and flush > self._flushes.sent:
            self._flushes.sent = flush
            self._send(Flush(flush))

    def _without_meter(self, flush: int) -> None:
        self._reporter.drop_waiting("no_meter")
        if flush > self._flushes.done or monotonic() - self._since > _RETURN_SECONDS:
            self._reporter.end_spans()
        self._flushes.sent = flush
        self._flushes.finish(flush)

    # The connection.

    def _connect(self) -> bool:
        if monotonic() < self._retry_at:
            return False
        if not self._link.connect():
            self._retry_at = monotonic() + self._backoff.fail()
            return False
        self._backoff.succeed()
        self._connections += 1
        # The first meter is sent records before it answers: the worker may not live that long.
        self._connected, self._welcome = True, self._connections == 1
        self._since = self._last_busy = monotonic()
        self._quiet = False
        self._flushes.send_again()
        self._reporter.models.reset_keys()
        service = (self._service or service_of_spans())[:MAX_NAME]
        return self._send(Hello(VERSION, self._state.pid, service, OLDEST, self._token))

    def _send(self, message: FromWorker) -> bool:
        if self._connected and not self._link.send(message):
            self._disconnected()
        return self._connected

    def _disconnected(self) -> None:
        """The meter has ended, or has closed the connection."""
        self._connected = self._welcome = False
        self._since = monotonic()
        self._retry_at = max(self._retry_at, monotonic() + _CONNECT_WAITS[0])
        self._accounts.disconnected()
        self._flushes.finish(self._flushes.taken)

    def _receive_messages(self) -> None:
        messages = self._link.receive()
        for message in messages or ():
            self._receive(message)
        if messages is None:
            self._disconnected()

    def _receive(self, message: FromMeter) -> None:
        if isinstance(message, Settlements):
            self._accounts.account_for(message.accounted)
            if message.place is not None:
                self._place = message.place
            for settled in message.items:
                span = self._reporter.spans.pop(settled.id, None)
                if span is not None:
                    span.end(settled, self._place)
        elif isinstance(message, Flushed):
            self._flushes.finish(message.number)
        elif isinstance(message, Welcome):
            self._place = message.place
            self._reporter.end_spans(after=self._accounts.welcomed(message.meter, message.received))
            if not self._welcome:
                self._welcome = True
                self._waker.wake()
        elif isinstance(message, Refused):
            _LOG.warning("ecolyzer: the meter refuses this process: %s", message.reason)
            self._retry_at = monotonic() + _REFUSED

    # The report.

    def _report(self, *, flush: bool) -> None:
        if self._reporter.busy:
            self._last_busy = monotonic()
        elif self._quiet and not flush:
            self._reporter.rest()
            return
        quiet = monotonic() - self._last_busy > _QUIET_AFTER
        for batch, calls in self._reporter.batches(hold=not flush, quiet=quiet):
            self._send_batch(batch, calls)
        self._quiet = quiet

    def _send_batch(self, batch: Batch, calls: list[Call]) -> None:
        """Send one batch. If the connection ends meanwhile, its requests are uncertain like those sent before."""
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
