"""The base of ``request`` and ``batch``: a block of code that is a request."""

from __future__ import annotations

import asyncio
import functools
import threading
from time import monotonic, monotonic_ns
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from ecolyzer_otel.worker.call import Call, current_call
from ecolyzer_otel.worker.describe import describe
from ecolyzer_otel.worker.energy import Energy
from ecolyzer_otel.worker.flush import flush
from ecolyzer_otel.worker.hot_path import begin, finish
from ecolyzer_otel.worker.nesting import ELSEWHERE, OUTERMOST, lending, placement_of
from ecolyzer_otel.worker.preload import preload
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.state import state

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from ecolyzer_otel.wire.protocol import Settled

__all__ = ["FUNCTIONS", "Block", "described"]

#: The longest wait for a settlement, in seconds, unless the caller gives another.
_WAIT_SECONDS: Final = 10.0
FUNCTIONS: Final = (FunctionType, MethodType, BuiltinFunctionType, functools.partial)


class Pending:
    """A settlement that a caller may wait for. Held by the call, and set by the background thread."""

    __slots__ = ("_done", "energy")

    def __init__(self) -> None:
        self._done = threading.Event()
        self.energy: Energy | None = None

    def settled(self, settled: Settled | None) -> None:
        """Set the settlement, once; None when no settlement will come."""
        if settled is not None:
            self.energy = Energy.of(settled)
        self._done.set()

    def wait(self, timeout: float) -> bool:
        """Wait for the settlement; returns whether it is decided."""
        deadline = monotonic() + timeout
        if not self._done.is_set():
            flush(timeout)  # the meter then samples now
        return self._done.wait(max(0.0, deadline - monotonic()))


class Block:
    """A block of code that is a request: what :class:`request` and :class:`batch` have in common."""

    _call: Call | None = None
    _pending: Pending | None = None
    _lent: lending | None = None
    #: Whether it is inside another open request, and so a part of that one.
    nested = False

    def _open(self, spec: CallSpec, model: Any, items: Any) -> None:
        outer = current_call.get()
        placement = placement_of(outer)
        if outer is not None and placement is not OUTERMOST:
            self.nested = True
            self._call = outer.actual
            if placement is ELSEWHERE:
                self._lent = lending(outer)
                self._lent.__enter__()
            return
        if state().start_worker is None:
            return
        preload()
        call = begin(spec, model, (items,), {})
        if call is not None:
            self._pending = call.ensure_details().handle = Pending()
        self._call = call

    def _close(self, error: BaseException | None) -> None:
        if self._lent is not None:
            lent, self._lent = self._lent, None
            lent.__exit__()
        elif self._call is not None and not self.nested:
            # A stream that its consumer closes is no error.
            finish(self._call, None if isinstance(error, GeneratorExit) else error)

    @property
    def energy(self) -> Energy | None:
        """Joules of this request, once it has ended; waits for its settlement, for at most 10 s.

        None without a settlement: nothing is measured in this process, the block is inside another request, it has
        not ended, or its record was lost. In a coroutine use :meth:`settlement`.
        """
        return self._energy(_WAIT_SECONDS)

    def _energy(self, timeout: float) -> Energy | None:
        pending, call = self._pending, self._call
        if pending is None or call is None or call.open:
            return None
        pending.wait(timeout)
        return pending.energy

    async def settlement(self, timeout: float = _WAIT_SECONDS) -> Energy | None:
        """Returns :attr:`energy` without blocking the event loop."""
        return await asyncio.to_thread(self._energy, timeout)

    @property
    def span(self) -> Span:
        """The request's span, for your own attributes and events; without one, a span that records nothing."""
        from opentelemetry.trace import INVALID_SPAN

        details = None if self._call is None else self._call.details
        return INVALID_SPAN if details is None or details.span is None else details.span

    def tokens(self, *, input: int | None = None, output: int | None = None) -> None:
        """Set the tokens of this request; a count that is not given keeps its value."""
        if self._call is not None and not self.nested:
            details = self._call.ensure_details()
            before = details.tokens or (0, 0)
            details.tokens = (before[0] if input is None else input, before[1] if output is None else output)

    def phase(self, name: str) -> None:
        """Begin a phase of the request (``"prefill"``, ``"decode"``; ``""`` for none).

        A request has at most 16 phases; call it in the request's own thread.
        """
        if self._call is not None:
            self._call.mark(name)

    def first_token(self) -> None:
        """Note that the first output token exists now, which gives the time to first token."""
        if self._call is not None and not self.nested:
            self._call.ensure_details().first_token_ns = monotonic_ns()


class _Named:
    """Represents a model that is given by its name."""

    __slots__ = ("__weakref__", "facts")

    def __init__(self, facts: ModelFacts) -> None:
        self.facts = facts


_named: dict[ModelFacts, _Named] = {}
_specs: dict[tuple[str, str, bool], CallSpec] = {}
_MAX_NAMED: Final = 1_000


def described(model: Any, operation: str, facts: ModelFacts) -> tuple[Any, CallSpec]:
    """Returns the model of a block, or its representative, and the spec. Blocks that are alike share both."""
    if model is None or isinstance(model, str):
        facts = ModelFacts(model or operation, facts.parameters, facts.dtype, facts.device, facts.framework)
        if len(_named) >= _MAX_NAMED:
            _named.clear()
        model = _named.setdefault(facts, _Named(facts))
    key = operation, facts.framework or "custom", isinstance(model, _Named)
    spec = _specs.get(key)
    if spec is None:
        if len(_specs) >= _MAX_NAMED:
            _specs.clear()
        spec = _specs[key] = CallSpec(
            key[1], operation, _describe_named if key[2] else _describe_object,
            items=lambda args, kwargs: args[0], container=True, encloses=False,
        )  # fmt: skip
    return model, spec


def _describe_named(model: _Named) -> ModelFacts:
    return model.facts


def _describe_object(model: Any) -> ModelFacts:
    """By the instrumentor of the model's framework, if there is one."""
    return describe(model)
