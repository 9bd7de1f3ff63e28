"""The hot path: what happens in the caller's thread when an instrumented framework is called.

``begin`` publishes the call in the table of open calls and reads the clocks; ``finish`` reads them again and
appends the call to a queue. Everything else (spans, model facts, I/O) happens on the worker's background thread,
which is started by the first call of the process. Nothing here takes a lock, does I/O, grows without bound, or
lets an exception of ours reach the caller.

The order of the steps matters to the watermark: a call is published *before* its start is read (an open call
whose ``start_ns`` is still 0 holds the watermark where it was), and queued *before* it is unpublished.
"""

from __future__ import annotations

import _thread
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, Token
from time import monotonic_ns, thread_time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import attach, detach, get_current

from ecolyzer_otel.agent.native import original
from ecolyzer_otel.pace import BRIEF_NS, Pace, learn, paces

if TYPE_CHECKING:
    from contextvars import Token as ContextToken

    from opentelemetry.context.context import Context
    from opentelemetry.trace import Span, SpanContext

    from ecolyzer_otel.wrap import CallSpec

__all__ = [
    "MAX_PHASES",
    "Call",
    "More",
    "State",
    "Within",
    "begin",
    "current_call",
    "finish",
    "forget_model",
    "main_thread",
    "server_span",
    "state",
    "suspend",
]

#: Also under gevent the number of the thread, not of the greenlet: clocks are of threads.
get_ident: Final = original("_thread", "get_ident")
#: Taken by helper threads of one call only.
_sharing: Final = threading.Lock()
_NOBODY: Final[set[int]] = set()
#: Finished calls that may wait for the background thread; more are dropped and counted.
MAX_WAITING: Final = 50_000
#: Phases of one call; what comes after the last belongs to it.
MAX_PHASES: Final = 16
#: Entries of a call's ``extra_cpu`` before they are added up.
_MAX_EXTRA: Final = 64

#: How the span of a container is started; set when the first framework is patched. None where there are no spans.
open_span: Callable[[Call], tuple[Span, Context] | None] | None = None
#: Whether forward passes of training count like requests (``ECOLYZER_COUNT_TRAINING``).
counts_training = False

#: The call that encloses whatever runs now. A closed one encloses nothing.
current_call: ContextVar[Call | None] = ContextVar("ecolyzer_current_call", default=None)
#: The web request being served: its SERVER span, noted by our span processor, or its place in the router, noted by
#: ``ecolyzer_starlette``, which has the same ``attributes`` and ``end_time``.
server_span: ContextVar[Any] = ContextVar("ecolyzer_server_span", default=None)


class More:
    """What only some calls have.

    Attributes:
        phases: ``(name, start_ns, own thread's CPU clock)`` of each phase, in order; what comes before the first
            has no name.
        tokens: input and output tokens.
        first_token_ns: when the first output token was there.
        warmup: whether something was compiled in this call.
        attributes: further span attributes, by name.
        completions: called with the call on the background thread before it is told of.
        span: the span of a call that had one from its begin.
        attached: what the context is detached with.
        handle: who waits for the settlement: has ``settled(settled, place)``.
        members: calls that this one served, each with its weight. It is then no request itself.
        joint: how many such calls served this one.
        links: spans that its own, which begins with its record, links to.
        doubtful: whether it may turn out to be training; it is held back a little.
        training: whether it has.
    """

    __slots__ = (
        "attached", "attributes", "completions", "doubtful", "first_token_ns", "handle", "joint", "links",
        "members", "phases", "span", "tokens", "training", "warmup",
    )  # fmt: skip

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int]] = []
        self.tokens: tuple[int, int] | None = None
        self.first_token_ns = 0
        self.warmup = False
        self.attributes: dict[str, Any] | None = None
        self.completions: list[Callable[[Call], None]] | None = None
        self.span: Span | None = None
        self.attached: ContextToken[Context] | None = None
        self.handle: Any = None
        self.members: list[tuple[Call, float]] | None = None
        self.joint = 0
        self.links: list[SpanContext] | None = None
        self.doubtful = self.training = False


