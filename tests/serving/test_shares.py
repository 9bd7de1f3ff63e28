"""Where the joules of a known counter go, with one worker and with many, with one meter and with two."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.waiting import until

from .conftest import Running, recording

WATTS, IDLE, SECONDS = 40.0, 10.0, 7.0


def until_still(service: Running, began: float, seconds: float) -> None:
    """The recording is over, and the meter has closed its last interval."""
    time.sleep(max(0.0, began + seconds + 3.5 - time.monotonic()))


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_shares_close_with_any_number_of_workers(serve, tmp_path, heavy_file, workers):
    """The double-count factor is 1.000: what all workers' requests are charged is what one counter measured."""
    file = recording(tmp_path / "cpu.json", WATTS, SECONDS, IDLE)
    command = ["gunicorn", "-b", "127.0.0.1:PORT", "-w", str(workers), "--no-control-socket", "app:wsgi"]
    began = time.monotonic()
    service = serve(command, env={"ECOLYZER_SENSORS": f"replay:{file}", "MODEL_FILE": str(heavy_file)})
    sent = service.wait_until_up()
    while time.monotonic() < began + SECONDS - 1.5:
        sent += service.load(16, threads=8)
    metrics = service.settled(sent)
    until_still(service, began, SECONDS)
    metrics = service.metrics()
    assert metrics.accounted == metrics.settled == sent
    assert len(service.workers) >= min(workers, 2)

    shares = metrics.shares()
    measured = WATTS * SECONDS
    # The first reading comes up to a sampling period after the recording began.
    assert sum(shares.values()) == pytest.approx(measured, rel=0.02)
    assert shares["pending"] == 0
    # An interval at rest may reach over the end of the recording.
    assert shares["idle"] == pytest.approx(measured * IDLE / WATTS, rel=0.06)
    active = metrics.total("ecolyzer_energy_joules_total", 'share="active"')
    idle = metrics.total("ecolyzer_energy_joules_total", 'share="idle"')
    assert active / shares["requests"] == pytest.approx(1.0, abs=1e-6)
    assert idle <= shares["idle"]
    assert metrics.total("ecolyzer_request_energy_joules_sum") == pytest.approx(active + idle, rel=1e-9)
    # Theirs is the larger part of what the service did, and leaves something to the web server around them.
    assert shares["requests"] > shares["process"] > 0


LOOP = """
import sys, time
from model import predict
import ecolyzer_otel
end = time.monotonic() + float(sys.argv[1])
count = 0
while time.monotonic() < end:
    predict()
    count += 1
assert ecolyzer_otel.flush(60)
print("made", count, flush=True)
time.sleep(240)
"""


def test_two_meters_on_one_host_do_not_charge_it_twice_and_advise_the_agent(serve, tmp_path, heavy_file):
    file = recording(tmp_path / "cpu.json", WATTS, SECONDS, IDLE)
    env = {"ECOLYZER_SENSORS": f"replay:{file}", "MODEL_FILE": str(heavy_file)}
    began = time.monotonic()
    services = [serve(["python", "-c", LOOP, "4"], env=env) for _ in range(2)]
    for service in services:
        until(lambda service=service: "made" in service.output, service.output)
    until_still(services[1], began + 0.5, SECONDS)
    found = [service.metrics() for service in services]
    active = [one.total("ecolyzer_energy_joules_total", 'share="active"') for one in found]
    idle = [one.total("ecolyzer_energy_joules_total", 'share="idle"') for one in found]
    measured = WATTS * SECONDS
    # Both worked alike, so that each gets about a half; both together no more than there was.
    assert sum(active) <= (measured - measured * IDLE / WATTS) * 1.02
    assert 0.5 < active[0] / active[1] < 2.0
    assert sum(idle) <= measured * IDLE / WATTS
    assert sum(idle) > 0
    for one, service in zip(found, services, strict=True):
        assert one.total("ecolyzer_host_meters") == 2
        assert "one agent for all services (ecolyzer agent)" in service.output
        assert service.output.count("meters run on this host") == 1, "said once"


def test_what_one_meter_does_not_know_of_is_host(serve, tmp_path, heavy_file):
    """A process of the same host that nobody measures keeps its own part of the joules."""
    file = recording(tmp_path / "cpu.json", WATTS, SECONDS)
    env = {"ECOLYZER_SENSORS": f"replay:{file}", "MODEL_FILE": str(heavy_file)}
    began = time.monotonic()
    measured = serve(["python", "-c", LOOP, "4"], env=env)
    serve(["python", "-c", LOOP.replace("import ecolyzer_otel", "").replace("assert", "#"), "4"], front="", env=env)
    until_still(measured, began, SECONDS)
    shares = measured.metrics().shares()
    assert shares["host"] > 0.5 * shares["requests"] > 0


def test_the_first_request_of_a_plain_service_has_energy(serve):
    """Its meter starts after it: counters read before it cover it all the same."""
    service = serve(["waitress-serve", "--listen=127.0.0.1:PORT", "app:wsgi"], front="opentelemetry-instrument")
    service.settled(service.wait_until_up())
    assert Path(service.out).exists()
