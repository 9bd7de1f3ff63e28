"""What code may say of its own requests: :class:`request`, :class:`batch`, :class:`Energy`.

Nothing of this is needed where a framework is instrumented. It is for what no instrumentor knows::

    with ecolyzer_otel.request("my-model", operation="summarise", items=len(texts)) as r:
        answer = engine.run(texts)
    print(r.energy)          # waits for the settlement: joules, a float with more to it

    @ecolyzer_otel.request("my-model")
    async def answer(question): ...

    async with ecolyzer_otel.request("my-model") as r: ...
    await r.settlement()
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, monotonic_ns
from types import BuiltinFunctionType, FunctionType, MethodType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from ecolyzer_otel.call import Call, begin, current_call, finish, get_ident, state, suspend
from ecolyzer_otel.wrap import CallSpec, ModelFacts, lending

if TYPE_CHECKING:
    from opentelemetry.context.context import Context
    from opentelemetry.trace import Span, SpanContext

    from ecolyzer_otel.agent.protocol import Settled

__all__ = ["Energy", "batch", "current", "request"]

F = TypeVar("F", bound=Callable[..., Any])
#: The longest that a settlement is waited for, in seconds, unless the caller says otherwise.
_PATIENCE: Final = 10.0
_FUNCTIONS: Final = (FunctionType, MethodType, BuiltinFunctionType, functools.partial)


class Energy(float):
    """Joules of one request, active and idle, as a float; and how they come about.

    Attributes:
        joules: the same number.
        active_joules: caused by the work.
        idle_joules: equal part of the idle power while it was in flight.
        uncertainty_joules: one standard uncertainty of the active joules.
        method: ``measured``, ``modelled`` or ``mixed``.
        components: joules by component (``cpu``, ``gpu``, ``dram``).
        phases: joules by phase.
        co2e_grams: grams of CO2e, operational and embodied.
        embodied_grams: the embodied ones of these; None where none are configured.
        co2e_uncertainty_grams: one standard uncertainty of the grams; None from an older meter.
        market_grams: operational grams by the contractual factor; None without one. In no sum.
        water_liters: litres of water, on and off site.
        water_range: litres between which that lies (95 %); None from an older meter.
        ess: effective parameters in millions per gram; None where parameters are not known.
    """

    __slots__ = (
        "active_joules", "co2e_grams", "co2e_uncertainty_grams", "components", "embodied_grams", "ess",
        "idle_joules", "joules", "market_grams", "method", "phases", "uncertainty_joules", "water_liters",
        "water_range",
    )  # fmt: skip

    joules: float
    active_joules: float
    idle_joules: float
    uncertainty_joules: float
    method: str
    components: dict[str, float]
    phases: dict[str, float]
    co2e_grams: float
    embodied_grams: float | None
    co2e_uncertainty_grams: float | None
    market_grams: float | None
    water_liters: float
    water_range: tuple[float, float] | None
    ess: float | None

    @classmethod
    def of(cls, settled: Settled) -> Energy:
        """What a settlement says."""
        energy = cls(settled.active + settled.idle)
        energy.joules = float(energy)
        energy.active_joules, energy.idle_joules = settled.active, settled.idle
        energy.uncertainty_joules = settled.uncertainty
        energy.method = settled.method
        energy.components = {name: joules for name, (joules, _) in settled.components.items()}
        energy.phases = dict(settled.phases)
        energy.co2e_grams = settled.operational_grams + (settled.embodied_grams or 0.0)
        energy.embodied_grams, energy.market_grams = settled.embodied_grams, settled.market_grams
        energy.co2e_uncertainty_grams = settled.uncertainty_grams
        energy.water_liters = settled.onsite_liters + settled.offsite_liters
        low, high = settled.water_low, settled.water_high
        energy.water_range = None if low is None or high is None else (low, high)
        energy.ess = settled.ess
        return energy


class _Pending:
    """A settlement that somebody may wait for. Held by the call, and told by the background thread."""

    __slots__ = ("_done", "energy")

    def __init__(self) -> None:
        self._done = threading.Event()
        self.energy: Energy | None = None

    def settled(self, settled: Settled | None) -> None:
        """Called once, with None when no settlement will come."""
        if settled is not None:
            self.energy = Energy.of(settled)
        self._done.set()

    def wait(self, timeout: float) -> bool:
        from ecolyzer_otel.runtime import flush

        deadline = monotonic() + timeout
        if not self._done.is_set():
            flush(timeout)  # hurries the meter
        return self._done.wait(max(0.0, deadline - monotonic()))


class _Block:
    """A request that code delimits itself; what is common to :class:`request` and :class:`batch`."""

    _call: Call | None = None
    _pending: _Pending | None = None
    _lent: lending | None = None
    #: Whether it is within another open request, and so no request itself.
    nested = False

    def _open(self, spec: CallSpec, model: Any, items: Any) -> None:
        outer = current_call.get()
        if outer is not None and outer.open:
            self.nested = True
            self._call = outer.itself
            if outer.thread != get_ident() and not outer.training and get_ident() not in outer.helpers:
                self._lent = lending(outer)
                self._lent.__enter__()
            return
        if state().start_worker is None:
            return
        from ecolyzer_otel.runtime import make_ready

        make_ready()
        call = begin(spec, model, (items,), {})
        if call is not None:
            self._pending = call.note().handle = _Pending()
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
        """Joules of this request, once it is over; waits for its settlement, for at most 10 s.

        None where it gets none: nothing is measured here, it is nested in another request, it is not over, or its
        record was lost. In a coroutine use :meth:`settlement`.
        """
        return self._energy(_PATIENCE)

    def _energy(self, timeout: float) -> Energy | None:
        pending, call = self._pending, self._call
        if pending is None or call is None or call.open:
            return None
        pending.wait(timeout)
        return pending.energy

    async def settlement(self, timeout: float = _PATIENCE) -> Energy | None:
        """As :attr:`energy`, without blocking the event loop."""
        return await asyncio.to_thread(self._energy, timeout)

    @property
    def span(self) -> Span:
        """The request's span, for attributes and events of your own; not recording where there is none."""
        from opentelemetry.trace import INVALID_SPAN

        more = None if self._call is None else self._call.more
        return INVALID_SPAN if more is None or more.span is None else more.span

    def tokens(self, *, input: int | None = None, output: int | None = None) -> None:
        """Tokens of this request; what was told before stays where nothing is given."""
        if self._call is not None and not self.nested:
            more = self._call.note()
            before = more.tokens or (0, 0)
            more.tokens = (before[0] if input is None else input, before[1] if output is None else output)

    def phase(self, name: str) -> None:
        """What follows is this phase of the request (``"prefill"``, ``"decode"``, ``""`` for none).

        At most 16 phases of a request are told apart; call it in the request's own thread.
        """
        if self._call is not None:
            self._call.mark(name)

    def first_token(self) -> None:
        """The first output token is there: the time since the begin is the time to first token."""
        if self._call is not None and not self.nested:
            self._call.note().first_token_ns = monotonic_ns()


