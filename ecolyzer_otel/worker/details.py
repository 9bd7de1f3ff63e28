"""The details that only some calls have, and a call as instrumentors see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context.context import Context
    from opentelemetry.trace import Span, SpanContext

__all__ = ["CallView", "Details"]


class CallView(Protocol):
    """A call as the callbacks of a :class:`~ecolyzer_otel.worker.spec.CallSpec` see it."""

    #: Whether it is still running.
    open: bool
    #: The object whose method was called: a module, an estimator, a session.
    model: Any
    #: Batch size as found; the background thread makes it an integer.
    items: Any
    #: Set by an instrumentor for its ``kernels``.
    events: Any
    #: ``time.monotonic_ns`` at its begin; 0 until it is read.
    start_ns: int
    #: ``time.monotonic_ns`` at its end; 0 while it runs.
    end_ns: int
    #: The number of its own thread; 0 for one that runs in steps.
    thread: int
    #: Details that only some calls have; None until :meth:`ensure_details`.
    details: Details | None

    def ensure_details(self) -> Details:
        """Returns the details, created at the first use."""

    def mark(self, phase: str) -> None:
        """Begin a phase now, in the call's own thread."""

    def may_be_training(self) -> None:
        """Delay the report of this call by a moment: it may turn out to be training."""


class Details:
    """Details that only some calls have; created at the first use.

    Attributes:
        phases: ``(name, start_ns, CPU clock of the call's own thread)`` of each phase, in order. The time
            before the first phase has no name.
        tokens: input and output tokens.
        first_token_ns: when the first output token was produced.
        warmup: whether this call compiled the model or a part of it.
        attributes: further span attributes, by name.
        completions: run with the call on the background thread before it is reported.
        span: the span of a container call, which starts with the call.
        attached: the token that detaches the span's context.
        handle: waits for the settlement; has ``settled(settlement)``.
        members: the calls that this one served, each with its weight; the call itself is then no request.
        joint: how many such calls served this one.
        links: span contexts that its own span links to.
        maybe_training: whether it may turn out to be training; its report is then delayed by a moment.
        training: whether it turned out to be training.
    """

    __slots__ = (
        "attached", "attributes", "completions", "first_token_ns", "handle", "joint", "links", "maybe_training",
        "members", "phases", "span", "tokens", "training", "warmup",
    )  # fmt: skip

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int]] = []
        self.tokens: tuple[int, int] | None = None
        self.first_token_ns = 0
        self.warmup = False
        self.attributes: dict[str, Any] | None = None
        self.completions: list[Callable[[CallView], None]] | None = None
        self.span: Span | None = None
        self.attached: Token[Context] | None = None
        self.handle: Any = None
        self.members: list[tuple[Any, float]] | None = None
        self.joint = 0
        self.links: list[SpanContext] | None = None
        self.maybe_training = self.training = False
