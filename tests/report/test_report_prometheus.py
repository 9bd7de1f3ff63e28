"""Figures from a real Prometheus that scrapes real meters, and from servers that answer oddly."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ecolyzer_otel.errors import ConfigError
from ecolyzer_otel.names import Metric
from ecolyzer_otel.report.figures import tables
from ecolyzer_otel.report.from_prometheus import from_prometheus, step_seconds
from ecolyzer_otel.report.observations import Observations
from ecolyzer_otel.report.prometheus import Prometheus
from ecolyzer_otel.telemetry.http import MetricsServer
from ecolyzer_otel.telemetry.store import MetricStore

L = ("shop", "resnet50", "torch", "forward", "cuda:0", "/classify")
LATE = ("shop", "late", "torch", "forward", "cuda:0", "/classify")


class Meter:
    """A store and its page."""

    def __init__(self, port: int = 0, *, joules: float = 0.0, watts: float = 50.0) -> None:
        self.store = MetricStore()
        self.store.gauge(Metric.BUILD_INFO, ("0.1.0",)).set(1)
        self.store.gauge(Metric.PUE, ("FR", "set")).set(1.2)
        self.store.gauge(Metric.GRID_CARBON_INTENSITY, ("FR", "owid")).set(50.0)
        self.store.gauge(Metric.DEVICE_POWER, ("gpu0", "gpu")).set(watts)
        self.store.counter(Metric.METER_CPU, ()).inc(0.5)
        self.work(joules, requests=0)
        self.server = MetricsServer(self.store, "127.0.0.1", port, lambda: (True, {}))
        self.server.start()

    def work(self, joules: float, labels: tuple[str, ...] = L, requests: int = 1) -> None:
        with self.store.transaction():
            self.store.counter(Metric.REQUESTS, (*labels, "ok")).inc(requests)
            self.store.counter(Metric.ENERGY, (*labels, "gpu", "active")).inc(joules)
            self.store.counter(Metric.DEVICE_ENERGY, ("gpu0", "gpu", "measured", "requests")).inc(joules)
            self.store.counter(Metric.METER_CPU, ()).inc(0.01)
            for _ in range(requests):
                self.store.histogram(Metric.REQUEST_ENERGY, labels[:5]).observe(joules / requests)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Scraped:
    server: Prometheus
    begin: float
    middle: float
    end: float


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """One meter that restarts, with a model that comes late; and one that ran long before it was scraped."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not on PATH (Debian: apt install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    port, own = free_port(), free_port()
    old = Meter(joules=9e6)
    config = folder / "prometheus.yml"
    targets = json.dumps([f"127.0.0.1:{port}", f"127.0.0.1:{old.server.port}"])
    # Kubernetes' own labels of these names push ours aside, to exported_service.
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n- job_name: meters\n  static_configs:\n"
        f"  - targets: {targets}\n    labels: {{service: kubernetes-service, container: main}}\n"
    )
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{own}",
        ],
        stdout=log,
        stderr=log,
    )  # fmt: skip
    server = Prometheus(f"http://127.0.0.1:{own}", timeout_seconds=10.0)
    meter: Meter | None = None
    try:
        until(lambda: bool(server.query("up", time.time())), 30.0)
        begin = time.time() - 1.0
        meter = Meter(port)
        meter.work(100.0)  # before its first scrape
        seen(server, port, "resnet50", 1)
        for _ in range(3):
            meter.work(10.0)
        meter.work(70.0, LATE, requests=7)  # a series whose first value is all there is
        seen(server, port, "late", 7)
        seen(server, port, "resnet50", 4)
        middle = time.time()
        meter.server.stop()
        meter = Meter(port)  # the restart: counters begin anew, and are soon above what they were
        meter.work(500.0, requests=9)
        old.work(2000.0, requests=2)
        seen(server, port, "resnet50", 9)
        seen(server, old.server.port, "resnet50", 2)
        yield Scraped(server, begin, middle, time.time())
    finally:
        process.kill()
        process.wait()
        log.close()
        for one in (meter, old):
            if one is not None:
                one.server.stop()


def until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except ConfigError:
            pass
        assert time.monotonic() < deadline, "Prometheus did not scrape in time"
        time.sleep(0.1)


def seen(server: Prometheus, port: int, model: str, requests: float) -> None:
    name = f'ecolyzer_requests_total{{instance="127.0.0.1:{port}",model="{model}"}}'
    until(lambda: [one.points[-1][1] for one in server.query(name, time.time())] == [requests], 20.0)


