"""SERVER spans of web requests as the source of ``http.route``, at every sampling rate.

The span processor notes each SERVER span in a context variable at its start. Requests made while it is served keep
it, and its ``http.route`` is read when they are reported. For that, SERVER spans must exist even when sampling
drops them: :class:`RouteSampler` turns DROP into RECORD_ONLY for root SERVER spans. These are recorded and never
exported, and their children are dropped as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanKind, TraceState

from ecolyzer_otel.worker.call import server_span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import Attributes

__all__ = ["RouteProcessor", "RouteSampler"]


class RouteProcessor(SpanProcessor):
    """Notes the SERVER span of the web request being served."""

    #: A provider that has no other processor exports nothing.
    only_notes = True

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note the span. Called in the context in which the web framework then serves the request."""
        kind = getattr(span, "kind", None)
        if kind is SpanKind.SERVER or (
            kind is SpanKind.INTERNAL and _serves_web_request(getattr(span, "attributes", None))
        ):
            server_span.set(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Remove the note, if the span ends in the context that it started in."""
        noted = server_span.get()
        # A note of an instrumentor (:mod:`ecolyzer_starlette`) is not a span, and stays.
        if isinstance(noted, Span) and noted.get_span_context() == span.context:
            server_span.set(None)


def _serves_web_request(attributes: Attributes) -> bool:
    """Whether an INTERNAL span is that of a web request.

    After an upload of more than 64 KiB uvicorn (with h11 on asyncio) serves the next requests of a connection in
    the context of the one before. The ended span of that one is still current, so instrumentors start an INTERNAL
    span below it.
    """
    if not attributes or ("http.request.method" not in attributes and "http.method" not in attributes):
        return False
    noted = server_span.get()
    return noted is None or getattr(noted, "end_time", None) is not None


class RouteSampler(Sampler):
    """The configured sampler, except that every root span of a web request is recorded."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See :class:`opentelemetry.sdk.trace.sampling.Sampler`."""
        result = self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is not Decision.DROP:
            return result
        serves = kind is SpanKind.SERVER and _is_root(parent_context)
        if serves or (kind is SpanKind.INTERNAL and _serves_web_request(attributes)):
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """Returns a description of this sampler for people."""
        return f"RouteSampler({self._inner.get_description()})"


def _is_root(parent_context: Context | None) -> bool:
    """Root of this process: no parent, or one that came over the network."""
    parent = trace.get_current_span(parent_context).get_span_context()
    return not parent.is_valid or parent.is_remote
