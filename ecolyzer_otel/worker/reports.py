"""The reports of a worker: records of finished and open calls, clocks, the watermark, spans."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic_ns, time_ns
from typing import Final

import msgspec
from opentelemetry import trace

from ecolyzer_otel.wire.limits import MAX_DONE, MAX_NAME, MAX_OPEN
from ecolyzer_otel.wire.protocol import Batch, Busy, Done, Open
from ecolyzer_otel.worker.accounts import Accounts
from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.cpu_clocks import ClockReading, ProcessClocks, native_ids, thread_cpu_ns
from ecolyzer_otel.worker.details import Details
from ecolyzer_otel.worker.device_names import sensor_name
from ecolyzer_otel.worker.models import ModelBook
from ecolyzer_otel.worker.records import complete, kernels_are_final, kernels_of, phases_of, whole
from ecolyzer_otel.worker.spans import RequestSpan, error_name, start_span
from ecolyzer_otel.worker.state import State
from ecolyzer_otel.worker.thread_ids import main_thread
from ecolyzer_otel.worker.thread_shares import ThreadShares
from ecolyzer_otel.worker.trace_provider import spans_are_exported
from ecolyzer_otel.worker.web_route import route_of

__all__ = ["Reporter"]

_LOG = logging.getLogger(__name__)

#: A call that has been open for this long gets an open record.
_OPEN_AFTER_NS: Final = 250_000_000
#: A report waits this long after the end of a call for its route and its kernels, and no longer.
_HOLD_NS: Final = 500_000_000
#: The most finished requests of one batch, and the most joint calls.
_CHUNK: Final = MAX_DONE // 4
_NO_KERNELS: Final[Busy] = {}


@dataclass(frozen=True, slots=True)
class _Spans:
    """How spans of one report are started."""

    #: Unix time less monotonic time, in nanoseconds.
    epoch_ns: int
    #: Whether anything exports them.
    exported: bool


class Reporter:
    """Turns the calls of one process into batches. Used by the background thread alone.

    Args:
        state: the calls of this process.
        accounts: their counts.
    """

    def __init__(self, state: State, accounts: Accounts) -> None:
        self.models = ModelBook(state.names)
        self.clocks = ProcessClocks()
        self.spans: dict[int, RequestSpan] = {}
        self._state = state
        self._accounts = accounts
        self._held: list[Call] = []
        self._shares = ThreadShares()
        self._next_id = 0
        self._watermark_ns = monotonic_ns()
        self._quiet_clock: ClockReading | None = None

    @property
    def busy(self) -> bool:
        """Whether there are calls to report."""
        return bool(self._state.open or self._state.done or self._held)

    def rest(self) -> None:
        """Remember the clocks of a moment in which nothing runs; the next report includes them."""
        self._quiet_clock = self.clocks.read()

    def batches(self, *, hold: bool, quiet: bool) -> Iterator[tuple[Batch, list[Call]]]:
        """Report what happened since the last time, in batches of bounded size, each with the calls that it holds.

        Args:
            hold: keep calls whose route or kernels are not final for a later report.
            quiet: report that nothing runs.
        """
        now = monotonic_ns()
        open_calls = list(self._state.open.copy())  # before draining: see call.py
        fresh = self._drain()
        spent = self._divide_cpu(fresh, now)
        calls = self._ready(fresh, now, hold=hold)
        joint = [call for call in calls if call.serves]
        if joint:
            calls = [call for call in calls if not call.serves]
        opens = self._open_records(open_calls, now, spent)
        clocks: list[tuple[int, int, int]] = [] if self._quiet_clock is None else [self._quiet_clock]
        clocks.append(self.clocks.read())
        self._quiet_clock = None
        watermark = self.watermark(open_calls, now)
        spans = _Spans(_epoch_ns(), spans_are_exported())
        while True:
            served, joint = [self._done(call, spans) for call in joint[:_CHUNK]], joint[_CHUNK:]
            chunk, calls = calls[:_CHUNK], calls[_CHUNK:]
            done = [self._done(call, spans) for call in chunk]
            last = not (calls or joint)
            yield Batch(
                now, watermark if last else self._watermark_ns, clocks if last else [], self.models.announce(),
                opens if last else [], done, self._accounts.served - len(calls), self._accounts.dropped(),
                quiet and last, {}, served,
            ), chunk  # fmt: skip
            if last:
                break
        self._watermark_ns = watermark

    def _divide_cpu(self, fresh: list[Call], now: int) -> Mapping[int, int]:
        """Divide thread clocks among calls that shared a thread. Returns CPU nanoseconds by ``id`` of a call.

        Once per finished call, at its end, even if its report then waits for the route. Empty where each call has
        what its own clocks show.
        """
        running = [call for call in self._state.open.copy() if call.start_ns]
        long = any(now - call.start_ns >= _OPEN_AFTER_NS for call in running)
        if not long and not self._shares.needed(fresh, running):
            return {}
        spent = self._shares.spent(fresh, running, self._clocks_of(running, now, native_ids()))
        for call in fresh:
            call.cpu_ns = spent[id(call)]
        return spent

    def _drain(self) -> list[Call]:
        """The calls that have finished since the last time."""
        while self._state.forgotten:
            self.models.forget(self._state.forgotten.popleft())
        done = self._state.done
        fresh = [done.popleft() for _ in range(len(done))]
        self._accounts.drained += sum(not call.serves for call in fresh)
        return fresh

    def _ready(self, fresh: list[Call], now: int, *, hold: bool) -> list[Call]:
        """The finished calls that are complete, or that the report no longer waits for."""
        waiting, self._held = self._held + fresh, []
        ready: list[Call] = []
        for call in waiting:
            call.route, route_is_final = route_of(call)
            if route_is_final and call.details is None and call.spec.kernels is None:  # complete
                ready.append(call)
                continue
            if call.details is not None and call.details.training:
                self._accounts.drained -= 1  # it was training, not a request
                continue
            final = (
                not hold
                or now - call.end_ns > _HOLD_NS
                or (route_is_final and not _may_be_training(call) and kernels_are_final(call))
            )
            (ready if final else self._held).append(call)
        self._forget_old_training(now)
        return ready

    def _forget_old_training(self, now: int) -> None:
        """Forget calls that may have been training and are reported by now: they would keep their models alive."""
        waiting = self._state.maybe_training
        with contextlib.suppress(IndexError):  # taken meanwhile by mark_training()
            while waiting and waiting[0].end_ns and now - waiting[0].end_ns > 2 * _HOLD_NS:
                waiting.popleft()

    def drop_waiting(self, reason: str) -> None:
        """Without a meter: count the finished requests as dropped, and end their spans."""
        for call in self._ready(self._drain(), monotonic_ns(), hold=False):
            if not call.serves:
                self._accounts.lose(reason)
            span = start_span(call, self.models.facts(call), whole(call.items), _epoch_ns())
            if span is not None:
                span.end(None, None)

    def watermark(self, open_calls: Sequence[Call], now: int) -> int:
        """The start of the oldest unreported call, open or finished, else ``now``; it never goes back."""
        starts = [call.start_ns or self._watermark_ns for call in open_calls if not call.number]
        starts += [call.start_ns for call in self._held if not call.number]
        return max(self._watermark_ns, min(starts, default=now))

    # Open calls.

    def _clocks_of(self, running: list[Call], now: int, natives: Mapping[int, int]) -> dict[int, int]:
        """The CPU clock now of each thread in which a call has been open for long."""
        clocks: dict[int, int] = {}
        for call in running:
            if now - call.start_ns < _OPEN_AFTER_NS or call.thread in clocks:
                continue
            main = self._state.pid if call.thread == main_thread() else None
            native = natives.get(call.thread, main)
            clock = thread_cpu_ns(native) if native else None
            in_thread = [one for one in running if one.thread == call.thread]
            if clock and not any(one.open for one in in_thread):
                # They ended while the clock was read, and it may count calls that began later.
                clock = max(one.cpu_start_ns + max(0, one.cpu_ns) for one in in_thread)
            clocks[call.thread] = clock or 0
        return clocks

    def _open_records(self, open_calls: list[Call], now: int, spent: Mapping[int, int]) -> list[Open]:
        records: list[Open] = []
        for call in open_calls:
            if not call.start_ns or now - call.start_ns < _OPEN_AFTER_NS:
                continue
            if len(records) >= MAX_OPEN:
                break  # the others only hold the watermark back
            self._number(call)
            cpu_ns = spent.get(id(call), 0) + sum(call.extra_cpu or ())
            facts, key = self.models.facts_and_key(call)
            records.append(Open(
                call.number, call.start_ns, cpu_ns, sensor_name(facts.device), kernels_of(call),
                key, call.spec.operation[:MAX_NAME], whole(call.items),
                phases_of(call, now, cpu_ns, sum(call.extra_cpu or ())),
            ))  # fmt: skip
        return records

    def _number(self, call: Call) -> int:
        if not call.number:
            self._next_id += 1
            call.number = self._next_id
        return call.number

    # Finished calls.

    def _done(self, call: Call, spans: _Spans) -> Done:
        """The record of a finished call; starts its span."""
        details = call.details
        if details is not None:
            complete(call)
        facts, key = self.models.facts_and_key(call)
        number = self._number(call)
        trace_id = span_id = ""
        busy = _NO_KERNELS if call.spec.kernels is None else kernels_of(call)
        # A span that is not exported would cost more than everything else here.
        span = None
        if spans.exported or details is not None:
            span = start_span(call, facts, whole(call.items), spans.epoch_ns)
        if span is not None:
            self.spans[number] = span
            span.kernels = bool(busy)
            if spans.exported and span.span is not None:
                context = span.span.get_span_context()
                if context.trace_flags.sampled:
                    trace_id = trace.format_trace_id(context.trace_id)
                    span_id = trace.format_span_id(context.span_id)
        lent = 0 if call.extra_cpu is None else sum(call.extra_cpu)
        cpu_ns = lent + call.cpu_ns if call.cpu_ns > 0 else lent
        error = "" if call.error is None else error_name(call.error)[:MAX_NAME]
        done = Done(
            number, key, call.spec.operation[:MAX_NAME], call.start_ns, call.end_ns, cpu_ns, whole(call.items),
            error, call.route[:MAX_NAME], trace_id, span_id, span is not None, busy,
        )  # fmt: skip
        return done if details is None else self._with_details(done, call, details, lent)

    def _with_details(self, done: Done, call: Call, details: Details, lent: int) -> Done:
        """The record with the fields that only some calls have."""
        tokens = None if details.tokens is None else (whole(details.tokens[0]), whole(details.tokens[1]))
        members = [(self._number(member), float(weight)) for member, weight in (details.members or ())][:MAX_OPEN]
        first_ns = details.first_token_ns if call.start_ns <= details.first_token_ns <= call.end_ns else 0
        return msgspec.structs.replace(
            done, phases=phases_of(call, call.end_ns, done.cpu_ns, lent), tokens=tokens, first_token_ns=first_ns,
            warmup=details.warmup, members=members, joint=details.joint,
        )  # fmt: skip

    def end_spans(self, after: int = 0) -> None:
        """End the spans of requests sent after the first ``after``: no settlement of them will come."""
        for number in [number for number, span in self.spans.items() if span.position > after]:
            self.spans.pop(number).end(None, None)


def _may_be_training(call: Call) -> bool:
    return call.details is not None and call.details.maybe_training


def _epoch_ns() -> int:
    """Unix time less monotonic time, in nanoseconds."""
    return time_ns() - monotonic_ns()
