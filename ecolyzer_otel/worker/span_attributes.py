"""The attributes of a request's span: at its start, and at its settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.attributes import BoundedAttributes

from ecolyzer_otel.common.attributes import Attr, phase_attribute

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from ecolyzer_otel.wire.protocol import PlaceFacts, Settled
    from ecolyzer_otel.worker.call import Call
    from ecolyzer_otel.worker.spec import ModelFacts

__all__ = ["FOR_SAMPLERS", "request_attributes", "set_allowed", "settlement_attributes"]

#: The attributes that a sampler of the application sees. The others are set on spans that are recorded.
FOR_SAMPLERS: Final = (Attr.FRAMEWORK, Attr.OPERATION, Attr.MODEL_NAME)
#: Attributes that are set where the settlement has the field of the same meaning.
_OPTIONAL: Final = (
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


def request_attributes(call: Call, facts: ModelFacts, items: int) -> dict[str, AttributeValue]:
    """Returns the attributes of a request before its settlement."""
    framework = facts.framework or call.spec.framework
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
    details = call.details
    if details is None:
        return attributes
    if details.attributes:
        attributes.update(details.attributes)
        if Attr.GEN_AI_OPERATION in details.attributes:
            attributes[Attr.GEN_AI_PROVIDER], attributes[Attr.GEN_AI_MODEL] = framework, facts.name
    if details.warmup:
        attributes[Attr.WARMUP] = True
    if details.tokens is not None:
        attributes[Attr.INPUT_TOKENS], attributes[Attr.OUTPUT_TOKENS] = details.tokens
    if details.first_token_ns:
        attributes[Attr.FIRST_TOKEN_SECONDS] = max(0, details.first_token_ns - call.start_ns) / 1e9
    return attributes


def settlement_attributes(settled: Settled, place: PlaceFacts) -> dict[str, AttributeValue]:
    """Returns the attributes of a settled request: energy, emissions, water, temperature, scores, factors."""
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
    for key, field in _OPTIONAL:
        value = getattr(settled, field)
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


_places: dict[int, tuple[PlaceFacts, dict[str, AttributeValue]]] = {}


def _place_attributes(place: PlaceFacts) -> dict[str, AttributeValue]:
    """Returns the attributes that all spans of one place share. A change of factors makes a new object."""
    cached = _places.get(0)
    if cached is not None and cached[0] is place:
        return cached[1]
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
    present: dict[str, AttributeValue] = {key: value for key, value in values.items() if value is not None}
    _places[0] = place, present
    return present


def set_allowed(span: Span, values: dict[str, AttributeValue]) -> None:
    """Set attributes whose values are numbers, strings and tuples of these, which OpenTelemetry allows.

    On spans of the SDK without its check of each value: of some thirty values, half of all that the span costs.
    """
    if not _put(span, values):
        span.set_attributes(values)


def _put(span: Span, values: dict[str, AttributeValue]) -> bool:
    """Write attributes into a span of the SDK; returns whether that was possible.

    It is not for spans of another implementation, nor where limits of number or length apply. By private names of
    the SDK: where one of them differs, nothing is changed.
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
