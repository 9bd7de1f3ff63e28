"""The hot path: what happens in the caller's thread when an instrumented framework is called.

``begin`` publishes the call in the table of open calls and reads the clocks; ``finish`` reads them again and
appends the call to a queue. Everything else (spans, model facts, I/O) happens on the worker's background thread,
which is started by the first call of the process. Nothing here takes a lock, does I/O, grows without bound, or
lets an exception of ours reach the caller.

The order of the steps matters to the watermark: a call is published *before* its start is read (an open call
whose ``start_ns`` is still 0 holds the watermark where it was), and queued *before* it is unpublished.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns, thread_time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import attach, detach, get_current

from ecolyzer_otel.worker import state as states
from ecolyzer_otel.worker.call import Call, current_call, server_span
from ecolyzer_otel.worker.fork import after_fork_in_child, unforked
from ecolyzer_otel.worker.pace import BRIEF_NS, learn, paces
from ecolyzer_otel.worker.spec import CallSpec
from ecolyzer_otel.worker.thread_ids import get_ident

if TYPE_CHECKING:
    from opentelemetry.context.context import Context
    from opentelemetry.trace import Span

__all__ = ["MAX_WAITING", "begin", "finish", "suspend"]

#: Finished calls that may wait for the background thread; more are dropped and counted.
MAX_WAITING: Final = 50_000

#: Starts the span of a container; set when the first framework is patched. None where there are no spans.
open_span: Callable[[Call], tuple[Span, Context] | None] | None = None

# Bound once: CPython (3.11, 3.12) looks up a method of an imported name without its caches.
_enter: Final = current_call.set
_exit: Final = current_call.reset
_served_span: Final = server_span.get
_pace_of: Final = paces.get


def begin(
    spec: CallSpec, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], plain: bool = False
) -> Call | None:
    """Open a call. Returns None after an error of ours: the caller then continues without measuring.

    ``plain``: the call will finish in this thread, and opens no span.
    """
    try:
        if not unforked[0]:
            after_fork_in_child()
        here = states._state
        if here.start_worker is None:
            return None  # patched, but not measuring
        call = Call(spec, model, here)
        here.open[call] = None
        call.token = _enter(call)
        if here.resting:
            here.wake()
        elif not here.started:
            here.start()
        call.context = get_current()
        call.server = _served_span()
        call.items = spec.items(args, kwargs)
        if spec.container:
            _open_span(call)
        if spec.started is not None:
            _started(call, args, kwargs)
        thread = call.thread = get_ident()
        call.encloses = spec.encloses
        pace = _pace_of(thread) if plain else None
        if pace is not None and pace.skips > 0:
            call.pace = pace
            call.cpu_start_ns = pace.cpu_ns
        else:
            call.cpu_start_ns = thread_time_ns()
        call.start_ns = monotonic_ns()
    except Exception:  # noqa: BLE001 - never hurt the service
        _give_up(locals().get("call"))
        return None
    return call


def _open_span(call: Call) -> None:
    """Start the span of a container call and make it the current one."""
    opened = None if open_span is None else open_span(call)
    if opened is not None:
        details = call.ensure_details()
        details.span, context = opened
        details.attached = attach(context)


def _give_up(call: Call | None) -> None:
    if call is not None:
        call.open = False
        call.state.open.pop(call, None)
        _leave(call)
        call.state.drop()
        _end_span(call)


def _leave(call: Call) -> None:
    """Restore the context of before the call."""
    token, call.token = call.token, None
    try:
        if call.details is not None and call.details.attached is not None:
            attached, call.details.attached = call.details.attached, None
            detach(attached)
        if token is not None:
            _exit(token)
    except (ValueError, RuntimeError):
        # The call ends in another context than it began in (a generator, a dependency of a web framework). There
        # a closed call encloses nothing.
        return


def _end_span(call: Call) -> None:
    """End the span of a call that gets no record."""
    if call.details is not None and call.details.span is not None:
        call.details.span.end()


def finish(call: Call, error: BaseException | None, result: Any = None) -> None:
    """Close a call and hand it to the background thread."""
    end_ns = monotonic_ns()
    try:
        pace = call.pace
        if pace is not None:
            wall_ns = end_ns - call.start_ns
            if wall_ns < BRIEF_NS:
                pace.skips -= 1
                call.cpu_ns = spent_ns = int(wall_ns * pace.part)
                pace.cpu_ns += spent_ns
            else:
                call.cpu_ns = pace.end_long_call(thread_time_ns(), wall_ns)
        elif call.encloses or call.thread == get_ident():
            clock_ns = thread_time_ns()
            call.cpu_ns = clock_ns - call.cpu_start_ns
            if call.encloses:
                learn(call.thread, clock_ns, call.cpu_ns, end_ns - call.start_ns)
        call.end_ns = end_ns
        if error is not None:
            call.error = type(error)  # not the exception: its traceback holds the caller's frames alive
        if call.spec.ended is not None:
            _ended(call, result)
        call.open = call.encloses = False
        token = call.token
        if token is not None:
            if call.details is not None:
                _leave(call)
            else:  # as _leave, without calling it
                call.token = None
                try:  # noqa: SIM105 - contextlib.suppress costs as much as everything else here
                    _exit(token)
                except (ValueError, RuntimeError):
                    pass
        here = call.state
        if len(here.done) < MAX_WAITING:
            here.done.append(call)
        else:
            here.drop()
            _end_span(call)
        here.open.pop(call, None)
    except Exception:  # noqa: BLE001 - never hurt the service
        call.open = call.encloses = False
        call.state.open.pop(call, None)
        call.state.drop()


def suspend(call: Call) -> None:
    """Leave a call (a stream) open: it works only within :class:`~ecolyzer_otel.worker.nesting.lending` now."""
    call.share()
    if call.thread == get_ident():
        call.spend(thread_time_ns() - call.cpu_start_ns)
    call.encloses = False
    call.thread = call.cpu_start_ns = 0
    _leave(call)


def _started(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        call.spec.started(call, args, kwargs)  # type: ignore[misc]
    except Exception:  # noqa: BLE001 - a fault of an instrumentor must not cost the request
        return


def _ended(call: Call, result: Any) -> None:
    try:
        call.spec.ended(call, result)  # type: ignore[misc]
    except Exception:  # noqa: BLE001 - a fault of an instrumentor must not cost the request
        return