def read(scraped: Scraped, seconds: float, **options: Any) -> Observations:
    return from_prometheus(scraped.server, scraped.end - seconds, scraped.end, **options)


@pytest.mark.parametrize("seconds", [None, 3600.0, 40_000.0], ids=["seconds", "minutes", "hours"])
def test_restarts_and_late_series_are_counted_in_full(scraped: Scraped, seconds: float | None) -> None:
    """1 + 3 + 7 requests, then 9 after the restart; the old meter's 2, but not what it had before."""
    found = read(scraped, seconds or scraped.end - scraped.begin)
    assert found.by(Metric.REQUESTS, "model") == {("resnet50",): 4 + 9 + 2, ("late",): 7}
    assert found.by(Metric.ENERGY, "model") == pytest.approx({("resnet50",): 130 + 500 + 2000, ("late",): 70})
    histogram = found.totals["ecolyzer_request_energy_joules_count"]
    assert sum(histogram.values()) == 22
    assert sum(found.totals["site_grams"].values()) == pytest.approx(2700 / 3.6e6 * 1.2 * 50.0)


def test_a_period_begins_with_what_was_there(scraped: Scraped) -> None:
    """Nothing of before the period, and the restart within it in full."""
    found = from_prometheus(scraped.server, scraped.middle, scraped.end)
    grown = found.by(Metric.REQUESTS, "model")
    assert (grown[("resnet50",)], grown.get(("late",), 0.0)) == (11.0, 0.0)
    assert not [note for note in found.notes if "left out" in note.text]


def test_what_a_meter_had_before_it_was_first_seen_is_left_out_and_told(scraped: Scraped) -> None:
    notes = [note.text for note in read(scraped, 3600.0).notes]
    assert any("first seen inside the period, with 2.50" in note and "left out" in note for note in notes)
    assert any("There is nothing before" in note for note in notes)


def test_labels_that_kubernetes_pushed_aside_are_ours_again(scraped: Scraped) -> None:
    assert read(scraped, 3600.0).by(Metric.REQUESTS, "service") == {("shop",): 22}
    assert not read(scraped, 3600.0, service="kubernetes-service").totals[Metric.REQUESTS.stem]


def test_a_selector_chooses_meters(scraped: Scraped) -> None:
    with pytest.raises(ConfigError, match=r'holds no ecolyzer metrics .* with {job="other"}; give another time'):
        read(scraped, 3600.0, selector='job="other"')
    assert read(scraped, 3600.0, selector='job="meters"').by(Metric.REQUESTS, "service") == {("shop",): 22}


def test_a_period_before_all_data_says_so(scraped: Scraped) -> None:
    with pytest.raises(ConfigError, match=r"holds no ecolyzer metrics from .* to .*; give another time"):
        from_prometheus(scraped.server, scraped.begin - 7200.0, scraped.begin - 3600.0)


def test_figures_carry_the_numbers_on(scraped: Scraped) -> None:
    total = tables(read(scraped, 3600.0)).total
    assert total.value("requests") == 22
    assert total.value("energy") == pytest.approx(2700.0)
    assert total.amounts["co2e_embodied"].value is None
    assert total.amounts["co2e_embodied"].why == "not configured"


def test_steps_are_hours_for_long_periods() -> None:
    day = 86400.0
    assert [step_seconds(0.0, seconds) for seconds in (20.0, 3600.0, day, 30 * day)] == [2.0, 60.0, 600.0, 3600.0]


class Odd:
    """A server whose answer the test chooses."""

    def __init__(self) -> None:
        self.status, self.body, self.kind = 200, b"{}", "application/json"
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []
        self.answers: Callable[[str, dict[str, list[str]]], Any] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked = parse_qs(parts.query)
                outer.asked.append((parts.path, asked, self.headers.get("Authorization", "")))
                body = outer.body
                if outer.answers is not None:
                    data = {"resultType": "matrix", "result": outer.answers(parts.path, asked)}
                    body = json.dumps({"status": "success", "data": data, "warnings": ["partial"]}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Type", outer.kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def odd() -> Iterator[Odd]:
    made = Odd()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>hello</html>", "is not a Prometheus .*; give the address under which /api/v1/query"),
        (200, b'{"status":"success"}', "is not a Prometheus"),
        (200, b'{"status":"success","data":{"result":[{"metric":7}]}}', "is not a Prometheus"),
        (404, b"not found", r"is not a Prometheus \(HTTP 404\)"),
        (401, b"", "refuses access .HTTP 401.; put a bearer token into ECOLYZER_PROMETHEUS_TOKEN"),
        (403, b"", "refuses access"),
        (422, b'{"status":"error","error":"too many samples\\nmore"}', "422: too many samples.; ask for a shorter"),
        (503, b'{"status":"error","error":"timed out"}', "timed out"),
    ],
)
def test_an_answer_that_is_none_is_one_line_with_a_remedy(odd: Odd, status: int, body: bytes, message: str) -> None:
    odd.status, odd.body = status, body
    with pytest.raises(ConfigError, match=message) as caught:
        from_prometheus(Prometheus(odd.url), 1.7e9, 1.7e9 + 3600)
    assert caught.value.key == "--prometheus"
    assert "\n" not in str(caught.value)


