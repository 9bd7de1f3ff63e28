"""One outermost framework call, and the context variables of what encloses the running code."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import ContextVar, Token
from time import monotonic_ns, thread_time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol

from ecolyzer_otel.wire.limits import MAX_PHASES
from ecolyzer_otel.worker.details import Details
from ecolyzer_otel.worker.pace import Pace
from ecolyzer_otel.worker.spec import CallSpec
from ecolyzer_otel.worker.thread_ids import get_ident

if TYPE_CHECKING:
    from opentelemetry.context.context import Context
    from opentelemetry.trace import Span

__all__ = ["Call", "CallOwner", "Within", "current_call", "server_span"]

#: Held while helper threads change the lists of one call.
_sharing: Final = threading.Lock()
_NO_HELPERS: Final[set[int]] = set()
#: Entries of a call's ``extra_cpu`` before they are added up.
_MAX_EXTRA: Final = 64

#: The call that encloses the running code. A closed one encloses nothing.
current_call: ContextVar[Call | None] = ContextVar("ecolyzer_current_call", default=None)
#: The web request being served: its SERVER span, set by our span processor, or a
#: :class:`~ecolyzer_otel.worker.web_route.Route`, set by an instrumentor, with the same ``attributes`` and
#: ``end_time``.
server_span: ContextVar[Any] = ContextVar("ecolyzer_server_span", default=None)


class CallOwner(Protocol):
    """The owner of the calls of one process: its :class:`~ecolyzer_otel.worker.state.State`."""

    open: dict[Call, None]
    done: deque[Call]
    maybe_training: deque[Call]
    names: dict[int, str]
    resting: bool

    def drop(self) -> None:
        """Count a call that cannot be reported."""

    def wake(self) -> None:
        """Wake the background thread."""


class Call:
    """One outermost framework call, from its begin to its settlement. Times on ``time.monotonic_ns``."""

    __slots__ = (
        "context", "cpu_ns", "cpu_start_ns", "details", "encloses", "end_ns", "error", "events", "extra_cpu",
        "helpers", "items", "model", "number", "open", "pace", "route", "server", "spec", "start_ns", "state",
        "thread", "token",
    )  # fmt: skip

    #: A training call only guards: it is never published, and its inner calls are no requests.
    training = False

    @property
    def actual(self) -> Call:
        """The call itself; see :class:`Within`."""
        return self

    def __init__(self, spec: CallSpec, model: Any, owner: CallOwner) -> None:
        self.open = True
        #: Open, and everything in its context runs in its thread: calls inside need no further check.
        self.encloses = False
        self.start_ns = 0
        self.spec = spec
        self.model = model
        self.state: CallOwner = owner
        self.error: BaseException | type[BaseException] | None = None
        #: CPU nanoseconds that helper threads spent on behalf of this call.
        self.extra_cpu: list[int] | None = None
        #: Identifiers of the helper threads that work for this call now.
        self.helpers: set[int] = _NO_HELPERS
        self.items: Any = None
        #: Set by an instrumentor, for its ``kernels``.
        self.events: Any = None
        self.details: Details | None = None
        #: That of its thread, where its CPU time is estimated.
        self.pace: Pace | None = None
        self.number = 0
        #: As last read by the background thread.
        self.route: str
        self.token: Token[Call | None] | None = None
        self.context: Context | None = None
        self.server: Span | None = None
        self.thread = 0
        self.cpu_start_ns = self.cpu_ns = self.end_ns = 0

    @property
    def serves(self) -> bool:
        """Whether it served other requests (:class:`ecolyzer_otel.batch`) and is not one itself."""
        return self.details is not None and self.details.members is not None

    def ensure_details(self) -> Details:
        """Returns the details that only some calls have, created at the first use."""
        details = self.details
        if details is None:
            details = self.details = Details()
        return details

    def may_be_training(self) -> None:
        """Delay the report of this call by a moment: it may turn out to be training."""
        self.ensure_details().maybe_training = True
        self.state.maybe_training.append(self)

    def mark(self, phase: str) -> None:
        """Begin a phase now, in the call's own thread; phases above :data:`MAX_PHASES` are ignored."""
        phases = self.ensure_details().phases
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
                number = len(extra)  # others may append behind these meanwhile
                extra[:number] = [sum(extra[:number])]

    def share(self) -> Call:
        """Prepare the call for helper threads, and return it."""
        if self.extra_cpu is None:
            with _sharing:
                if self.extra_cpu is None:
                    self.helpers, self.extra_cpu = set(), []
        return self


class Within(Call):
    """Represents an open call whose inner calls all run in this thread: these pass without a check.

    For containers, whose calls may otherwise run in any thread. Details go to the call itself.
    """

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call
        self.open = self.encloses = True
        self.thread = get_ident()
        self.helpers = call.helpers

    @property
    def actual(self) -> Call:
        """The call that this represents."""
        return self.call

    def ensure_details(self) -> Details:
        """See :class:`Call`."""
        return self.call.ensure_details()

    def mark(self, phase: str) -> None:
        """See :class:`Call`."""
        self.call.mark(phase)

    def share(self) -> Call:
        """See :class:`Call`."""
        return self.call.share()
