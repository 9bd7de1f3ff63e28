"""What a span says of how a request ran: whether kernels were timed, and whether something was compiled."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan

from ecolyzer_otel.wire.protocol import PlaceFacts, Settled
from ecolyzer_otel.worker import span_attributes
from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.span_attributes import request_attributes
from ecolyzer_otel.worker.spans import RequestSpan
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.state import State

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
    call.ensure_details().warmup = warmup
    told = request_attributes(call, ModelFacts("engine"), 1)
    assert told.get("ecolyzer.warmup", False) is warmup


def ended(settled: Settled, place: PlaceFacts = PLACE) -> dict[str, object]:
    span = TracerProvider().get_tracer("test").start_span("infer engine")
    RequestSpan(span, span.start_time + 1, "").end(settled, place)
    return dict(span.attributes)


def test_temperatures_by_device_and_why_it_was_throttled() -> None:
    heat = {"package-0": (50.0, 55.0), "gpu0": (80.0, 88.0)}
    settled = Settled(
        id=1, unsettled="", celsius=80.0, max_celsius=88.0, devices=heat, throttled=0.25, reasons=["power_cap"]
    )
    told = ended(settled)
    assert told["ecolyzer.thermal.celsius"] == 80.0
    assert told["ecolyzer.thermal.devices"] == ("package-0", "gpu0")
    assert told["ecolyzer.thermal.device_celsius"] == (50.0, 80.0)
    assert told["ecolyzer.thermal.device_max_celsius"] == (55.0, 88.0)
    assert told["ecolyzer.thermal.throttled"] == 0.25
    assert told["ecolyzer.thermal.reasons"] == ("power_cap",)


def test_one_device_needs_no_list_and_what_is_not_known_is_absent() -> None:
    told = ended(Settled(id=1, unsettled="", devices={"cpu": (50.0, 55.0)}))
    assert [key for key in told if "thermal" in key or "sci" in key or "market" in key or "marginal" in key] == []


def test_second_figures_and_scores() -> None:
    settled = Settled(
        id=1, unsettled="", operational_grams=3.0, embodied_grams=2.0, uncertainty_grams=0.5, market_grams=1.0,
        marginal_grams=9.0, water_low=0.1, water_high=0.4, ess=6.0, item_ess=48.0, sci_million_tokens=50.0,
    )  # fmt: skip
    told = ended(settled)
    assert {key: told[f"ecolyzer.{key}"] for key in (
        "co2e.grams", "co2e.embodied_grams", "co2e.uncertainty_grams", "co2e.market_grams", "co2e.marginal_grams",
        "sci.request_grams", "sci.million_tokens_grams", "water.low_liters", "water.high_liters", "ess", "item.ess",
    )} == {
        "co2e.grams": 5.0, "co2e.embodied_grams": 2.0, "co2e.uncertainty_grams": 0.5, "co2e.market_grams": 1.0,
        "co2e.marginal_grams": 9.0, "sci.request_grams": 5.0, "sci.million_tokens_grams": 50.0,
        "water.low_liters": 0.1, "water.high_liters": 0.4, "ess": 6.0, "item.ess": 48.0,
    }  # fmt: skip


def test_every_figure_says_where_its_factor_is_from() -> None:
    place = PlaceFacts("WORLD", 473.0, "lifecycle", "OWID", 1.2, 2024, "", False, True, 0.4, "published", "WRI")
    told = ended(Settled(id=1, unsettled=""), place)
    assert told["ecolyzer.grid.defaulted"] is True
    assert told["ecolyzer.grid.year"] == 2024
    assert "ecolyzer.grid.time" not in told
    assert told["ecolyzer.wue"] == 0.4
    assert (told["ecolyzer.water.method"], told["ecolyzer.water.source"]) == ("published", "WRI")
    live = PlaceFacts("DE", 300.0, "direct", "live", 1.0, 2026, "2026-11-25T10:00Z", True)
    told = ended(Settled(id=1, unsettled="", grams_per_kwh=250.0), live)
    assert told["ecolyzer.grid.time"] == "2026-11-25T10:00Z"
    assert told["ecolyzer.grid.estimated"] is True
    assert told["ecolyzer.grid.grams_per_kwh"] == 250.0, "the mean over the request's joules"
    assert "ecolyzer.grid.defaulted" not in told


FULL = Settled(
    id=1, unsettled="", active=3.0, idle=1.0, uncertainty=0.5, method="measured", operational_grams=3.0,
    components={"cpu": (4.0, "measured")}, celsius=50.0, reasons=["power_cap", "thermal"],
    phases={"prefill": 1.0, "decode": 3.0},
    devices={"package-0": (50.0, 55.0), "gpu0": (80.0, 88.0)}, throttled=0.25, ess=6.0,
)  # fmt: skip


def exported(span) -> tuple[dict[str, object], int]:
    RequestSpan(span, span.start_time + 1, "").end(FULL, PLACE)
    return dict(span.attributes), span.dropped_attributes


def test_the_short_way_to_a_span_gives_what_the_public_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = TracerProvider().get_tracer("test")
    seen: list[bool] = []
    short = span_attributes._put
    monkeypatch.setattr(span_attributes, "_put", lambda *args: seen.append(short(*args)) or seen[-1])
    first = exported(tracer.start_span("infer engine", attributes={"own": "x"}))
    assert seen == [True], "the SDK has other names now: spans work, and cost more"
    monkeypatch.setattr(span_attributes, "_put", lambda *args: False)
    assert exported(tracer.start_span("infer engine", attributes={"own": "x"})) == first
    assert len(first[0]) >= 30


@pytest.mark.parametrize("limits", [SpanLimits(max_attributes=8), SpanLimits(max_attribute_length=4)])
def test_limits_of_the_sdk_hold(limits: SpanLimits) -> None:
    tracer = TracerProvider(span_limits=limits).get_tracer("test")
    told, dropped = exported(tracer.start_span("infer engine"))
    assert len(told) == 8 or dropped == 0
    assert all(len(value) <= 4 for value in told.values() if isinstance(value, str)) or dropped > 20


def test_a_span_of_another_maker_is_told_all_the_same() -> None:
    class Other(NonRecordingSpan):
        told: dict[str, object] = {}  # noqa: RUF012 - one span

        def set_attributes(self, attributes) -> None:
            self.told.update(attributes)

    span = Other(INVALID_SPAN_CONTEXT)
    RequestSpan(span, 1, "").end(FULL, PLACE)
    assert span.told["ecolyzer.energy.joules"] == 4.0