class Call:
    """One outermost framework call, from its begin to its settlement. Times on ``time.monotonic_ns``."""

    __slots__ = (
        "context", "cpu_ns", "cpu_start_ns", "encloses", "end_ns", "error", "events", "extra_cpu", "helpers",
        "items", "model", "more", "number", "open", "pace", "route", "server", "spec", "start_ns", "state",
        "thread", "token",
    )  # fmt: skip

    #: A training call only guards: it is never published, and its inner calls are no requests.
    training = False

    @property
    def itself(self) -> Call:
        """The call that this stands for."""
        return self

    def __init__(self, spec: CallSpec, model: Any, where: State) -> None:
        self.open = True
        #: Open, and all that runs in its context runs in its thread: what is called inside need not look further.
        self.encloses = False
        self.start_ns = 0
        self.spec = spec
        self.model = model
        self.state = where
        self.error: BaseException | type[BaseException] | None = None
        #: CPU nanoseconds that helper threads spent on behalf of this call.
        self.extra_cpu: list[int] | None = None
        #: Helper threads that work for this call now, by number.
        self.helpers: set[int] = _NOBODY
        self.items: Any = None
        #: What an instrumentor notes of the call, for its ``kernels``.
        self.events: Any = None
        self.more: More | None = None
        #: Of its thread, where its CPU time is estimated.
        self.pace: Pace | None = None
        self.number = 0
        #: As last read by the background thread.
        self.route: str
        self.token: Token[Call | None] | None = None
        self.context: Context | None = None
        self.server: Span | None = None
        self.thread = 0
        self.cpu_start_ns = self.cpu_ns = self.end_ns = 0

    def note(self) -> More:
        """What only some calls have, made when it is first asked for."""
        more = self.more
        if more is None:
            more = self.more = More()
        return more

    def mark(self, phase: str) -> None:
        """A phase of this name begins now, in the call's own thread; at most :data:`MAX_PHASES` do."""
        phases = self.note().phases
        if len(phases) < MAX_PHASES and self.open:
            cpu_ns = thread_time_ns() if self.thread == get_ident() else 0
            phases.append((phase, monotonic_ns(), cpu_ns))

    def spend(self, cpu_ns: int) -> None:
        """Add CPU time that was spent for this call outside its own thread; after :meth:`share`."""
        extra = self.extra_cpu
        if extra is None:
            return
        extra.append(cpu_ns)
        if len(extra) > _MAX_EXTRA:
            with _sharing:
                number = len(extra)  # others may append meanwhile, behind these
                extra[:number] = [sum(extra[:number])]

    def share(self) -> Call:
        """Make ready to be lent to helper threads."""
        if self.extra_cpu is None:
            with _sharing:
                if self.extra_cpu is None:
                    self.helpers, self.extra_cpu = set(), []
        return self


class Within(Call):
    """Stands for an open call where what is called inside is known to run in this one thread: it passes at once.

    For containers, whose own calls may run anywhere. What is noted is noted of the call itself.
    """

    __slots__ = ("whole",)

    def __init__(self, whole: Call) -> None:
        self.whole = whole
        self.open = self.encloses = True
        self.thread = get_ident()
        self.helpers = whole.helpers

    @property
    def itself(self) -> Call:
        """The call that this stands for."""
        return self.whole

    def note(self) -> More:
        """Of the call itself."""
        return self.whole.note()

    def mark(self, phase: str) -> None:
        """Of the call itself."""
        self.whole.mark(phase)

    def share(self) -> Call:
        """Make the call itself ready."""
        return self.whole.share()


class State:
    """What one process knows of its calls. Replaced, not emptied, in a forked child."""

    __slots__ = (
        "_drop_lock", "done", "doubtful", "dropped", "forgotten", "names", "open", "pid", "resting", "start_worker",
        "started", "worker",
    )  # fmt: skip

    def __init__(self, start_worker: Callable[[State], Any] | None = None) -> None:
        self.pid = os.getpid()
        #: Open calls. A dict and no set: it is copied in one step, whatever other threads do meanwhile.
        self.open: dict[Call, None] = {}
        self.done: deque[Call] = deque()
        #: Models whose facts have changed (refitted); the background thread reads them anew.
        self.forgotten: deque[int] = deque(maxlen=10_000)
        #: The latest calls that may turn out to be training.
        self.doubtful: deque[Call] = deque(maxlen=256)
        #: Names of models known so far, by ``id``, for spans that begin with their call.
        self.names: dict[int, str] = {}
        self.dropped = 0
        #: Whether the background thread sleeps until it is woken by the next call, and not only for a moment.
        self.resting = False
        self.started = False
        self.start_worker = start_worker
        self.worker: Any = None
        self._drop_lock = threading.Lock()

    def drop(self) -> None:
        """Count a call that found the queue full. The lock is shared with nothing but itself."""
        with self._drop_lock:
            self.dropped += 1

    def wake(self) -> None:
        """The first call after a rest: the background thread is to look again. Never blocks."""
        self.resting = False
        self.worker.wake()

    def start(self) -> None:
        """Start the background thread, once; a failure is final for this process and silent in the service."""
        with self._drop_lock:
            if self.started:
                return
            self.started = True
        if self.start_worker is not None:
            self.worker = self.start_worker(self)


