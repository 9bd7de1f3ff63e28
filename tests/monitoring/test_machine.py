"""The played machine, as a meter sees it: its sensors, their faults, and that they come back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from measured import Scrape, get
from prometheus_client.samples import Sample
from support.environment import clean
from support.ports import free_port
from support.processes import Program
from support.waiting import AGES, PATIENCE, until

from .machine import CPU_LIMIT_CELSIUS, GPU_LIMIT_CELSIUS, Machine

pytest.importorskip("pynvml")

SERVICE = """
import time, ecolyzer_otel
while True:
    with ecolyzer_otel.request("worker"):
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass
    time.sleep(0.03)
"""


class Meter:
    """The page of a started meter."""

    def __init__(self, port: int, service: Program) -> None:
        self._service = service
        self._url = f"http://127.0.0.1:{port}/metrics"

    def when(self, true: Callable[[Scrape], object], what: str) -> Scrape:
        pages: list[Scrape] = []

        def found() -> bool:
            pages[:] = [Scrape(get(self._url))]
            return bool(true(pages[0]))

        until(
            found,
            lambda: f"{what}: {told(pages[0]) if pages else 'no page'}",
            self._service,
            seconds=AGES,
            pause=0.2,
        )
        return pages[0]


def told(page: Scrape) -> list[Sample]:
    return [one for one in page.samples if one.name.startswith(("ecolyzer_sensor", "ecolyzer_device"))]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as one:
        yield one


@pytest.fixture
def meter(machine: Machine, tmp_path: Path) -> Iterator[Meter]:
    port = free_port()
    launcher = str(Path(sys.executable).with_name("ecolyzer-instrument"))
    command = [launcher, *machine.options(), "--zone", "FR", "--port", str(port), sys.executable, "-c", SERVICE]
    out = tmp_path / "service.out"
    with out.open("wb") as file:
        running = subprocess.Popen(
            command, env=clean(**machine.environment()), stdin=subprocess.DEVNULL,
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    yield Meter(port, Program("the service", running, out))
    running.terminate()
    running.wait(PATIENCE)


def test_its_sensors_are_read_fail_and_come_back(machine: Machine, meter: Meter):
    page = meter.when(lambda page: page.total("ecolyzer_requests_total") > 20, "requests")
    up = {one.labels["sensor"]: (one.labels["method"], one.value) for one in page.find("ecolyzer_sensor_up")}
    assert up == dict.fromkeys(("package-0", "dram-0", "gpu0"), ("measured", 1.0))
    limits = {one.labels["component"]: one.value for one in page.find("ecolyzer_device_temperature_limit_celsius")}
    assert limits == {"cpu": CPU_LIMIT_CELSIUS, "gpu": GPU_LIMIT_CELSIUS}
    assert 40 < page.total("ecolyzer_device_temperature_celsius", component="cpu") < CPU_LIMIT_CELSIUS
    assert page.total("ecolyzer_device_temperature_celsius", component="gpu") == 46
    assert page.total("ecolyzer_device_power_limit_watts", component="gpu") == 700
    # Not at once: as long as nothing is known of its idle power, it is all taken for idle.
    active = {"component": "cpu", "share": "active"}
    meter.when(lambda page: page.total("ecolyzer_energy_joules_total", **active) > 0, "active joules")
    meter.when(lambda page: page.find("ecolyzer_device_utilization_ratio", component="gpu"), "GPU's utilisation")
    # Of its joules: the power of a single interval has one or two steps of the counter in it.
    measured = "ecolyzer_device_measured_joules_total"
    began = time.monotonic()
    before = meter.when(lambda page: page.find(measured, component="gpu"), "GPU's joules")
    time.sleep(5.0)
    after = meter.when(lambda page: page.find(measured, component="gpu"), "GPU's joules")
    joules = after.total(measured, component="gpu") - before.total(measured, component="gpu")
    assert 41 < joules / (time.monotonic() - began) < 123, "82 W are played"

    machine.throttle(True)
    hot = {"device": "gpu0", "reason": "sw_thermal"}
    meter.when(lambda page: page.total("ecolyzer_device_throttled_seconds_total", **hot) > 0.5, "throttled")
    machine.throttle(False)

    machine.lose_gpu()
    page = meter.when(lambda page: page.total("ecolyzer_sensor_up", sensor="gpu0") == 0, "the GPU is lost")
    assert page.total("ecolyzer_sensor_errors_total", sensor="gpu0") > 0
    assert page.total("ecolyzer_sensor_up") == 2
    machine.find_gpu()
    meter.when(lambda page: page.total("ecolyzer_sensor_up", sensor="gpu0") == 1, "the GPU is back")
