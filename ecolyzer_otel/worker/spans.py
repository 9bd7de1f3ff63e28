"""The span of a request: started late with its recorded start time, ended at settlement with its recorded end.

Leaf calls never make a span current, so theirs is started off the request path, by the background thread, with
the parent that the caller's thread had. Works with any TracerProvider; of the SDK's one thing is used that is not
public, where it is there (:func:`_put`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from ecolyzer_otel.common.attributes import Attr, phase_attribute
from ecolyzer_otel.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context.context import Context
    from opentelemetry.util.types import AttributeValue

    from ecolyzer_otel.wire.protocol import PlaceFacts, Settled
    from ecolyzer_otel.worker.call import Call
    from ecolyzer_otel.worker.spec import ModelFacts

__all__ = ["RequestSpan", "open_span", "route_of", "service_of_spans", "spans_are_exported", "start_span"]


#: What a sampler of the user's may decide by. The others are given to a span that is recorded.
_FOR_SAMPLERS: Final = (Attr.FRAMEWORK, Attr.OPERATION, Attr.MODEL_NAME)
#: Attributes of a settlement that not each one has, and its field of the same meaning.
_IF_KNOWN: Final = (
    (Attr.CO2E_EMBODIED_GRAMS, "embodied_grams"),
    (Attr.CO2E_UNCERTAINTY_GRAMS, "uncertainty_grams"),
    (Attr.CO2E_MARKET_GRAMS, "market_grams"),
    (Attr.CO2E_MARGINAL_GRAMS, "marginal_grams"),
    (Attr.SCI_MILLION_TOKENS_GRAMS, "sci_million_tokens"),
    (Attr.WATER_LOW_LITERS, "water_low"),
    (Attr.WATER_HIGH_LITERS, "water_high"),
    (Attr.THERMAL_CELSIUS, "celsius"),
    (Attr.THERMAL_MAX_CELSIUS, "max_celsius"),
    (Attr.THERMAL_THROTTLED, "throttled"),
    (Attr.ESS, "ess"),
    (Attr.ITEM_ESS, "item_ess"),
    (Attr.MODEL_EFFECTIVE_PARAMETERS, "effective_parameters"),
    (Attr.MODEL_QUANTIZATION_FACTOR, "quantization_factor"),
    (Attr.GRID_GRAMS_PER_KWH, "grams_per_kwh"),
)
_ENERGIES: Final[dict[str, tuple[str, str | None]]] = {
    "cpu": (Attr.ENERGY_CPU_JOULES, Attr.ENERGY_CPU_METHOD),
    "gpu": (Attr.ENERGY_GPU_JOULES, Attr.ENERGY_GPU_METHOD),
    "dram": (Attr.ENERGY_DRAM_JOULES, None),
}


class RequestSpan:
    """Who waits for the settlement of a request: its span, its handle, or both.

    ``position``: the how manyth request sent to the meter it is. ``tokens``: output tokens, 0 where none are known.
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
        """End the span with its settlement, and tell the handle; None says that none will come."""
        known = settled is not None and not settled.unsettled and place is not None
        if self.handle is not None:
            self.handle.settled(settled if known else None)
        span = self.span
        if span is None:
            return
        if settled is None or place is None or not known:
            span.set_attribute(Attr.ENERGY_METHOD, "unsettled")
        elif settled.served:
            # Its joules are on the spans of the requests that it served: no span counts twice.
            span.set_attribute(Attr.BATCH_JOULES, settled.active + settled.idle)
        else:
            values = _settlement_attributes(settled, place)
            if self.tokens:
                values[Attr.ENERGY_OUTPUT_TOKEN_JOULES] = (settled.active + settled.idle) / self.tokens
            if "gpu" in settled.components:
                values[Attr.ENERGY_GPU_ACTIVITY] = "kernels" if self.kernels else "overlap"
            if not _put(span, values):
                span.set_attributes(values)
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


_NOBODY: Final = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)


def open_span(call: Call) -> tuple[Span, Context] | None:
    """Start the span of a container call at its begin; the context in which it is the current one.

    What is not known yet is added when the call is told of (:func:`start_span`). None where there are no spans.
    """
    if isinstance(trace.get_tracer_provider(), _NOBODY):
        return None
    spec = call.spec
    name = call.state.names.get(id(call.model))
    span = _tracer().start_span(
        f"{spec.operation} {name}" if name else spec.operation,
        context=call.context,
        kind=SpanKind.INTERNAL,
        attributes={Attr.FRAMEWORK: spec.framework, Attr.OPERATION: spec.operation},
    )
    return span, trace.set_span_in_context(span, call.context)


