"""What is counted and charged under the launcher, read back from ``/metrics`` and from exported spans."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from pathlib import Path

import pytest
from support.scrape import get
from support.waiting import until

from .conftest import ENGINE, seconds_until_gone

HOLD = "\nimport ecolyzer_otel; assert ecolyzer_otel.flush(60); print('done', flush=True); time.sleep(240)"


def test_known_calls_from_four_threads_are_counted_exactly_and_add_up(launch):
    code = (
        ENGINE
        + """
def work():
    for n in range(60):
        engine.infer(0.002)
        try: engine.fail()
        except KeyError: pass
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
"""
        + HOLD
    )
    service = launch(code, "--zone", "FR", env={"OTEL_SERVICE_NAME": "shop"})
    service.wait_for("done")
    total = service.scrape().total

    assert total("ecolyzer_requests_total", 'operation="infer"', 'status="ok"', 'service="shop"') == 240
    assert total("ecolyzer_requests_total", 'operation="fail"', 'status="error"') == 240
    assert total("ecolyzer_requests_total") == 480
    assert total("ecolyzer_pending_requests") == 0
    assert total("ecolyzer_unsettled_requests_total") + total("ecolyzer_dropped_requests_total") == 0
    active = total("ecolyzer_energy_joules_total", 'share="active"')
    idle = total("ecolyzer_energy_joules_total", 'share="idle"')
    assert active > 0
    assert active == pytest.approx(total("ecolyzer_device_energy_joules_total", 'share="requests"'), rel=1e-6)
    assert idle <= total("ecolyzer_device_energy_joules_total", 'share="idle"') * (1 + 1e-9)
    # Grams and litres by hand: France, machine only (PUE 1, WUE 0).
    grams = (active + idle) * 44.18 / 3.6e6
    assert total("ecolyzer_co2e_grams_total") == pytest.approx(grams, rel=1e-6)
    assert total("ecolyzer_water_liters_total", "offsite") == pytest.approx(
        (active + idle) / 3.6e6 * 3.6737, rel=1e-4
    )
    infer = total("ecolyzer_co2e_grams_total", 'operation="infer"') + total("ecolyzer_co2e_grams_total", '"fail"')
    assert total("ecolyzer_ess", 'per="request"') == pytest.approx(1.0 * 480 / infer, rel=1e-6)


def test_the_last_requests_of_a_short_script_are_settled_on_their_spans(launch):
    service = launch(
        ENGINE + "time.sleep(0.4)\nfor _ in range(20): engine.infer()", env={"OTEL_TRACES_EXPORTER": "console"}
    )
    assert service.wait() == 0
    spans = [json.loads(text) for text in re.findall(r"^\{.*?^\}", service.stdout, re.S | re.M)]
    assert len(spans) == 20
    assert {span["name"] for span in spans} == {"infer engine"}
    assert {span["attributes"]["ecolyzer.energy.method"] for span in spans} <= {"measured", "modelled"}
    for span in spans:
        assert span["attributes"]["ecolyzer.energy.joules"] == pytest.approx(
            span["attributes"]["ecolyzer.energy.active_joules"] + span["attributes"]["ecolyzer.energy.idle_joules"]
        )


def test_sigterm_settles_the_last_requests_too(launch):
    # Short sleeps: a signal that comes just before a system call is handled in Python when that returns.
    code = ENGINE + "for _ in range(20): engine.infer()\nprint('up', flush=True)\nwhile True: time.sleep(0.1)"
    service = launch(code, env={"OTEL_TRACES_EXPORTER": "console"})
    service.wait_for("up")
    service.process.terminate()
    assert service.wait() == -15
    assert service.stdout.count('"ecolyzer.co2e.grams"') == 20


def test_an_exit_without_goodbye_loses_at_most_one_report(launch):
    code = (
        ENGINE
        + """
if os.fork() == 0:
    for _ in range(60): engine.infer(); time.sleep(0.02)
    os._exit(0)
