"""Figures from a real Prometheus that scrapes real meters."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from monitoring.tools import tool
from support.ports import free_port
from support.processes import Program
from support.waiting import AGES, until

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.http import MetricsServer
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.report.figures import tables
from ecolyzer_otel.report.from_prometheus import from_prometheus, step_seconds
from ecolyzer_otel.report.observations import Observations
from ecolyzer_otel.report.prometheus import Prometheus

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
        self.server = MetricsServer(self.store, host="127.0.0.1", port=port, health=lambda: (True, {}))
        self.server.start()

    def work(self, joules: float, labels: tuple[str, ...] = L, requests: int = 1) -> None:
        with self.store.transaction():
            self.store.counter(Metric.REQUESTS, (*labels, "ok")).inc(requests)
            self.store.counter(Metric.ENERGY, (*labels, "gpu", "active")).inc(joules)
            self.store.counter(Metric.DEVICE_ENERGY, ("gpu0", "gpu", "measured", "requests")).inc(joules)
            self.store.counter(Metric.METER_CPU, ()).inc(0.01)
            for _ in range(requests):
                self.store.histogram(Metric.REQUEST_ENERGY, labels[:5]).observe(joules / requests)


@dataclass
class Scraped:
    server: Prometheus
    begin: float
    middle: float
    end: float


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """One meter that restarts, with a model that comes late; and one that ran long before it was scraped."""
    program = tool("prometheus")
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
            program, f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{own}",
        ],
        stdout=log,
        stderr=log,
    )  # fmt: skip
    running = Program("prometheus", process, folder / "log")
    server = Prometheus(f"http://127.0.0.1:{own}", timeout_seconds=60.0)
    meter: Meter | None = None
    try:
        scraped_until(lambda: bool(server.query("up", time.time())), running)
        begin = time.time() - 1.0
        meter = Meter(port)
        meter.work(100.0)  # before its first scrape
        seen(running, server, port, "resnet50", 1)
        for _ in range(3):
            meter.work(10.0)
        meter.work(70.0, LATE, requests=7)  # a series whose first value is all there is
        seen(running, server, port, "late", 7)
        seen(running, server, port, "resnet50", 4)
        middle = time.time()
        meter.server.stop()
        meter = Meter(port)  # the restart: counters begin anew, and are soon above what they were
        meter.work(500.0, requests=9)
        old.work(2000.0, requests=2)
        seen(running, server, port, "resnet50", 9)
        seen(running, server, old.server.port, "resnet50", 2)
        yield Scraped(server, begin, middle, time.time())
    finally:
        process.kill()
        process.wait()
        log.close()
        for one in (meter, old):
            if one is not None:
                one.server.stop()


def scraped_until(true: Callable[[], bool], running: Program) -> None:
    def found() -> bool:
        try:
            return true()
        except ConfigError:
            return False

    until(found, "Prometheus did not scrape", running, seconds=AGES, pause=0.1)


def seen(running: Program, server: Prometheus, port: int, model: str, requests: float) -> None:
    name = f'ecolyzer_requests_total{{instance="127.0.0.1:{port}",model="{model}"}}'
    scraped_until(lambda: [one.points[-1][1] for one in server.query(name, time.time())] == [requests], running)


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
    assert any("There are no readings before" in note for note in notes)


def test_labels_that_kubernetes_pushed_aside_are_ours_again(scraped: Scraped) -> None:
    assert read(scraped, 3600.0).by(Metric.REQUESTS, "service") == {("shop",): 22}
    assert not read(scraped, 3600.0, service="kubernetes-service").totals[Metric.REQUESTS.stem]


def test_a_selector_chooses_meters(scraped: Scraped) -> None:
    with pytest.raises(ConfigError, match=r'holds no ecolyzer metrics .* with {job="other"}; give another period'):
        read(scraped, 3600.0, selector='job="other"')
    assert read(scraped, 3600.0, selector='job="meters"').by(Metric.REQUESTS, "service") == {("shop",): 22}


def test_a_period_before_all_data_says_so(scraped: Scraped) -> None:
    with pytest.raises(ConfigError, match=r"holds no ecolyzer metrics from .* to .*; give another period"):
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
