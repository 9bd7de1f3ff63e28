"""The background thread of a worker: drains finished calls, reports them to the meter, ends their spans."""

from __future__ import annotations

import logging
import threading
from time import monotonic, monotonic_ns, time_ns
from typing import Any, Final

from opentelemetry import trace

from ecolyzer_otel.agent.clocks import ProcessClocks, thread_cpu_ns
from ecolyzer_otel.agent.link import Link
from ecolyzer_otel.agent.models import ModelBook
from ecolyzer_otel.agent.protocol import (
    MAX_DONE,
    MAX_NAME,
    VERSION,
    Batch,
    Done,
    Flush,
    Flushed,
    FromMeter,
    Hello,
    Open,
    PlaceFacts,
    Settlements,
    Welcome,
)
from ecolyzer_otel.request import Call, State
from ecolyzer_otel.telemetry.spans import (
    RequestSpan,
    end_span,
    error_name,
    route_of,
    service_of_spans,
    spans_are_exported,
    start_span,
)

__all__ = ["PERIOD", "Worker"]

_LOG = logging.getLogger(__name__)

#: Seconds between two reports; a killed worker loses at most this much.
PERIOD: Final = 0.1
_OPEN_AFTER_NS: Final = 250_000_000
_QUIET_AFTER: Final = 2.0
#: A web framework that has not told its route this long after the call ended is not waited for.
_HOLD_NS: Final = 500_000_000
_BACKOFF: Final = (0.1, 2.0)


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
        self._models = ModelBook()
        self._clocks = ProcessClocks()
        self._spans: dict[int, RequestSpan] = {}
        self._held: list[Call] = []
        self._place: PlaceFacts | None = None
        self._next_id = 0
        self._drained = self._sent = self._accounted = self._settled_before = 0
        self._lost: dict[str, int] = {}
        self._connected = False
        self._retry_at = self._backoff = 0.0
        self._quiet = False
        self._last_busy = monotonic()
        self._watermark_ns = monotonic_ns()
        self._calm_clock: tuple[int, int, int] | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._flush_wanted = self._flush_sent = self._flush_done = 0
        self._flushed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ecolyzer-worker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def counts(self) -> dict[str, int]:
        """Requests of this process: served, accounted for by the meter, dropped, and not yet accounted for."""
        dropped = sum(self._lost.values()) + self._state.dropped
        served = self._drained + len(self._state.done) + self._state.dropped
        accounted = self._settled_before + self._accounted
        return {
            "served": served,
            "accounted": accounted,
            "dropped": dropped,
            "pending": served - accounted - dropped,
        }

    def flush(self, timeout: float) -> bool:
        """Wait until every request finished so far is accounted for; whether that came about in time."""
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            return False
        with self._flushed:
            self._flush_wanted += 1
            number = self._flush_wanted
        self._wake.set()
        with self._flushed:
            return self._flushed.wait_for(lambda: self._flush_done >= number, timeout)

    def stop(self, timeout: float) -> None:
        """Flush, end the thread and close the link."""
        self.flush(timeout)
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except Exception:  # noqa: BLE001 - never hurt the service
                # Nothing of ours may end the service or be silent about it for ever.
                _LOG.warning("ecolyzer: the worker thread met an error and goes on", exc_info=True)
            self._wake.wait(0.01 if self._flush_wanted > self._flush_done else PERIOD)
            self._wake.clear()
        self._link.close()
        self._end_all_spans()

    def _turn(self) -> None:
        wanted = self._flush_wanted
        if self._connected or self._connect():
            self._report(flush=wanted > self._flush_sent)
        else:
            self._drop_waiting("no_meter")
            self._flush_finished(wanted)
            return
        if self._connected and wanted > self._flush_sent:
            self._flush_sent = wanted
            self._send(Flush(wanted))
        self._listen()

    # The connection.

    def _connect(self) -> bool:
        if monotonic() < self._retry_at:
            return False
        if not self._link.connect():
            self._backoff = min(max(self._backoff * 2, _BACKOFF[0]), _BACKOFF[1])
            self._retry_at = monotonic() + self._backoff
            return False
        self._connected, self._backoff = True, 0.0
        self._quiet, self._last_busy = False, monotonic()
        self._models.reset_keys()
        return self._send(Hello(VERSION, self._state.pid, self._service or service_of_spans()))

    def _send(self, message: Hello | Batch | Flush) -> bool:
        if self._connected and not self._link.send(message):
            self._disconnected()
        return self._connected

    def _disconnected(self) -> None:
        """The meter is gone: what it had not accounted for is lost with it."""
        self._connected = False
        self._retry_at = monotonic() + _BACKOFF[0]
        lost = self._sent - self._accounted
        if lost > 0:
            self._lost["meter_lost"] = self._lost.get("meter_lost", 0) + lost
        self._settled_before += self._accounted
        self._sent = self._accounted = 0
        self._end_all_spans()
        self._flush_finished(self._flush_wanted)

    def _listen(self) -> None:
        messages = self._link.receive(0.05 if self._flush_wanted > self._flush_done else 0.0)
        if messages is None:
            self._disconnected()
            return
        for message in messages:
            self._hear(message)

    def _hear(self, message: FromMeter) -> None:
        if isinstance(message, Settlements):
            self._accounted = message.accounted
            for settled in message.items:
                span = self._spans.pop(settled.id, None)
                if span is not None:
                    end_span(span, settled, self._place)
        elif isinstance(message, Flushed):
            self._flush_finished(message.number)
        elif isinstance(message, Welcome):
            self._place = message.place

    def _flush_finished(self, number: int) -> None:
        if number > self._flush_done:
            with self._flushed:
                self._flush_done = number
                self._flushed.notify_all()

    # What is reported.

    def _report(self, *, flush: bool) -> None:
        now = monotonic_ns()
        open_calls = list(self._state.open.copy().values())  # before draining: see request.py
        calls = self._drain(now, hold=not flush)
        if open_calls or calls or self._held:
            self._last_busy = monotonic()
        elif self._quiet and not flush:
            self._calm_clock = self._clocks.read()
            return
        quiet = monotonic() - self._last_busy > _QUIET_AFTER
        opens = self._open_records(open_calls, now)
        clocks = [self._clocks.read()] if self._calm_clock is None else [self._calm_clock, self._clocks.read()]
        self._calm_clock = None
        watermark = self._watermark(open_calls, now)
        epoch_ns = time_ns() - monotonic_ns()
        exported = spans_are_exported()
        while True:
            chunk, calls = calls[:MAX_DONE], calls[MAX_DONE:]
            done = [self._done(call, epoch_ns, exported) for call in chunk]
            last = not calls
            batch = Batch(
                now, watermark if last else self._watermark_ns, clocks if last else [], self._models.announce(),
                opens if last else [], done, self._drained + self._state.dropped - len(calls), self._dropped(),
                quiet and last,
            )  # fmt: skip
            self._sent += len(done)
            if not self._send(batch):
                for call in calls:
                    self._lose(call, "meter_lost")
                return
            if last:
                break
        self._watermark_ns, self._quiet = watermark, quiet

    def _drain(self, now: int, *, hold: bool) -> list[Call]:
        """The finished calls whose route is known, or no longer waited for."""
        while self._state.forgotten:
            self._models.forget(self._state.forgotten.popleft())
        done = self._state.done
        waiting = self._held + [done.popleft() for _ in range(len(done))]
        self._drained += len(waiting) - len(self._held)
        ready: list[Call] = []
        self._held = []
        for call in waiting:
            final = not hold or now - call.end_ns > _HOLD_NS or route_of(call)[1]
            (ready if final else self._held).append(call)
        return ready

    def _watermark(self, open_calls: list[Call], now: int) -> int:
        """The start of the oldest call that the meter does not know of, or now; never back."""
        starts = [call.start_ns or self._watermark_ns for call in open_calls if not call.number]
        starts += [call.start_ns for call in self._held if not call.number]
        return max(self._watermark_ns, min(starts, default=now))

    def _open_records(self, open_calls: list[Call], now: int) -> list[Open]:
        records: list[Open] = []
        natives: dict[int, int | None] = {}
        for call in open_calls:
            if not call.start_ns or now - call.start_ns < _OPEN_AFTER_NS:
                continue
            natives = natives or {one.ident or 0: one.native_id for one in threading.enumerate()}
            native = natives.get(call.thread)
            clock = thread_cpu_ns(native) if native else None
            spent = 0 if clock is None else max(0, clock - call.cpu_start_ns)
            self._number(call)
            records.append(Open(call.number, call.start_ns, spent + sum(call.extra_cpu or ()), self._device(call)))
        return records

    def _device(self, call: Call) -> str:
        return self._models.facts(call).device

    def _number(self, call: Call) -> int:
        if not call.number:
            self._next_id += 1
            call.number = self._next_id
        return call.number

    def _done(self, call: Call, epoch_ns: int, exported: bool) -> Done:
        facts = self._models.facts(call)
        items = _whole(call.items)
        number = self._number(call)
        trace_id = span_id = ""
        span = start_span(call, facts, facts.framework or call.spec.framework, items, epoch_ns)
        if span is not None:
            self._spans[number] = span
            context = span.span.get_span_context()
            if exported and context.trace_flags.sampled:
                trace_id, span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
        return Done(
            number, self._models.key(facts), call.spec.operation, call.start_ns, call.end_ns,
            max(0, call.cpu_ns) + sum(call.extra_cpu or ()), items, error_name(call.error)[:MAX_NAME],
            route_of(call)[0][:MAX_NAME], trace_id, span_id, span is not None,
        )  # fmt: skip

    # What is lost.

    def _dropped(self) -> dict[str, int]:
        dropped = dict(self._lost)
        if self._state.dropped:
            dropped["queue_full"] = self._state.dropped
        return dropped

    def _drop_waiting(self, reason: str) -> None:
        for call in self._drain(monotonic_ns(), hold=False):
            self._lose(call, reason)

    def _lose(self, call: Call, reason: str) -> None:
        self._lost[reason] = self._lost.get(reason, 0) + 1
        facts = self._models.facts(call)
        span = start_span(
            call, facts, facts.framework or call.spec.framework, _whole(call.items), time_ns() - monotonic_ns()
        )
        if span is not None:
            end_span(span, None, None)

    def _end_all_spans(self) -> None:
        while self._spans:
            end_span(self._spans.popitem()[1], None, None)


def _whole(items: Any) -> int:
    """A batch size as an integer of at least 0; 1 where it is none (a symbolic or missing dimension)."""
    try:
        return max(0, int(items))
    except (TypeError, ValueError, OverflowError):
        return 1
