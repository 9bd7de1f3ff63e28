"""``start``, ``flush``, ``stop`` in this process, against recorded counters whose joules are known."""

from __future__ import annotations

import importlib.util
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measured import Scrape, get, recording, script
from opentelemetry import trace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

import ecolyzer_otel
from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.metrics import REQUEST_LABELS
from ecolyzer_otel.impact.place import SiteSettings, resolve_place

X, Y = make_classification(n_samples=300, n_features=8, random_state=3)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Labels = frozenset[tuple[str, str]]


def work(model: Any, threads: int = 4, times: int = 25) -> None:
    def loop() -> None:
        for _ in range(times):
            model.predict(X)
            model.predict_proba(X[:10])

    all_ = [threading.Thread(target=loop) for _ in range(threads)]
    for thread in all_:
        thread.start()
    for thread in all_:
        thread.join()


@pytest.fixture
def scraped(start: Callable[..., Any]) -> Scrape:
    """After 100 ``predict`` of 300 rows and 100 ``predict_proba`` of 10 from four threads."""
    running = start(pue=1.3, wue=0.4)
    work(LogisticRegression().fit(X, Y))
    assert ecolyzer_otel.flush(60)
    assert ecolyzer_otel.counts() == {"served": 200, "accounted": 200, "dropped": 0, "pending": 0}
    return Scrape(get(running.url))


# What /metrics tells.


def test_requests_and_items_are_exact(scraped: Scrape) -> None:
    assert scraped.total("ecolyzer_requests_total") == 200
    for operation, items in (("predict", 30_000), ("predict_proba", 1_000)):
        (one,) = scraped.find("ecolyzer_requests_total", operation=operation)
        assert one.value == 100
        assert one.labels == {
            "service": "shop", "model": "LogisticRegression", "framework": "sklearn",
            "operation": operation, "device": "cpu", "route": "", "status": "ok",
        }  # fmt: skip
        assert scraped.total("ecolyzer_items_total", operation=operation, kind="input") == items
    assert scraped.total("ecolyzer_unsettled_requests_total") == 0
    assert scraped.total("ecolyzer_dropped_requests_total") == 0
    assert scraped.total("ecolyzer_pending_requests") == 0


@pytest.mark.parametrize("component", ["cpu", "dram"])
def test_active_joules_of_all_requests_are_the_share_requests(scraped: Scrape, component: str) -> None:
    active = scraped.total("ecolyzer_energy_joules_total", component=component, share="active")
    assert active > 0
    assert active == pytest.approx(
        scraped.total("ecolyzer_device_energy_joules_total", device=component, share="requests"), rel=1e-6
    )


@pytest.mark.parametrize("component", ["cpu", "dram"])
def test_idle_joules_of_all_requests_are_part_of_the_share_idle(scraped: Scrape, component: str) -> None:
    idle = scraped.total("ecolyzer_energy_joules_total", component=component, share="idle")
    assert (
        0 < idle <= scraped.total("ecolyzer_device_energy_joules_total", device=component, share="idle") * 1.000001
    )


def test_the_shares_add_up_to_what_the_recorded_counters_grew(start: Callable[..., Any], tmp_path: Path) -> None:
    """Of a recording of 6 s that is then over: all that it holds was measured, and nothing else."""
    file = recording(tmp_path / "short.json", seconds=6)
    running = start(sensors=f"replay:{file}")
    work(LogisticRegression().fit(X, Y))
    time.sleep(6.3)
    assert ecolyzer_otel.flush(60)
    scrape = Scrape(get(running.url))
    for device, step in (("cpu", 0.02 * 40), ("dram", 0.02 * 10)):
        shares = scrape.find("ecolyzer_device_energy_joules_total", device=device)
        assert sorted(one.labels["share"] for one in shares) == ["host", "idle", "process", "requests"]
        measured = sum(one.value for one in shares) + scrape.total(
            "ecolyzer_device_energy_pending_joules", device=device
        )
        # All 299 steps, but for those before the first reading where the machine was busy.
        assert 150 < round(measured / step) <= 299
        assert measured == pytest.approx(round(measured / step) * step, rel=1e-6)
        assert scrape.total("ecolyzer_energy_joules_total", component=device, share="active") > 0