os.wait()
print("done", flush=True)
time.sleep(240)
"""
    )
    service = launch(code)
    service.wait_for("done")
    until(lambda: service.total("ecolyzer_requests_total") >= 50, service.metrics)
    time.sleep(1.0)
    # A report holds 0.1 s of calls 20 ms apart; twice that where the machine is slow.
    assert 50 <= service.total("ecolyzer_requests_total") <= 60


@pytest.mark.parametrize("ratio", ["1", "0"])
def test_the_route_is_known_at_every_sampling_rate(launch, ratio):
    pytest.importorskip("uvicorn")
    code = (
        ENGINE
        + """
import asyncio, socket, urllib.request
import uvicorn
from fastapi import FastAPI
app = FastAPI()

@app.get("/items/{number}")
def item(number: int):
    return engine.infer()

sock = socket.socket(); sock.bind(("127.0.0.1", 0)); port = sock.getsockname()[1]
server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
threading.Thread(target=lambda: asyncio.run(server.serve([sock])), daemon=True).start()
while not server.started: time.sleep(0.01)
for n in range(10):
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/items/{n}").read() == b'"answer"'
"""
        + HOLD
    )
    env = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
    service = launch(code, env=env)
    service.wait_for("done")
    assert service.total("ecolyzer_requests_total", 'route="/items/{number}"') == 10


def test_exemplars_reach_an_openmetrics_scrape_only_for_exported_spans(launch):
    def scrape(service) -> str:
        return get(service.metrics_url(), "application/openmetrics-text; version=1.0.0")

    code = ENGINE + "for _ in range(5): engine.infer()" + HOLD
    exported = launch(code, env={"OTEL_TRACES_EXPORTER": "console"})
    silent = launch(code)
    exported.wait_for("done")
    silent.wait_for("done")
    found = set(re.findall(r'# \{trace_id="([0-9a-f]{32})",span_id="([0-9a-f]{16})"\}', scrape(exported)))
    assert found
    assert "trace_id" not in scrape(silent)


class Rapl(threading.Thread):
    """A powercap tree whose counters a thread moves at 40 W and 5 W, as the kernel would."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self.zones = {}
        for zone, name, watts in (("intel-rapl:0", "package-0", 40), ("intel-rapl:0/intel-rapl:0:0", "dram", 5)):
            folder = root / "class" / "powercap" / zone
            folder.mkdir(parents=True)
            (folder / "name").write_text(name + "\n")
            (folder / "max_energy_range_uj").write_text("262143328850\n")
            (folder / "energy_uj").write_text("1000000\n")
            self.zones[folder / "energy_uj"] = watts
        # sysfs lists subzones beside their parents as well
        (root / "class" / "powercap" / "intel-rapl:0:0").symlink_to("intel-rapl:0/intel-rapl:0:0")
        self.ended = threading.Event()

    def run(self) -> None:
        start = time.monotonic()
        while not self.ended.wait(0.002):
            for path, watts in self.zones.items():
                with path.open("r+b", buffering=0) as file:
                    file.write(b"%d\n" % (1_000_000 + int((time.monotonic() - start) * watts * 1e6)))


def test_rapl_is_read_through_the_powercap_tree(launch, tmp_path):
    rapl = Rapl(tmp_path / "sys")
    rapl.start()
    try:
        code = ENGINE + "time.sleep(1); end = time.time() + 2\nwhile time.time() < end: engine.infer(0.01)" + HOLD
        service = launch(code, "--sysfs", str(tmp_path / "sys"))
        service.wait_for("done")
        assert "RAPL package-0, dram-0 |" in service.stderr
        for device, watts in (("package-0", 40), ("dram-0", 5)):
            # Of the last reading: the thread that moves the counters does so in leaps where others use the CPUs.
            until(
                lambda device=device, watts=watts: (
                    service.total("ecolyzer_device_power_watts", device) == pytest.approx(watts, rel=0.25)
                ),
                service.metrics,
            )
            part = {k: v for k, v in service.metrics().items() if f'device="{device}"' in k}
            measured = [v for k, v in part.items() if k.startswith("ecolyzer_device_energy_joules_total")]
            assert sum(measured) > watts * 1.5
            assert {re.search('method="(.*?)"', k)[1] for k in part if "method=" in k} == {"measured"}
        assert service.total("ecolyzer_energy_joules_total", 'component="dram"') > 0
    finally:
        rapl.ended.set()


