"""A web service under the launcher: routes with and without spans, and no telemetry that nobody sees."""

from __future__ import annotations

import pytest

from .conftest import ENGINE

pytest.importorskip("uvicorn")

WEB = """
import asyncio, socket, urllib.request
import uvicorn

def serve(app):
    sock = socket.socket(); sock.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    threading.Thread(target=lambda: asyncio.run(server.serve([sock])), daemon=True).start()
    while not server.started: time.sleep(0.01)
    return f"http://127.0.0.1:{sock.getsockname()[1]}"

def ask(url):
    assert urllib.request.urlopen(url, timeout=60).read() == b'"answer"'
"""

APP = """
from fastapi import APIRouter, FastAPI
app, below, router = FastAPI(), FastAPI(), APIRouter(prefix="/v1")

@app.get("/items/{number}")
def item(number: int): return engine.infer()

@below.get("/items/{number}")
async def item_below(number: int): return engine.infer()

@router.get("/items/{number}")
async def item_included(number: int): return engine.infer()

app.include_router(router)
app.mount("/below", below)
"""

END = """
import ecolyzer_otel; assert ecolyzer_otel.flush(60)
print("done", flush=True); time.sleep(240)
"""


@pytest.mark.parametrize("exporter", ["none", "console"])
def test_routes_are_the_same_whether_spans_are_exported_or_not(launch, exporter):
    asked = 'url = serve(app)\nfor path in ("items", "below/items", "v1/items"): ask(f"{url}/{path}/7")\n'
    service = launch(ENGINE + WEB + APP + asked + END, env={"OTEL_TRACES_EXPORTER": exporter})
    service.wait_for("done")
    for route in ("/items/{number}", "/below/items/{number}", "/v1/items/{number}"):
        assert service.total("ecolyzer_requests_total", f'route="{route}"') == 1
    assert service.total("ecolyzer_requests_total") == 3
    if exporter == "console":
        service.wait_for('"kind": "SpanKind.SERVER"')
    else:
        assert '"kind"' not in service.stdout


def test_without_an_exporter_the_sdk_is_not_loaded_and_nothing_is_traced(launch):
    look = """
from opentelemetry import metrics, trace
url = serve(app); ask(url + "/items/7")
assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
loaded = [name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.sdk._config",
          "opentelemetry.sdk.metrics", "opentelemetry.sdk._logs", "opentelemetry.instrumentation.fastapi"))]
assert not loaded, loaded
"""
    launch(ENGINE + WEB + APP + look + END).wait_for("done")


@pytest.mark.parametrize("first", ["sdk", "fastapi"])
def test_a_service_that_adds_an_exporter_of_its_own_has_all_spans(launch, first):
    add = """
from opentelemetry import trace
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
"""
    head = add + APP if first == "sdk" else "from fastapi import FastAPI\n" + add + APP
    asked = 'url = serve(app); ask(url + "/items/7")\n'
    service = launch(ENGINE + WEB + head + asked + END)
    service.wait_for("done")
    assert service.total("ecolyzer_requests_total", 'route="/items/{number}"') == 1
    assert service.stdout.count('"name": "GET /items/{number}"') == 1
    assert service.stdout.count('"name": "infer engine"') == 1
    assert '"ecolyzer.energy.joules"' in service.stdout


OWN = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
assert trace.get_tracer_provider() is provider
meters = MeterProvider()
metrics.set_meter_provider(meters)
assert metrics.get_meter_provider() is meters
"""


def test_a_service_that_sets_up_its_own_providers_keeps_them(launch):
    asked = 'url = serve(app); ask(url + "/items/7")\n'
    service = launch(ENGINE + WEB + OWN + APP + asked + END)
    service.wait_for("done")
    assert service.total("ecolyzer_requests_total", 'route="/items/{number}"') == 1
    assert service.stdout.count('"name": "GET /items/{number}"') == 1
    assert service.stdout.count('"name": "infer engine"') == 1
    assert '"ecolyzer.energy.joules"' in service.stdout
    assert "Overriding" not in service.stderr
