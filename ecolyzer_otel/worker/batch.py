"""One call that serves several requests: :class:`batch`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ecolyzer_otel.worker.block import Block, described
from ecolyzer_otel.worker.call import Call, current_call
from ecolyzer_otel.worker.request import request
from ecolyzer_otel.worker.spec import ModelFacts

if TYPE_CHECKING:
    from opentelemetry.context.context import Context
    from opentelemetry.trace import Span, SpanContext

__all__ = ["batch"]


class batch(Block):
    """One call that serves several requests at once, as dynamic batchers make them.

    The energy of the calls inside is charged to the requests in ``served``: the fixed cost of a batch in equal
    parts, the rest by their weights (docs/methodology.md). The call itself is not a request. Its span links to
    theirs, and theirs to it::

        async def handler(text):                    # each web request
            async with ecolyzer_otel.request("embedder") as r:
                return await queue.put_and_wait(text, r)

        def batcher(texts, requests):               # the thread that collects them
            with ecolyzer_otel.batch(requests, weights=[len(text) for text in texts]):
                return model(texts)

    Args:
        served: for each request, the :class:`request` block that it waits in, or, where it has none,
            an OpenTelemetry ``Context``, ``Span`` or ``SpanContext``. Such a one becomes a request of this model,
            with a span below the given one.
        weights: of the requests' own work (tokens, items); default: equal.
        model: as for :class:`request`; default: "batch".
        operation: the name of the operation.
        parameters: of the model, for ESS.
        dtype: of its parameters.
        device: the device that it runs on.
        framework: the model's framework.

    Raises:
        ValueError: ``weights`` has another length than ``served``, or one of them is not a number of at least 0.
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
        self._model, self._spec = described(name, operation, facts)
        #: New requests for the entries that are no blocks, by position.
        self._fresh: dict[int, Call] = {}

    def __enter__(self) -> batch:
        # A batch is not part of the request whose context the batching thread may have.
        self._outer = current_call.set(None)
        self._open(self._spec, self._model, len(self._served))
        self._fresh = {}
        if self._call is not None:
            self._call.ensure_details().members = []
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
            _queue(member, self._call, error)
        for member in self._fresh.values():
            member.state.open.pop(member, None)

    async def __aenter__(self) -> batch:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _begin(self, call: Call) -> None:
        """Open a request for each entry that is no block; one reported only after a long call would be late."""
        for position, served in enumerate(self._served):
            if not isinstance(served, Block):
                member = self._fresh[position] = self._new(served, call)
                member.start_ns = call.start_ns
                call.state.open[member] = None

    def _serve(self, call: Call) -> list[Call]:
        """Record which requests ``call`` served. Returns the new ones, which are not queued yet."""
        members, fresh = call.ensure_details().members, []
        for position, (served, weight) in enumerate(zip(self._served, self._weights, strict=True)):
            member = served._call if isinstance(served, Block) else self._fresh.get(position)
            if member is None or members is None or member.serves:
                continue
            if not isinstance(served, Block):
                fresh.append(member)
                own = call.ensure_details().span
                member.ensure_details().links = None if own is None else [own.get_span_context()]
            member.ensure_details().joint += 1
            members.append((member, weight))
        return fresh

    def _new(self, served: Any, call: Call) -> Call:
        member = Call(self._spec, self._model, call.state)
        member.open = False
        member.context = _context_of(served)
        member.items = 1
        return member


def _queue(member: Call, call: Call | None, error: BaseException | None) -> None:
    """Queue a request that consists of its share of ``call`` alone."""
    if call is None:
        return
    member.start_ns, member.end_ns = call.start_ns, call.end_ns
    member.error = None if error is None else type(error)
    call.state.done.append(member)
    if call.state.resting:
        call.state.wake()


def _context_of(served: Any) -> Context:
    """Returns the OpenTelemetry context of a served request."""
    from opentelemetry import trace

    if isinstance(served, trace.SpanContext):
        served = trace.NonRecordingSpan(served)
    if isinstance(served, trace.Span):
        return trace.set_span_in_context(served)
    if isinstance(served, dict):
        return served  # type: ignore[return-value]
    raise TypeError(f"{type(served).__name__} does not identify a request")
