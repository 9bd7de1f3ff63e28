"""What a worker tells of its calls: records of finished and open ones, clocks, the watermark, spans."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic_ns, time_ns
from typing import Any, Final

import msgspec
from opentelemetry import trace

from ecolyzer_otel.wire.limits import MAX_DONE, MAX_NAME, MAX_OPEN, MAX_PHASES, MAX_SPANS
from ecolyzer_otel.wire.protocol import Batch, Busy, Done, Open
from ecolyzer_otel.worker.accounts import Accounts
from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.cpu_clocks import ProcessClocks, native_ids, thread_cpu_ns
from ecolyzer_otel.worker.device_names import sensor_name
from ecolyzer_otel.worker.models import ModelBook
from ecolyzer_otel.worker.spans import RequestSpan, error_name, start_span
from ecolyzer_otel.worker.spec import ModelFacts
from ecolyzer_otel.worker.state import State
from ecolyzer_otel.worker.thread_ids import main_thread
from ecolyzer_otel.worker.thread_shares import ThreadShares
from ecolyzer_otel.worker.trace_provider import spans_are_exported
from ecolyzer_otel.worker.web_route import route_of

__all__ = ["Reporter"]

_LOG = logging.getLogger(__name__)

_OPEN_AFTER_NS: Final = 250_000_000
#: A web framework that has not told its route, and a device that has not told its kernels, this long after the call
#: ended is not waited for.
_HOLD_NS: Final = 500_000_000
_CHUNK: Final = MAX_DONE // 4
_NOT_BUSY: Final[Busy] = {}


class Reporter:
    """Turns the calls of one process into batches. Used by the background thread alone.

    Args:
        state: the calls of this process.
        accounts: what became of them.
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
        self._calm_clock: tuple[int, int, int] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is anything to tell of."""
        return bool(self._state.open or self._state.done or self._held)

    def rest(self) -> None:
        """Nothing runs and nothing is told; remember the clocks of the last quiet moment."""
        self._calm_clock = self.clocks.read()

    def batches(self, *, hold: bool, quiet: bool) -> Iterator[tuple[Batch, list[Call]]]:
        """All that happened since the last time, in batches of bounded size, each with the calls that it holds.

        Args:
            hold: keep back calls whose route or kernels may become known in a moment.
            quiet: say that nothing runs.
        """
        now = monotonic_ns()
        open_calls = list(self._state.open.copy())  # before draining: see call.py
        fresh = self._drain()
        running = [call for call in self._state.open.copy() if call.start_ns]
        # Divided once, when it has ended: also a call that is then held back for its route.
        spent: Mapping[int, int] = {}
        long = any(now - call.start_ns >= _OPEN_AFTER_NS for call in running)
        if long or self._shares.needed(fresh, running):
            spent = self._shares.spent(fresh, running, self._clocks_of(running, now, native_ids()))
            for call in fresh:
                call.cpu_ns = spent[id(call)]
        calls = self._ready(fresh, now, hold=hold)
        joint = [call for call in calls if call.serves]
        if joint:
            calls = [call for call in calls if not call.serves]
        opens = self._open_records(open_calls, now, spent)
        clocks = [self.clocks.read()] if self._calm_clock is None else [self._calm_clock, self.clocks.read()]
        self._calm_clock = None
        watermark = self.watermark(open_calls, now)
        epoch_ns = time_ns() - monotonic_ns()
        exported = spans_are_exported()
        while True:
            served, joint = [self._done(call, epoch_ns, exported) for call in joint[:_CHUNK]], joint[_CHUNK:]
            chunk, calls = calls[:_CHUNK], calls[_CHUNK:]
            done = [self._done(call, epoch_ns, exported) for call in chunk]
            last = not (calls or joint)
            yield Batch(
                now, watermark if last else self._watermark_ns, clocks if last else [], self.models.announce(),
                opens if last else [], done, self._accounts.served - len(calls), self._accounts.dropped(),
                quiet and last, {}, served,
            ), chunk  # fmt: skip
            if last:
                break
        self._watermark_ns = watermark

    def _drain(self) -> list[Call]:
        """The calls that have finished since the last time."""
        while self._state.forgotten:
            self.models.forget(self._state.forgotten.popleft())
        done = self._state.done
        fresh = [done.popleft() for _ in range(len(done))]
        self._accounts.drained += len(fresh) - sum(call.details is not None and call.serves for call in fresh)
        return fresh

    def _ready(self, fresh: list[Call], now: int, *, hold: bool) -> list[Call]:
        """The finished calls of which all is known, or no longer waited for."""
        waiting, self._held = self._held + fresh, []
        ready: list[Call] = []
        for call in waiting:
            call.route, known = route_of(call)
            if known and call.details is None and call.spec.kernels is None:  # nothing of it can change any more
                ready.append(call)
                continue
            if call.details is not None and call.details.training:
                self._accounts.drained -= 1  # it has turned out to be no request
                continue
            final = (
                not hold
                or now - call.end_ns > _HOLD_NS
                or (known and _settled_in_kind(call) and _kernels_known(call))
            )
            (ready if final else self._held).append(call)
        self._settle_doubts(now)
        return ready

    def _settle_doubts(self, now: int) -> None:
        """Forget calls that may have been training, and are told of by now: they would keep their models alive."""
        waiting = self._state.maybe_training
        with contextlib.suppress(IndexError):  # taken meanwhile by whoever learns that they were
            while waiting and waiting[0].end_ns and now - waiting[0].end_ns > 2 * _HOLD_NS:
                waiting.popleft()

    def drop_waiting(self, reason: str) -> None:
        """Nobody is there to be told: lose what has finished, and end its spans."""
        for call in self._ready(self._drain(), monotonic_ns(), hold=False):
            if not call.serves:
                self._accounts.lose(reason)
            span = self._start_span(call, self.models.facts(call), time_ns() - monotonic_ns())
            if span is not None:
                span.end(None, None)

    def watermark(self, open_calls: Sequence[Call], now: int) -> int:
        """The start of the oldest call that the meter does not know of, or ``now``; never back."""
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
            there = [one for one in running if one.thread == call.thread]
            if clock and not any(one.open for one in there):
                # They ended while the clock was read, and it may have run on for others.
                clock = max(one.cpu_start_ns + max(0, one.cpu_ns) for one in there)
            clocks[call.thread] = clock or 0
        return clocks

    def _open_records(self, open_calls: list[Call], now: int, spent: Mapping[int, int]) -> list[Open]:
        records: list[Open] = []
        for call in open_calls:
            if not call.start_ns or now - call.start_ns < _OPEN_AFTER_NS:
                continue
            if len(records) >= MAX_OPEN:
                break  # the others hold the watermark back
            self._number(call)
            cpu_ns = spent.get(id(call), 0) + sum(call.extra_cpu or ())
            facts, key = self.models.known(call)
            records.append(Open(
                call.number, call.start_ns, cpu_ns, sensor_name(facts.device), _kernels(call),
                key, call.spec.operation[:MAX_NAME], whole(call.items),
                _phases(call, now, cpu_ns, sum(call.extra_cpu or ())),
            ))  # fmt: skip
        return records

    def _number(self, call: Call) -> int:
        if not call.number:
            self._next_id += 1
            call.number = self._next_id
        return call.number

    # Finished calls.

    def _done(self, call: Call, epoch_ns: int, exported: bool) -> Done:
        more = call.details
        if more is not None:
            _complete(call)
        facts, key = self.models.known(call)
        number = self._number(call)
        trace_id = span_id = ""
        busy = _NOT_BUSY if call.spec.kernels is None else _kernels(call)
        # A span that nobody sees costs more than everything else here.
        span = self._start_span(call, facts, epoch_ns) if exported or more is not None else None
        if span is not None:
            self.spans[number] = span
            span.kernels = bool(busy)
            if exported and span.span is not None:
                context = span.span.get_span_context()
                if context.trace_flags.sampled:
                    trace_id, span_id = (
                        trace.format_trace_id(context.trace_id),
                        trace.format_span_id(context.span_id),
                    )
        lent = 0 if call.extra_cpu is None else sum(call.extra_cpu)
        cpu_ns = lent + call.cpu_ns if call.cpu_ns > 0 else lent
        error = "" if call.error is None else error_name(call.error)[:MAX_NAME]
        done = Done(
            number, key, call.spec.operation[:MAX_NAME], call.start_ns, call.end_ns, cpu_ns, whole(call.items),
            error, call.route[:MAX_NAME], trace_id, span_id, span is not None, busy,
        )  # fmt: skip
        return done if more is None else self._and_more(done, call, lent)

    def _and_more(self, done: Done, call: Call, lent: int) -> Done:
        """What only some calls have."""
        more = call.ensure_details()
        tokens = None if more.tokens is None else (whole(more.tokens[0]), whole(more.tokens[1]))
        members = [(self._number(member), float(weight)) for member, weight in (more.members or ())][:MAX_OPEN]
        first_ns = more.first_token_ns if call.start_ns <= more.first_token_ns <= call.end_ns else 0
        return msgspec.structs.replace(
            done, phases=_phases(call, call.end_ns, done.cpu_ns, lent), tokens=tokens, first_token_ns=first_ns,
            warmup=more.warmup, members=members, joint=more.joint,
        )  # fmt: skip

    @staticmethod
    def _start_span(call: Call, facts: ModelFacts, epoch_ns: int) -> RequestSpan | None:
        return start_span(call, facts, whole(call.items), epoch_ns)

    def end_spans(self, after: int = 0) -> None:
        """End the spans of requests sent after the first ``after``: no settlement of them will come."""
        for number in [number for number, span in self.spans.items() if span.position > after]:
            self.spans.pop(number).end(None, None)


def whole(items: Any) -> int:
    """A batch size as an integer of at least 0; 1 where it is none (a symbolic or missing dimension)."""
    if type(items) is int and 0 <= items < 1 << 62:
        return items
    try:
        return min(max(0, int(items)), 1 << 62)
    except (TypeError, ValueError, OverflowError):
        return 1


def _serves(call: Call) -> bool:
    """Whether this is a call that served several requests, and none itself."""
    return call.details is not None and call.details.members is not None


def _settled_in_kind(call: Call) -> bool:
    """Whether it can no longer turn out to be training."""
    return call.details is None or not call.details.maybe_training


def _complete(call: Call) -> None:
    """What the instrumentor noted becomes numbers."""
    if call.details is None or call.details.completions is None:
        return
    completions, call.details.completions = call.details.completions, None
    for complete in completions:
        try:
            complete(call)
        except Exception:  # noqa: BLE001 - never hurt the service
            _LOG.debug("ecolyzer: what was noted of a request could not be read", exc_info=True)


def _phases(call: Call, end_ns: int, cpu_ns: int, lent: int) -> list[tuple[str, int, int]]:
    """The phases of a call with the CPU time that it had spent when each began.

    That of helper threads (``lent``) is taken to be spread evenly over the call. The call's own clock may have been
    divided among calls that took turns in its thread; then each phase has the same part of it.
    """
    if call.details is None or not call.details.phases:
        return []
    phases = call.details.phases[:MAX_PHASES]
    length = max(1, end_ns - call.start_ns)
    own = max(0, cpu_ns - lent)
    clocks = [max(0, clock - call.cpu_start_ns) if clock else 0 for _, _, clock in phases]
    grown = max(1, call.cpu_ns if call.cpu_ns > 0 else own, *clocks)
    told = []
    for (name, start_ns, _), clock in zip(phases, clocks, strict=True):
        part = min(1.0, max(0.0, (start_ns - call.start_ns) / length))
        told.append((name[:MAX_NAME], start_ns, round(own * min(1.0, clock / grown) + lent * part)))
    return told


def _kernels_known(call: Call) -> bool:
    return call.spec.kernels is None or _ask(call) is not None


def _ask(call: Call) -> Mapping[str, Sequence[Sequence[int]]] | None:
    try:
        return call.spec.kernels(call) if call.spec.kernels is not None else {}
    except Exception:  # noqa: BLE001 - never hurt the service
        _LOG.debug("ecolyzer: the kernels of a request could not be read", exc_info=True)
        return {}


def _kernels(call: Call) -> Busy:
    """Busy intervals of a call's kernels by the meter's name of the device, bounded in number."""
    told = _ask(call) or {}
    return {
        (sensor_name(device) or device)[:MAX_NAME]: _joined(sorted((int(low), int(high)) for low, high in spans))
        for device, spans in told.items()
    }


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most :data:`MAX_SPANS` intervals: overlaps become one, then those with the smallest gaps do."""
    merged: list[tuple[int, int]] = []
    for low, high in spans:
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    if len(merged) <= MAX_SPANS:
        return merged
    gaps = sorted(range(1, len(merged)), key=lambda i: merged[i][0] - merged[i - 1][1], reverse=True)
    starts = sorted([0, *gaps[: MAX_SPANS - 1]])
    ends = [start - 1 for start in starts[1:]] + [len(merged) - 1]
    return [(merged[first][0], merged[last][1]) for first, last in zip(starts, ends, strict=True)]