def _main_ident() -> int:
    here = original("_thread", "get_native_id")() == os.getpid() if hasattr(_thread, "get_native_id") else False
    return int(get_ident()) if here else threading.main_thread().ident or 0


_state = State()
_main = _main_ident()


def main_thread() -> int:
    """The number (``get_ident``) of the main thread, whose kernel number is the PID."""
    return _main


def state() -> State:
    """The state of this process."""
    return _state


def replace_state(start_worker: Callable[[State], Any] | None) -> State:
    """Begin afresh: in a forked child, or when measuring starts or stops."""
    global _state
    _state = State(start_worker)
    return _state


def _after_fork_in_child() -> None:
    global _main
    _main = int(get_ident())  # the thread that forked
    _unforked[0:1] = b"\1"
    paces.clear()  # clocks begin anew
    if _state.worker is not None:
        _state.worker.forked()
    # The calls in flight belong to the parent, which finishes and reports them. Here they guard nothing, and
    # their copies, should the child return through them, go to the queue of a state that nobody reads.
    replace_state(_state.start_worker)
    call = current_call.get()
    if call is not None:
        call.open = False
    server_span.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _fork_mark() -> mmap.mmap | bytearray:
    """A byte that is 0 in a child whose fork Python was not told of (uWSGI forks in C), else 1."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):  # not Linux, or before 4.14
        return bytearray(b"\1")
    page[0:1] = b"\1"
    return page


#: MADV_WIPEONFORK (madvise(2)): reading a byte costs a tenth of asking for the PID.
_WIPE_ON_FORK: Final = 18
_unforked: Final = _fork_mark()


def begin(
    spec: CallSpec, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], plain: bool = False
) -> Call | None:
    """Open a call. None when something of ours failed: then the caller goes on uninstrumented.

    ``plain``: it will be finished in this thread, by a caller that does nothing else in between.
    """
    try:
        if not _unforked[0]:
            _after_fork_in_child()
        here = _state
        if here.start_worker is None:
            return None  # patched, but nobody measures
        call = Call(spec, model, here)
        here.open[call] = None
        call.token = current_call.set(call)
        if here.resting:
            here.wake()
        elif not here.started:
            here.start()
        call.context = get_current()
        call.server = server_span.get()
        call.items = spec.items(args, kwargs)
        if spec.container:
            _open_span(call)
        if spec.started is not None:
            _started(call, args, kwargs)
        thread = call.thread = get_ident()
        call.encloses = spec.encloses
        pace = paces.get(thread) if plain else None
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
        more = call.note()
        more.span, context = opened
        more.attached = attach(context)


def _give_up(call: Call | None) -> None:
    if call is not None:
        call.open = False
        call.state.open.pop(call, None)
        _leave(call)
        call.state.drop()
        _end_span(call)


def _leave(call: Call) -> None:
    """Let the context be as it was before the call."""
    token, call.token = call.token, None
    try:
        if call.more is not None and call.more.attached is not None:
            attached, call.more.attached = call.more.attached, None
            detach(attached)
        if token is not None:
            current_call.reset(token)
    except (ValueError, RuntimeError):
        # Left in another context than it was entered (a generator, a dependency of a web framework). There a
        # closed call encloses nothing.
        return


def _end_span(call: Call) -> None:
    """No record of this call will be made."""
    if call.more is not None and call.more.span is not None:
        call.more.span.end()


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
                call.cpu_ns = pace.surprise(thread_time_ns(), wall_ns)
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
            if call.more is not None:
                _leave(call)
            else:  # as _leave, without its call
                call.token = None
                try:  # noqa: SIM105 - contextlib.suppress costs as much as all the rest
                    current_call.reset(token)
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
    """Leave a call open that works on only now and then, within :class:`~ecolyzer_otel.wrap.lending`: a stream."""
    call.share()
    if call.thread == get_ident():
        call.spend(thread_time_ns() - call.cpu_start_ns)
    call.encloses = False
    call.thread = call.cpu_start_ns = 0
    _leave(call)


def _started(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        call.spec.started(call, args, kwargs)  # type: ignore[misc]
    except Exception:  # noqa: BLE001 - what an instrumentor would have noted is not worth the request
        return


def _ended(call: Call, result: Any) -> None:
    try:
        call.spec.ended(call, result)  # type: ignore[misc]
    except Exception:  # noqa: BLE001 - what an instrumentor would have noted is not worth the request
        return


def forget_model(model: Any) -> None:
    """The facts of ``model`` (parameters, dtype) have changed; read them anew at its next request."""
    _state.forgotten.append(id(model))