def test_grams_litres_and_scores_follow_from_joules_and_factors(scraped: Scrape) -> None:
    for operation in ("predict", "predict_proba"):
        joules = scraped.total("ecolyzer_energy_joules_total", operation=operation)
        (grid,) = scraped.find("ecolyzer_grid_carbon_intensity_grams_per_kwh")
        (ewif,) = scraped.find("ecolyzer_grid_water_intensity_liters_per_kwh")
        assert grid.value == resolve_place("FR").grams_per_kwh
        assert scraped.total("ecolyzer_co2e_grams_total", operation=operation) == pytest.approx(
            joules * 1.3 * grid.value / 3.6e6
        )
        assert scraped.total("ecolyzer_water_liters_total", operation=operation, scope="onsite") == pytest.approx(
            joules * 0.4 / 3.6e6
        )
        assert scraped.total("ecolyzer_water_liters_total", operation=operation, scope="offsite") == pytest.approx(
            joules * 1.3 * ewif.value / 3.6e6
        )
    grams = scraped.total("ecolyzer_co2e_grams_total")
    # P = 8 coefficients and an intercept, in millions; 200 requests of 31 000 items.
    for per, number in (("request", 200), ("item", 31_000)):
        (score,) = scraped.find("ecolyzer_ess", per=per)
        assert score.value == pytest.approx(9e-6 * number / grams)


def test_histograms_hold_every_request_and_all_its_joules(scraped: Scrape) -> None:
    assert scraped.total("ecolyzer_request_energy_joules_count") == 200
    assert scraped.total("ecolyzer_request_energy_joules_sum") == pytest.approx(
        scraped.total("ecolyzer_energy_joules_total")
    )
    assert scraped.total("ecolyzer_request_co2e_grams_sum") == pytest.approx(
        scraped.total("ecolyzer_co2e_grams_total")
    )
    assert scraped.total("ecolyzer_request_duration_seconds_count") == 200


def test_a_failed_call_is_an_error_with_energy(start: Callable[..., Any]) -> None:
    running = start()
    model = LogisticRegression().fit(X, Y)
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :2])
    assert ecolyzer_otel.flush(60)
    scrape = Scrape(get(running.url))
    assert scrape.total("ecolyzer_requests_total", status="error") == 1
    assert scrape.total("ecolyzer_requests_total", status="ok") == 0
    assert scrape.total("ecolyzer_energy_joules_total") > 0


def test_without_a_sensor_a_call_is_unsettled_and_has_no_energy(start: Callable[..., Any]) -> None:
    running = start(sensors="none")
    LogisticRegression().fit(X, Y).predict(X)
    assert ecolyzer_otel.flush(60)
    scrape = Scrape(get(running.url))
    assert scrape.total("ecolyzer_requests_total") + scrape.total("ecolyzer_unsettled_requests_total") == 1
    assert scrape.find("ecolyzer_energy_joules_total") == []
    assert ecolyzer_otel.counts()["accounted"] == 1


def test_the_modelled_processor_serves_where_there_is_no_counter(start: Callable[..., Any]) -> None:
    running = start(sensors="modelled")
    LogisticRegression().fit(X, Y).predict(X)
    assert ecolyzer_otel.flush(60)
    scrape = Scrape(get(running.url))
    assert scrape.total("ecolyzer_requests_total") == 1
    assert {one.labels["method"] for one in scrape.find("ecolyzer_device_energy_joules_total")} == {"modelled"}


# Life.


