"""The span of a request: started late with its recorded start time, ended at settlement with its recorded end.

A leaf call never makes its span current, so the background thread starts it, off the request path, with the parent
that the caller's thread had. Works with any TracerProvider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from ecolyzer_otel.common.attributes import Attr
from ecolyzer_otel.worker.span_attributes import (
    FOR_SAMPLERS,
    request_attributes,
    set_allowed,
    settlement_attributes,
)
from ecolyzer_otel.worker.trace_provider import records_spans, tracer

if TYPE_CHECKING:
    from opentelemetry.context.context import Context

    from ecolyzer_otel.wire.protocol import PlaceFacts, Settled
    from ecolyzer_otel.worker.call import Call
    from ecolyzer_otel.worker.spec import ModelFacts

__all__ = ["RequestSpan", "error_name", "open_span", "start_span"]


class RequestSpan:
    """The span of a reported request, until its settlement. It may have a handle as well, or only that.

    Attributes:
        span: the span; None where it is not recorded.
        end_time_ns: Unix time of the end of the request.
        error: the value of ``error.type``; "" for no error.
        handle: an object with ``settled(settlement)``, which is called with the settlement.
        position: the index of the request among those sent to the meter, from 1.
        tokens: output tokens; 0 where they are not known.
        kernels: whether the request's kernels were timed.
    """

    __slots__ = ("end_time_ns", "error", "handle", "kernels", "position", "span", "tokens")

    def __init__(self, span: Span | None, end_time_ns: int, error: str, handle: Any = None) -> None:
        self.span = span
        self.end_time_ns = end_time_ns
        self.error = error
        self.handle = handle
        self.position = 0
        self.tokens = 0
        self.kernels = False

    def end(self, settled: Settled | None, place: PlaceFacts | None) -> None:
        """Pass the settlement to the handle and end the span with it. None: no settlement will come."""
        if settled is not None and (settled.unsettled or place is None):
            settled = None
        if self.handle is not None:
            self.handle.settled(settled)
        span = self.span
        if span is None:
            return
        if settled is None or place is None:
            span.set_attribute(Attr.ENERGY_METHOD, "unsettled")
        elif settled.served:
            # Its joules are on the spans of the requests that it served: no span counts twice.
            span.set_attribute(Attr.BATCH_JOULES, settled.active + settled.idle)
        else:
            values = settlement_attributes(settled, place)
            if self.tokens:
                values[Attr.ENERGY_OUTPUT_TOKEN_JOULES] = (settled.active + settled.idle) / self.tokens
            if "gpu" in settled.components:
                values[Attr.ENERGY_GPU_ACTIVITY] = "kernels" if self.kernels else "overlap"
            set_allowed(span, values)
        if self.error:
            span.set_attribute(Attr.ERROR_TYPE, self.error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=self.end_time_ns)


def error_name(error: BaseException | type[BaseException] | None) -> str:
    """The value of ``error.type``: the qualified class name, without ``builtins``; "" for no error."""
    if error is None:
        return ""
    kind = error if isinstance(error, type) else type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def open_span(call: Call) -> tuple[Span, Context] | None:
    """Start the span of a container call at its begin. Returns the span, and the context in which it is current.

    :func:`start_span` completes its name and attributes when the call is reported. None where there are no spans.
    """
    if not records_spans():
        return None
    spec = call.spec
    name = call.state.names.get(id(call.model))
    span = tracer().start_span(
        f"{spec.operation} {name}" if name else spec.operation,
        context=call.context,
        kind=SpanKind.INTERNAL,
        attributes={Attr.FRAMEWORK: spec.framework, Attr.OPERATION: spec.operation},
    )
    return span, trace.set_span_in_context(span, call.context)


def start_span(call: Call, facts: ModelFacts, items: int, epoch_ns: int) -> RequestSpan | None:
    """Start the span of a finished call, or complete the one that started with it.

    Args:
        call: the finished call.
        facts: the facts of its model.
        items: its batch size.
        epoch_ns: Unix time less monotonic time, in nanoseconds.

    Returns:
        The span, to be ended with the settlement; None where it is not recorded and the call has no handle.
    """
    details = call.details
    attributes = request_attributes(call, facts, items)
    name = f"{call.spec.operation} {facts.name}"
    if details is not None and details.span is not None:
        span = details.span
        span.update_name(name)
        span.set_attributes(attributes)
    else:
        span = tracer().start_span(
            name,
            context=call.context,
            kind=SpanKind.INTERNAL,
            attributes={key: attributes[key] for key in FOR_SAMPLERS},
            start_time=call.start_ns + epoch_ns,
            links=None if details is None or details.links is None else [trace.Link(one) for one in details.links],
        )
        if details is not None and details.attributes:
            span.set_attributes(attributes)  # the application's values are checked
        else:
            set_allowed(span, attributes)
    handle = None if details is None else details.handle
    if not span.is_recording():
        span.end()
        if handle is None:
            return None
    if details is not None and details.members:
        _link(span, details.members)
    recording = span if span.is_recording() else None
    started = RequestSpan(recording, call.end_ns + epoch_ns, error_name(call.error), handle)
    if details is not None and details.tokens is not None:
        started.tokens = details.tokens[1]
    return started


def _link(batch: Span, members: Sequence[tuple[Call, float]]) -> None:
    """Link the span of a batched call and the spans of the requests that it served, both ways."""
    own = batch.get_span_context()
    for member, _ in members:
        details = member.ensure_details()
        # A member that was given by its context gets its span later, below the given one, with its own link.
        span = trace.get_current_span(member.context) if details.span is None else details.span
        if span.get_span_context().is_valid:
            batch.add_link(span.get_span_context())
        if details.span is not None and own.is_valid:
            details.span.add_link(own)