def test_the_temperature_of_the_package_is_on_the_spans_and_in_the_metrics(launch, tmp_path):
    rapl = Rapl(tmp_path / "sys")
    chip = tmp_path / "sys" / "class" / "hwmon" / "hwmon0"
    chip.mkdir(parents=True)
    for name, text in (("name", "coretemp"), ("temp1_label", "Package id 0"), ("temp1_input", "61500")):
        (chip / name).write_text(text + "\n")
    rapl.start()
    try:
        code = ENGINE + "time.sleep(1)\nfor _ in range(5): engine.infer(0.01)" + HOLD
        options = ("--sysfs", str(tmp_path / "sys"))
        service = launch(code, *options, env={"OTEL_TRACES_EXPORTER": "console"})
        service.wait_for("done")
        assert service.total("ecolyzer_device_temperature_celsius", 'device="package-0"') == 61.5
        service.process.terminate()
        service.wait()
        assert service.stdout.count('"ecolyzer.thermal.celsius": 61.5') == 5
        assert service.stdout.count('"ecolyzer.thermal.max_celsius": 61.5') == 5
    finally:
        rapl.ended.set()


def test_a_peer_that_talks_nonsense_is_cut_off_with_a_reason_and_harms_nobody(launch):
    code = (
        ENGINE
        + """
import socket
for nonsense in (b"GET / HTTP/1.1\\r\\n\\r\\n", b"\\0\\0\\0\\2ab", b"\\xff" * 64, b"\\0\\0\\0\\1\\xc0"):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(5)
    peer.connect(os.environ["ECOLYZER_AGENT_SOCKET"])
    peer.sendall(nonsense)
    assert peer.recv(100) == b"", "the connection was kept"
for _ in range(5): engine.infer()
"""
        + HOLD
    )
    service = launch(code)
    service.wait_for("done")
    assert service.total("ecolyzer_requests_total") == 5
    assert service.stderr.count("was disconnected: a frame") == 4


def test_spans_and_metrics_go_to_a_collector_when_one_is_configured(launch):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies[self.path].append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_SERVICE_NAME": "shop",
        }
        service = launch(ENGINE + "time.sleep(1)\nfor _ in range(12): engine.infer()\ntime.sleep(0.5)", env=env)
        meter = service.meter()
        assert service.wait() == 0, service.stderr
        seconds_until_gone(meter)
        collector.shutdown()
    spans = [
        span
        for body in bodies["/v1/traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len([span for span in spans if span.name == "infer engine"]) == 12
    last = ExportMetricsServiceRequest.FromString(bodies["/v1/metrics"][-1]).resource_metrics[0]
    assert {a.key: a.value.string_value for a in last.resource.attributes}["service.name"] == "shop"
    by_name = {metric.name: metric for scope in last.scope_metrics for metric in scope.metrics}
    assert sum(point.as_double or point.as_int for point in by_name["ecolyzer_requests"].sum.data_points) == 12
    joules = sum(span_attribute(span, "ecolyzer.energy.joules") for span in spans)
    total = sum(point.as_double for point in by_name["ecolyzer_energy_joules"].sum.data_points)
    assert total == pytest.approx(joules, rel=1e-9)


def span_attribute(span, key: str) -> float:
    return next(attribute.value.double_value for attribute in span.attributes if attribute.key == key)


def test_a_service_restarted_at_once_gets_the_same_port(launch):
    code = ENGINE + "engine.infer(); print('up', flush=True); time.sleep(240)"
    first = launch(code)
    port = re.search(r":(\d+)/metrics", first.metrics_url())[1]
    first.wait_for("up")
    first.process.terminate()
    first.wait()
    second = launch(code, "--port", port)
    assert f":{port}/" in second.metrics_url()
    assert "in use" not in second.stderr
