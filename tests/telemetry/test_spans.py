"""What a span says of how a request ran: whether kernels were timed, and whether something was compiled."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider

from ecolyzer_otel.agent.protocol import PlaceFacts, Settled
from ecolyzer_otel.call import Call, State
from ecolyzer_otel.telemetry.spans import RequestSpan, _attributes
from ecolyzer_otel.wrap import CallSpec, ModelFacts

SPEC = CallSpec("custom", "infer", lambda model: ModelFacts("engine"))
PLACE = PlaceFacts("FR", 44.0, "lifecycle_production", "OWID/Ember", 1.0)


@pytest.mark.parametrize(("kernels", "told"), [(True, "kernels"), (False, "overlap")])
def test_the_activity_on_a_gpu_is_that_of_kernels_or_of_overlap(kernels: bool, told: str) -> None:
    span = TracerProvider().get_tracer("test").start_span("infer engine")
    ended = RequestSpan(span, span.start_time + 1, "")
    ended.kernels = kernels
    settled = Settled(id=1, unsettled="", active=3.0, idle=1.0, components={"gpu": (4.0, "measured")})
    ended.end(settled, PLACE)
    assert span.attributes["ecolyzer.energy.gpu_activity"] == told
    assert span.attributes["ecolyzer.energy.gpu_joules"] == 4.0


def test_without_a_gpu_nothing_is_said_of_its_activity() -> None:
    span = TracerProvider().get_tracer("test").start_span("infer engine")
    settled = Settled(id=1, unsettled="", active=3.0, idle=1.0, components={"cpu": (4.0, "measured")})
    RequestSpan(span, span.start_time + 1, "").end(settled, PLACE)
    assert "ecolyzer.energy.gpu_activity" not in span.attributes


@pytest.mark.parametrize("warmup", [True, False])
def test_a_call_that_compiled_something_is_marked(warmup: bool) -> None:
    call = Call(SPEC, None, State())
    call.note().warmup = warmup
    told = _attributes(call, ModelFacts("engine"), "custom", 1)
    assert told.get("ecolyzer.warmup", False) is warmup