def start_span(call: Call, facts: ModelFacts, framework: str, items: int, epoch_ns: int) -> RequestSpan | None:
    """Start the span of a finished call, or complete the one that it has had from its begin.

    Args:
        call: the finished call.
        facts: what is known of its model.
        framework: the framework it counts for.
        items: its batch size.
        epoch_ns: Unix time less monotonic time, in nanoseconds.

    Returns:
        What is to be ended with the settlement; None when the sampler does not want the span and nobody else waits.
    """
    more = call.details
    attributes = _attributes(call, facts, framework, items)
    name = f"{call.spec.operation} {facts.name}"
    if more is not None and more.span is not None:
        span = more.span
        span.update_name(name)
        span.set_attributes(attributes)
    else:
        span = _tracer().start_span(
            name,
            context=call.context,
            kind=SpanKind.INTERNAL,
            attributes={key: attributes[key] for key in _FOR_SAMPLERS},
            start_time=call.start_ns + epoch_ns,
            links=None if more is None or more.links is None else [trace.Link(one) for one in more.links],
        )
        if (more is not None and more.attributes) or not _put(span, attributes):
            span.set_attributes(attributes)  # what users give is looked at
    handle = None if more is None else more.handle
    if not span.is_recording():
        span.end()
        if handle is None:
            return None
    if more is not None and more.members:
        _link(span, more.members)
    recording = span if span.is_recording() else None
    started = RequestSpan(recording, call.end_ns + epoch_ns, error_name(call.error), handle)
    if more is not None and more.tokens is not None:
        started.tokens = more.tokens[1]
    return started


def _attributes(call: Call, facts: ModelFacts, framework: str, items: int) -> dict[str, AttributeValue]:
    """What a span shows of a request before its settlement."""
    attributes: dict[str, AttributeValue] = {
        Attr.FRAMEWORK: framework,
        Attr.OPERATION: call.spec.operation,
        Attr.MODEL_NAME: facts.name,
        Attr.DEVICE: facts.device,
        Attr.BATCH_SIZE: items,
    }
    if facts.parameters is not None:
        attributes[Attr.MODEL_PARAMETERS] = facts.parameters
    if facts.dtype is not None:
        attributes[Attr.MODEL_DTYPE] = facts.dtype
    more = call.details
    if more is None:
        return attributes
    if more.attributes:
        attributes.update(more.attributes)
        if Attr.GEN_AI_OPERATION in more.attributes:
            attributes[Attr.GEN_AI_PROVIDER], attributes[Attr.GEN_AI_MODEL] = framework, facts.name
    if more.warmup:
        attributes[Attr.WARMUP] = True
    if more.tokens is not None:
        attributes[Attr.INPUT_TOKENS], attributes[Attr.OUTPUT_TOKENS] = more.tokens
    if more.first_token_ns:
        attributes[Attr.FIRST_TOKEN_SECONDS] = max(0, more.first_token_ns - call.start_ns) / 1e9
    return attributes


def _link(batch: Span, members: Sequence[tuple[Call, float]]) -> None:
    """Links from a batched call to the requests that it served, and from each of them to it."""
    own = batch.get_span_context()
    for member, _ in members:
        more = member.ensure_details()
        # One that was given by its context has its span later, with a link of its own, below the one given.
        span = trace.get_current_span(member.context) if more.span is None else more.span
        if span.get_span_context().is_valid:
            batch.add_link(span.get_span_context())
        if more.span is not None and own.is_valid:
            more.span.add_link(own)


_tracers: dict[int, tuple[Any, trace.Tracer]] = {}


def _tracer() -> trace.Tracer:
    """Ours of the present provider; asking for it anew costs half as much as a span."""
    provider = trace.get_tracer_provider()
    known = _tracers.get(0)
    if known is None or known[0] is not provider:
        known = _tracers[0] = provider, trace.get_tracer("ecolyzer_otel", __version__)
    return known[1]


def _put(span: Span, values: dict[str, AttributeValue]) -> bool:
    """Give an SDK's span attributes that need no looking at, without that; whether it could be done.

    ``set_attributes`` looks at each value for what OpenTelemetry does not allow: of some thirty that are numbers,
    words and tuples of these, half of all that the span costs. Limits of number and length are left to it, and
    spans of other makers. Private names of the SDK: where one of them is another's, nothing is changed.
    """
    try:
        held = span._attributes  # type: ignore[attr-defined]
        if type(held) is not BoundedAttributes or held.max_value_len is not None or held._immutable:
            return False
        with held._lock:
            present = held._dict
            if type(present) is not dict or (held.maxlen is not None and len(present) + len(values) > held.maxlen):
                return False
            present.update(values)
    except AttributeError:
        return False
    return True


_places: dict[int, tuple[PlaceFacts, dict[str, AttributeValue]]] = {}