def test_nobody_listens() -> None:
    with pytest.raises(ConfigError, match=r"does not answer .*refused.*; check the address"):
        from_prometheus(Prometheus(f"http://127.0.0.1:{free_port()}"), 0.0, 3600.0)


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = Prometheus(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.2)
        with pytest.raises(ConfigError, match="does not answer"):
            server.query("up", 0.0)


@pytest.mark.parametrize("url", ["localhost:9090", "ftp://x", "", "http://", "http://x:port", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match=r"not an http.s. address"):
        Prometheus(url)


def test_credentials_are_sent_and_never_shown(odd: Odd) -> None:
    secret = odd.url.replace("://", "://ann:s%40cret@") + "/prometheus/?x=1"
    server = Prometheus(secret, token="unused")
    with pytest.raises(ConfigError) as caught:
        server.query("up", 0.0)
    assert odd.asked[0][0] == "/prometheus/api/v1/query"
    assert odd.asked[0][2] == "Basic YW5uOnNAY3JldA=="  # ann:s@cret
    assert "cret" not in str(caught.value)
    assert "ann" not in server.where
    with pytest.raises(ConfigError):
        Prometheus(odd.url, token=" t0ken\n").query("up", 0.0)
    assert odd.asked[1][2] == "Bearer t0ken"


def test_a_redirect_takes_no_credentials_along(odd: Odd) -> None:
    other = Odd()
    try:
        odd.server.RequestHandlerClass.do_GET = lambda self: (  # type: ignore[attr-defined]
            self.send_response(302), self.send_header("Location", other.url + self.path), self.end_headers()
        )  # fmt: skip
        with pytest.raises(ConfigError):
            Prometheus(odd.url, token="t0ken").query("up", 0.0)
        assert other.asked[0][2] == ""
    finally:
        other.server.shutdown()
        other.server.server_close()


def test_the_same_meter_scraped_twice_is_told_loudly(odd: Odd) -> None:
    def answers(path: str, asked: dict[str, list[str]]) -> Any:
        query = asked.get("query", [""])[0]
        if "ecolyzer_build_info" not in query or not path.endswith("query_range"):
            return []
        labels = [{"instance": "a:9465", "job": job, "version": "1"} for job in ("one", "two")]
        return [{"metric": each, "values": [[1.7e9 + 60 * n, "4"] for n in range(1, 61)]} for each in labels]

    odd.answers = answers
    notes = from_prometheus(Prometheus(odd.url), 1.7e9, 1.7e9 + 3600).notes
    severe = [note.text for note in notes if note.severity == "severe"]
    assert severe == [
        "a:9465 is scraped more than once at the same time (instance=a:9465, job=one; instance=a:9465, job=two): "
        "its figures count as often. Choose one with --selector."
    ]
    assert any(note.text == "Prometheus says: partial" for note in notes)


def test_a_resource_limit_of_one_chunk(odd: Odd) -> None:
    """No query asks for more points than Prometheus gives (11 000)."""
    odd.answers = lambda path, asked: (
        [{"metric": {"instance": "a"}, "values": [[float(asked["end"][0]), "1"]]}]
        if "build_info" in asked.get("query", [""])[0] and path.endswith("range")
        else []
    )
    from_prometheus(Prometheus(odd.url), 1.6e9, 1.6e9 + 400 * 86400.0)
    ranges = [asked for path, asked, _ in odd.asked if path.endswith("query_range")]
    points = [(float(one["end"][0]) - float(one["start"][0])) / float(one["step"][0]) for one in ranges]
    assert max(points) <= 1000
    assert max(float(one["end"][0]) for one in ranges) == pytest.approx(1.6e9 + 400 * 86400.0)