class request(_Block):
    """One inference request, as a block or a decorator, in plain code and in coroutines.

    What is called of instrumented frameworks inside is part of it, in helper threads too if they have its context
    (``asyncio.to_thread``). Within another request it is no request but part of that one. As a decorator it makes
    each call a request; a bare ``@request`` takes the function's name.

    Args:
        model: the model's name, or the model itself, which is then described by the instrumentor of its framework.
        operation: what is done.
        items: batch size.
        framework: whose model it is.
        parameters: of the model, for ESS.
        dtype: of its parameters.
        device: where it runs: ``cpu``, ``cuda:0``.
    """

    @overload
    def __new__(cls, model: F) -> F: ...  # type: ignore[misc]
    @overload
    def __new__(cls, model: Any = ..., **options: Any) -> request: ...
    def __new__(cls, model: Any = None, **options: Any) -> Any:
        """A bare decorator gets the function, everybody else a block."""
        if isinstance(model, _FUNCTIONS) and not options:
            return cls(getattr(model, "__qualname__", "function"))(model)
        return super().__new__(cls)

    def __init__(
        self,
        model: Any = None,
        *,
        operation: str = "request",
        items: int = 1,
        framework: str = "custom",
        parameters: int | None = None,
        dtype: str | None = None,
        device: str = "cpu",
    ) -> None:
        self._items = items
        facts = ModelFacts(model if isinstance(model, str) else "", parameters, dtype, device, framework)
        self._model, self._spec = _described(model, operation, facts)

    def __enter__(self) -> request:
        self._open(self._spec, self._model, self._items)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(error)

    async def __aenter__(self) -> request:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(error)

    @contextlib.contextmanager
    def _streaming(self) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
        """Open until the stream ends, at work only within the steps that it gives: what is between is not ours."""
        with self:
            call = None if self.nested else self._call
            if call is not None:
                suspend(call)
            yield contextlib.nullcontext if call is None else lambda: lending(call)

    def _again(self) -> request:
        other: request = object.__new__(request)
        other._items, other._model, other._spec = self._items, self._model, self._spec
        return other

    def __call__(self, function: F) -> F:
        """Make each call of ``function`` a request; coroutine functions and generators too."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def streamed(*args: Any, **kwargs: Any) -> Any:
                items, given, thrown = function(*args, **kwargs), None, None
                with self._again()._streaming() as step:
                    while True:
                        with step():
                            try:
                                one = await (items.asend(given) if thrown is None else items.athrow(thrown))
                            except StopAsyncIteration:
                                return
                        given = thrown = None
                        try:
                            given = yield one
                        except GeneratorExit:
                            with step():
                                await items.aclose()
                            raise
                        except BaseException as error:  # noqa: BLE001 - it is the generator's own business
                            thrown = error

            return streamed  # type: ignore[return-value]
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generated(*args: Any, **kwargs: Any) -> Any:
                items, given, thrown = function(*args, **kwargs), None, None
                with self._again()._streaming() as step:
                    while True:
                        with step():
                            try:
                                one = items.send(given) if thrown is None else items.throw(thrown)
                            except StopIteration as end:
                                return end.value
                        given = thrown = None
                        try:
                            given = yield one
                        except GeneratorExit:
                            with step():
                                items.close()
                            raise
                        except BaseException as error:  # noqa: BLE001 - it is the generator's own business
                            thrown = error

            return generated  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]


class batch(_Block):
    """One call that serves several requests at once: what dynamic batchers do.

    What is called inside is charged to the requests in ``served``: what a batch costs however many they are in
    equal parts, the rest by their weights (docs/methodology.md). The call is no request itself. Its span links to
    theirs, and theirs to it::

        async def handler(text):                    # each web request
            async with ecolyzer_otel.request("embedder") as r:
                return await queue.put_and_wait(text, r)

        def batcher(texts, requests):               # the thread that collects them
            with ecolyzer_otel.batch(requests, weights=[len(text) for text in texts]):
                return model(texts)

    Args:
        served: of each request what tells it: the :class:`request` block that it waits in, or, where it has none,
            an OpenTelemetry ``Context``, ``Span`` or ``SpanContext``. Such a one becomes a request of this model,
            with a span below the given one.
        weights: of the requests' own work (tokens, items); default: equal.
        model: as for :class:`request`; default: "batch".
        operation: what is done.
        parameters: of the model, for ESS.
        dtype: of its parameters.
        device: where it runs.
        framework: whose model it is.

    Raises:
        ValueError: ``weights`` has another length than ``served``, or one that is no number of at least 0.
    """

    def __init__(
        self,
        served: Sequence[request | Context | Span | SpanContext],
        weights: Sequence[float] | None = None,
        *,
        model: Any = None,
        operation: str = "batch",
        parameters: int | None = None,
        dtype: str | None = None,
        device: str = "cpu",
        framework: str = "custom",
    ) -> None:
        self._served = list(served)
        self._weights = [1.0] * len(self._served) if weights is None else [float(one) for one in weights]
        if len(self._weights) != len(self._served):
            raise ValueError(
                f"weights: {len(self._weights)} of them for {len(self._served)} requests; give one each"
            )
        if not all(0.0 <= one < float("inf") for one in self._weights):
            raise ValueError("weights: each must be a number of at least 0")
        name = "batch" if model is None else model
        facts = ModelFacts(name if isinstance(name, str) else "", parameters, dtype, device, framework)
        self._model, self._spec = _described(name, operation, facts)
        self._fresh: dict[int, Call] = {}

    def __enter__(self) -> batch:
        # A batch of requests is not part of the one whose context happens to be here.
        self._outer = current_call.set(None)
        self._open(self._spec, self._model, len(self._served))
        self._fresh = {}
        if self._call is not None:
            self._call.note().members = []
            with contextlib.suppress(Exception):
                self._begin(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call, fresh = self._call, []
        if call is not None:
            with contextlib.suppress(Exception):
                fresh = self._serve(call)
        self._close(error)
        with contextlib.suppress(ValueError):
            current_call.reset(self._outer)
        for member in fresh:
            _hand_over(member, self._call, error)
        for member in self._fresh.values():
            member.state.open.pop(member, None)

    async def __aenter__(self) -> batch:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _begin(self, call: Call) -> None:
        """Those that have no request get one now: what is told only at the end of a long call comes too late."""
        for position, served in enumerate(self._served):
            if not isinstance(served, _Block):
                member = self._fresh[position] = self._new(served, call)
                member.start_ns = call.start_ns
                call.state.open[member] = None

    def _serve(self, call: Call) -> list[Call]:
        """Note whom ``call`` served. Returns those that had no request: new ones, not handed over yet."""
        members, fresh = call.note().members, []
        for position, (served, weight) in enumerate(zip(self._served, self._weights, strict=True)):
            member = served._call if isinstance(served, _Block) else self._fresh.get(position)
            if member is None or members is None or (member.more is not None and member.more.members is not None):
                continue
            if not isinstance(served, _Block):
                fresh.append(member)
                own = call.note().span
                member.note().links = None if own is None else [own.get_span_context()]
            member.note().joint += 1
            members.append((member, weight))
        return fresh

    def _new(self, served: Any, call: Call) -> Call:
        member = Call(self._spec, self._model, call.state)
        member.open = False
        member.context = _context_of(served)
        member.items = 1
        return member


def current() -> request | None:
    """The request that encloses what runs here, as a block to hand to :class:`batch`; None outside of any."""
    call = current_call.get()
    if call is None or not call.open or call.training:
        return None
    block: request = object.__new__(request)
    block._call, block.nested = call.itself, True
    return block


def _hand_over(member: Call, call: Call | None, error: BaseException | None) -> None:
    """Queue a request that has nothing of its own but its share of ``call``."""
    if call is None:
        return
    member.start_ns, member.end_ns = call.start_ns, call.end_ns
    member.error = None if error is None else type(error)
    call.state.done.append(member)
    if call.state.resting:
        call.state.wake()


def _context_of(served: Any) -> Context:
    """The OpenTelemetry context that stands for a request."""
    from opentelemetry import trace

    if isinstance(served, trace.SpanContext):
        served = trace.NonRecordingSpan(served)
    if isinstance(served, trace.Span):
        return trace.set_span_in_context(served)
    if isinstance(served, dict):
        return served  # type: ignore[return-value]
    raise TypeError(f"{type(served).__name__} tells of no request")


class _Named:
    """Stands for a model that is known by its name."""

    __slots__ = ("__weakref__", "facts")

    def __init__(self, facts: ModelFacts) -> None:
        self.facts = facts


_named: dict[ModelFacts, _Named] = {}
_specs: dict[tuple[str, str, bool], CallSpec] = {}
_MAX_NAMED: Final = 1_000


def _described(model: Any, operation: str, facts: ModelFacts) -> tuple[Any, CallSpec]:
    """What stands for the model of a block, and its spec. Few of each, however many blocks there are."""
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
    """By the instrumentor of the model's framework, whatever it is."""
    from ecolyzer_otel.runtime import describe

    return describe(model)