def _place_attributes(place: PlaceFacts) -> dict[str, AttributeValue]:
    """What all spans of one place show; a meter tells a place anew whenever something of it changes."""
    known = _places.get(0)
    if known is not None and known[0] is place:
        return known[1]
    values: dict[str, AttributeValue | None] = {
        Attr.WATER_METHOD: place.water_method or None,
        Attr.WATER_SOURCE: place.water_source or None,
        Attr.GRID_ZONE: place.zone,
        Attr.GRID_GRAMS_PER_KWH: place.grams_per_kwh,
        Attr.GRID_BASIS: place.basis,
        Attr.GRID_SOURCE: place.source,
        Attr.GRID_YEAR: place.year or None,
        Attr.GRID_TIME: place.time or None,
        Attr.GRID_ESTIMATED: place.estimated,
        Attr.GRID_DEFAULTED: True if place.defaulted else None,
        Attr.PUE: place.pue,
        Attr.WUE: place.wue,
    }
    told: dict[str, AttributeValue] = {key: value for key, value in values.items() if value is not None}
    _places[0] = place, told
    return told


def _settlement_attributes(settled: Settled, place: PlaceFacts) -> dict[str, AttributeValue]:
    joules = settled.active + settled.idle
    values: dict[str, AttributeValue] = {
        **_place_attributes(place),
        Attr.ENERGY_JOULES: joules,
        Attr.ENERGY_ACTIVE_JOULES: settled.active,
        Attr.ENERGY_IDLE_JOULES: settled.idle,
        Attr.ENERGY_UNCERTAINTY_JOULES: settled.uncertainty,
        Attr.ENERGY_METHOD: settled.method,
        Attr.ENERGY_BASIS: settled.basis,
        Attr.CO2E_GRAMS: settled.operational_grams + (settled.embodied_grams or 0.0),
        Attr.CO2E_OPERATIONAL_GRAMS: settled.operational_grams,
        Attr.WATER_LITERS: settled.onsite_liters + settled.offsite_liters,
        Attr.WATER_ONSITE_LITERS: settled.onsite_liters,
        Attr.WATER_OFFSITE_LITERS: settled.offsite_liters,
    }
    for key, name in _IF_KNOWN:
        value = getattr(settled, name)
        if value is not None:
            values[key] = value
    if settled.reasons:
        values[Attr.THERMAL_REASONS] = tuple(settled.reasons)
    if settled.embodied_grams is not None:
        values[Attr.SCI_REQUEST_GRAMS] = settled.operational_grams + settled.embodied_grams
    if len(settled.devices) > 1:
        values[Attr.THERMAL_DEVICES] = tuple(settled.devices)
        values[Attr.THERMAL_DEVICE_CELSIUS] = tuple(mean for mean, _ in settled.devices.values())
        values[Attr.THERMAL_DEVICE_MAX_CELSIUS] = tuple(highest for _, highest in settled.devices.values())
    for component, (part, method) in settled.components.items():
        energy_key, method_key = _ENERGIES[component]
        values[energy_key] = part
        if method_key is not None:
            values[method_key] = method
    for phase, part in settled.phases.items():
        phase_key = phase_attribute(phase)
        if phase_key is not None:
            values[phase_key] = part
    return values


def route_of(call: Call) -> tuple[str, bool]:
    """The ``http.route`` that the call was made for, and whether that is final.

    From the SERVER span that our span processor noted; with a foreign provider from the parent span itself.
    """
    server = call.server
    if server is None:
        if not call.context:  # nothing is in it, so no span
            return "", True
        server = trace.get_current_span(call.context)
    attributes = getattr(server, "attributes", None)
    if not attributes:
        return "", True
    route = attributes.get(Attr.HTTP_ROUTE)
    if isinstance(route, str):
        return route, True
    # Some web frameworks learn the route only when they have answered.
    return "", call.server is None or getattr(server, "end_time", None) is not None


def spans_are_exported() -> bool:
    """Whether an exemplar may point at spans of this process: somebody beside us processes them."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, _NOBODY):
        return False
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", None)
    if processors is None:
        return True  # a foreign provider: its own business
    return any(not getattr(one, "only_notes", False) for one in processors)


def service_of_spans() -> str:
    """``service.name`` of the spans of this process, so that metrics and spans carry the same."""
    resource = getattr(trace.get_tracer_provider(), "resource", None)
    name = getattr(resource, "attributes", {}).get("service.name")
    if isinstance(name, str) and name:
        return name
    # Not the SDK's Resource.create(): it starts a pool of threads, which a process that ends or forks at this
    # moment would not bear; and where there is no provider its import would be for this alone.
    return _told_service() or f"unknown_service:{os.path.basename(sys.executable or 'python')}"


def _told_service() -> str:
    """``service.name`` of the standard variables, in the order and encoding that OpenTelemetry specifies."""
    name = os.environ.get("OTEL_SERVICE_NAME", "")
    for pair in () if name else os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name":
            name = unquote(value.strip())
    return name