def test_an_unknown_option_is_named(start: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        start(zonne="FR")
    assert "zonne" in str(caught.value)
    assert ecolyzer_otel.counts()["served"] == 0


@pytest.mark.parametrize(
    ("option", "value"), [("port", 70_000), ("pue", 0.5), ("sensors", "sundial"), ("sampling_period", "often")]
)
def test_a_bad_value_is_named(start: Callable[..., Any], option: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        start(**{option: value})
    assert option.replace("_", "-") in str(caught.value)


def test_starting_twice_is_refused_and_the_first_goes_on(start: Callable[..., Any]) -> None:
    running = start()
    with pytest.raises(RuntimeError, match="stop"):
        start()
    LogisticRegression().fit(X, Y).predict(X)
    assert ecolyzer_otel.flush(60)
    assert Scrape(get(running.url)).total("ecolyzer_requests_total") == 1


def test_stopping_what_was_never_started_is_no_fault() -> None:
    ecolyzer_otel.stop()
    ecolyzer_otel.stop()
    assert ecolyzer_otel.flush(60)
    assert ecolyzer_otel.counts() == {"served": 0, "accounted": 0, "dropped": 0, "pending": 0}


def test_after_stop_nothing_is_patched_served_or_running(start: Callable[..., Any]) -> None:
    before = vars(LogisticRegression)["predict_proba"], {thread.name for thread in threading.enumerate()}
    running = start()
    assert vars(LogisticRegression)["predict_proba"] is not before[0]
    LogisticRegression().fit(X, Y).predict(X)
    ecolyzer_otel.stop()
    assert vars(LogisticRegression)["predict_proba"] is before[0]
    left = {thread.name for thread in threading.enumerate() if "ecolyzer" in thread.name}
    assert left <= before[1]
    with pytest.raises(OSError, match="refused"):
        get(running.url)


def test_started_again_it_counts_from_nothing(start: Callable[..., Any]) -> None:
    model = LogisticRegression().fit(X, Y)
    for calls in (3, 5):
        running = start()
        for _ in range(calls):
            model.predict(X)
        assert ecolyzer_otel.flush(60)
        assert ecolyzer_otel.counts()["accounted"] == calls
        assert Scrape(get(running.url)).total("ecolyzer_requests_total") == calls
        ecolyzer_otel.stop()


def test_a_long_call_and_short_ones_beside_it_all_settle(start: Callable[..., Any]) -> None:
    from sklearn.preprocessing import FunctionTransformer

    running = start()
    slow = FunctionTransformer(lambda given: (time.sleep(0.9), given)[1]).fit(X)
    model = LogisticRegression().fit(X, Y)
    thread = threading.Thread(target=slow.transform, args=(X,))
    thread.start()
    for _ in range(40):
        model.predict(X)
        time.sleep(0.01)
    thread.join()
    assert ecolyzer_otel.flush(60)
    scrape = Scrape(get(running.url))
    assert scrape.total("ecolyzer_requests_total") == 41
    # The slow one only slept: what it is charged is idle power over its 0.9 s, part of it shared.
    idle = scrape.total("ecolyzer_energy_joules_total", model="FunctionTransformer", share="idle")
    assert 0.5 * 0.9 * 12.5 < idle < 1.1 * 0.9 * 12.5


FRAMEWORKS = """
import json, sys
import ecolyzer_otel
heavy = {"torch", "sklearn", "onnxruntime", "numpy", "transformers", "keras"}
found = {"import": sorted(heavy & set(sys.modules))}
ecolyzer_otel.instrument()
found["instrument"] = sorted(heavy & set(sys.modules))
ecolyzer_otel.uninstrument()
ecolyzer_otel.start(port=0, sensors="modelled")
found["start"] = sorted(heavy & set(sys.modules))

counts = {}
def counted(name):
    before = sum(counts.values())
    assert ecolyzer_otel.flush(60)
    now = ecolyzer_otel.counts()
    assert now["served"] == now["accounted"] + now["dropped"] + now["pending"], now
    assert now["dropped"] == now["pending"] == 0, now
    counts[name] = now["served"] - before

from sklearn.linear_model import LogisticRegression
model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
for _ in range(3):
    model.predict([[0.5]])
counted("sklearn")
import torch
net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
for _ in range(4):
    net(torch.ones(1, 2))
counted("torch")
import magika
reader = magika.Magika()
for _ in range(5):
    reader.identify_bytes(b"import os\\nprint(os.getcwd())\\n" * 30)
counted("onnxruntime")
found["counts"] = counts
ecolyzer_otel.stop()
found["again"] = ecolyzer_otel.counts()["served"]
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed here; make test installs it"
)
def test_no_framework_is_imported_for_the_user_and_a_late_import_is_patched() -> None:
    assert script(FRAMEWORKS) == {
        "import": [], "instrument": [], "start": [], "again": 0,
        "counts": {"sklearn": 3, "torch": 4, "onnxruntime": 5},
    }  # fmt: skip


# Spans.

SPANS = """
import json, sys, time, urllib.request
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import ecolyzer_otel
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)
options = {"port": 0, "sensors": "replay:" + sys.argv[1], "sampling_period": 0.02, "zone": "FR"}
factors = {"embodied": "server=1000", "lifetime": "4", "reserved": 0.5, "market_factor": 20, "market_source": "GO"}
running = ecolyzer_otel.start(pue=1.2, wue=0.3, **factors, **options)
X, Y = make_classification(n_samples=300, n_features=8, random_state=3)
model = LogisticRegression().fit(X, Y)
calls = []
def call(given):
    start = time.time_ns()
    try:
        model.predict(given)
    except ValueError:
        pass
    calls.append([start, time.time_ns()])
with trace.get_tracer("app").start_as_current_span("parent") as parent:
    call(X)
    current = trace.get_current_span() is parent
call(X[:, :2])
call(X[:5])
assert ecolyzer_otel.flush(60)

def scrape(accept):
    request = urllib.request.Request(running.url, headers={"Accept": accept})
    return urllib.request.urlopen(request).read().decode()

spans = [{"name": s.name, "kind": s.kind.name, "start": s.start_time, "end": s.end_time,
          "parent": s.parent and format(s.parent.span_id, "016x"), "id": format(s.context.span_id, "016x"),
          "trace": format(s.context.trace_id, "032x"), "status": s.status.status_code.name,
          "attributes": dict(s.attributes)} for s in memory.get_finished_spans()]
print(json.dumps({"spans": spans, "calls": calls, "current": current, "classic": scrape("text/plain"),
                  "openmetrics": scrape("application/openmetrics-text; version=1.0.0")}))
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Any:
    result = script(SPANS, str(recording(tmp_path_factory.mktemp("spans") / "r.json")))
    result["requests"] = sorted(
        (span for span in result["spans"] if span["name"] != "parent"), key=lambda span: span["start"]
    )
    return result


def test_every_call_is_one_internal_span_named_by_operation_and_model(traced: Any) -> None:
    assert [(one["name"], one["kind"]) for one in traced["requests"]] == [
        ("predict LogisticRegression", "INTERNAL")
    ] * 3


def test_a_span_is_the_child_of_the_callers_span_and_is_never_current(traced: Any) -> None:
    (parent,) = (span for span in traced["spans"] if span["name"] == "parent")
    assert [one["parent"] for one in traced["requests"]] == [parent["id"], None, None]
    assert traced["requests"][0]["trace"] == parent["trace"]
    assert traced["current"]


def test_a_span_has_the_times_of_the_call(traced: Any) -> None:
    for span, (start, end) in zip(traced["requests"], traced["calls"], strict=True):
        # Within the call, but for the steps of the clock between two looks at it.
        assert start - 1_000_000 <= span["start"] < span["end"] <= end + 1_000_000


def test_a_span_tells_what_ran_and_what_it_cost(traced: Any) -> None:
    told = traced["requests"][0]["attributes"]
    fixed = {
        "ecolyzer.framework": "sklearn", "ecolyzer.operation": "predict", "ecolyzer.device": "cpu",
        "ecolyzer.batch.size": 300, "ecolyzer.model.name": "LogisticRegression", "ecolyzer.model.parameters": 9,
        "ecolyzer.model.effective_parameters": 9, "ecolyzer.model.dtype": "float64",
        "ecolyzer.model.quantization_factor": 1, "ecolyzer.energy.method": "measured",
        "ecolyzer.energy.cpu_method": "measured", "ecolyzer.thermal.celsius": 51.0,
        "ecolyzer.thermal.max_celsius": 51.0, "ecolyzer.grid.zone": "FR", "ecolyzer.pue": 1.2,
    }  # fmt: skip
    assert {key: told.get(key) for key in fixed} == fixed
    assert told["ecolyzer.energy.basis"] in ("learned", "activity")
    active, idle = told["ecolyzer.energy.active_joules"], told["ecolyzer.energy.idle_joules"]
    assert active > 0
    assert idle > 0
    joules = told["ecolyzer.energy.joules"]
    assert joules == pytest.approx(active + idle)
    assert joules == pytest.approx(told["ecolyzer.energy.cpu_joules"] + told["ecolyzer.energy.dram_joules"])
    assert 0 < told["ecolyzer.energy.uncertainty_joules"] <= active + idle
    place = resolve_place("FR", SiteSettings(pue=1.2, wue=0.3))
    grams = joules * 1.2 * place.grams_per_kwh / 3.6e6
    assert told["ecolyzer.grid.grams_per_kwh"] == place.grams_per_kwh
    assert told["ecolyzer.co2e.operational_grams"] == pytest.approx(grams)
    assert told["ecolyzer.water.onsite_liters"] == pytest.approx(joules * 0.3 / 3.6e6)
    assert told["ecolyzer.water.offsite_liters"] == pytest.approx(joules * 1.2 * place.ewif / 3.6e6)
    assert told["ecolyzer.ess"] == pytest.approx(9e-6 / grams)
    assert told["ecolyzer.item.ess"] == pytest.approx(300 * 9e-6 / grams)
    assert told["ecolyzer.co2e.market_grams"] == pytest.approx(joules * 1.2 * 20 / 3.6e6)
    (span,) = [one for one in traced["requests"] if one["attributes"]["ecolyzer.batch.size"] == 300][:1]
    seconds = (span["end"] - span["start"]) / 1e9
    made = 1e6 * 0.5 * seconds / (4 * 365 * 86400)
    shares = [made / meters for meters in range(1, 9)]  # of the meters on the host, each has its part
    assert any(told["ecolyzer.co2e.embodied_grams"] == pytest.approx(one, rel=0.01, abs=1e-9) for one in shares)
    assert told["ecolyzer.co2e.grams"] == pytest.approx(grams + told["ecolyzer.co2e.embodied_grams"])
    assert told["ecolyzer.sci.request_grams"] == told["ecolyzer.co2e.grams"]
    energy = told["ecolyzer.energy.uncertainty_joules"] / joules
    assert told["ecolyzer.co2e.uncertainty_grams"] == pytest.approx(grams * math.hypot(energy, place.uncertainty))
    low, high = told["ecolyzer.water.low_liters"], told["ecolyzer.water.high_liters"]
    assert low < told["ecolyzer.water.liters"] < high
    assert high / low > place.water_high / place.water_low * 0.8


def test_spans_and_metrics_tell_the_same_joules(traced: Any) -> None:
    scrape = Scrape(traced["classic"])
    for kind in ("active", "idle"):
        told = sum(one["attributes"][f"ecolyzer.energy.{kind}_joules"] for one in traced["requests"])
        assert told == pytest.approx(scrape.total("ecolyzer_energy_joules_total", share=kind))
    assert sum(one["attributes"]["ecolyzer.co2e.grams"] for one in traced["requests"]) == pytest.approx(
        scrape.total("ecolyzer_co2e_grams_total")
    )


def test_an_exception_of_the_call_is_an_error_with_its_type(traced: Any) -> None:
    assert [one["status"] for one in traced["requests"]] == ["UNSET", "ERROR", "UNSET"]
    assert [one["attributes"].get("error.type") for one in traced["requests"]] == [None, "ValueError", None]


def test_exemplars_point_at_exported_spans(traced: Any) -> None:
    known = {(one["trace"], one["id"]) for one in traced["requests"]}
    found: dict[str, set[tuple[str, str]]] = {}
    for family in parse_openmetrics(traced["openmetrics"]):
        for sample in family.samples:
            if sample.exemplar is not None:
                labels = sample.exemplar.labels
                found.setdefault(family.name, set()).add((labels["trace_id"], labels["span_id"]))
    assert set(found) == {
        "ecolyzer_request_energy_joules", "ecolyzer_request_co2e_grams", "ecolyzer_request_duration_seconds",
    }  # fmt: skip
    assert all(ids and ids <= known for ids in found.values())


# The app's own MeterProvider.

PROVIDER = """
import json, sys, threading, time, urllib.request
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import REGISTRY, generate_latest
import ecolyzer_otel
from sklearn.linear_model import LogisticRegression

provider = MeterProvider(metric_readers=[PrometheusMetricReader()])
options = {"port": 0, "sensors": "replay:" + sys.argv[1], "sampling_period": 0.02}
running = ecolyzer_otel.start(meter_provider=provider, **options)
model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
for _ in range(20):
    model.predict([[0.5]] * 4)
assert ecolyzer_otel.flush(60)
ours = urllib.request.urlopen(running.url).read().decode()
theirs = generate_latest(REGISTRY).decode()
print(json.dumps({"ours": ours, "theirs": theirs}))
"""


@pytest.mark.slow
def test_the_apps_own_provider_gives_the_same_names_labels_and_values(tmp_path: Path) -> None:
    texts = script(PROVIDER, str(recording(tmp_path / "r.json")))

    def values(text: str) -> dict[tuple[str, Labels], float]:
        return {
            (
                one.name,
                frozenset((key, value) for key, value in one.labels.items() if not key.startswith("otel_")),
            ): (one.value)
            for one in Scrape(text).samples
            if one.name.startswith("ecolyzer_") and not one.name.endswith("_created")
        }

    ours, theirs = values(texts["ours"]), values(texts["theirs"])
    settled = (*(name for name, _ in ours if name.startswith(("ecolyzer_request", "ecolyzer_energy"))),)
    assert settled
    assert {key for key in ours if key[0] in settled} <= theirs.keys()
    assert {name for name, _ in theirs} == {name for name, _ in ours}
    # What goes on by itself between two scrapes may differ in value, and in nothing else.
    moving = (
        "ecolyzer_device_", "ecolyzer_meter_cpu", "ecolyzer_sensor_last", "ecolyzer_settlement_lag", "ecolyzer_ess"
    )  # fmt: skip
    assert theirs.keys() == ours.keys()
    for key, value in ours.items():
        if not key[0].startswith(moving):
            assert theirs[key] == pytest.approx(value), key


def test_labels_of_a_request_are_those_of_the_contract(scraped: Scrape) -> None:
    (one, *_) = scraped.find("ecolyzer_energy_joules_total")
    assert set(one.labels) == {*REQUEST_LABELS, "component", "share"}


def test_a_service_without_a_tracer_provider_is_measured_too(scraped: Scrape) -> None:
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert scraped.total("ecolyzer_energy_joules_total") > 0


FORK = """
import json, os, sys, time
import ecolyzer_otel
from sklearn.linear_model import LogisticRegression
ecolyzer_otel.start(port=0, sensors="modelled")
model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
model.predict([[0.5]])
reading, writing = os.pipe()
child = os.fork()
for _ in range(2 if child == 0 else 3):
    model.predict([[0.5]])
assert ecolyzer_otel.flush(60)
told = ecolyzer_otel.counts()
if child == 0:
    os.write(writing, json.dumps(told).encode())
    os._exit(0)
os.waitpid(child, 0)
print(json.dumps({"child": json.loads(os.read(reading, 1000)), "parent": told}))
"""


@pytest.mark.slow
def test_a_forked_child_measures_its_own_calls_and_the_parent_its_own() -> None:
    told = script(FORK)
    assert (told["child"]["accounted"], told["parent"]["accounted"]) == (2, 4)


FORKED = """
import json, os, sys, time, urllib.request
import ecolyzer_otel
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
X, Y = make_classification(n_samples=50, n_features=4, random_state=3)
model = LogisticRegression().fit(X, Y)
running = ecolyzer_otel.start(port=0, sensors="modelled")
model.predict(X)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        for _ in range(5): model.predict(X)
        sys.exit(0)
    children.append(child)
model.predict(X)
statuses = [os.waitpid(child, 0)[1] for child in children]
names = ("ecolyzer_requests_total", "ecolyzer_unsettled_requests_total", "ecolyzer_dropped_requests_total")
def look():
    text = urllib.request.urlopen(running.url).read().decode()
    return {n: sum(float(l.rpartition(" ")[2]) for l in text.splitlines() if l.startswith(n + "{")) for n in names}
deadline = time.monotonic() + 60
while sum(look().values()) < 17 and time.monotonic() < deadline:
    time.sleep(0.1)
time.sleep(1.0)
counted = look()
ecolyzer_otel.stop()
print(json.dumps({"statuses": statuses, "counted": list(counted.values())}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's")
def test_what_is_forked_after_start_reports_to_the_same_meter() -> None:
    assert script(FORKED) == {"statuses": [0, 0, 0], "counted": [17, 0, 0]}
