"""Checks of time on a quiet machine: how fast the meter comes, goes, comes back and answers, and what a call costs.

    make quiet                       # or: python -m pytest benchmarks/promptness.py (ARGS="-k killed" chooses)

The tests wait for what is to come about, however long a busy machine takes for it; here it has to be in time. What
calls, services and scrapes cost in figures: overhead.py, service.py, scrape.py.
"""

# ruff: noqa: F401, F811 - fixtures are imported, and named as parameters
from __future__ import annotations

import os
import re
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from opentelemetry.sdk.trace import TracerProvider

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from agent.conftest import meter
from launcher.conftest import ENGINE, LAUNCHER, launch, seconds_until_gone
from serving.conftest import agent, model_file, serve
from serving.test_faults import LOAD, METER_IS_UP, result, script
from serving.test_servers import GUNICORN
from support import environment
from support.waiting import until
from telemetry.test_exposition import a_thousand_label_sets

from ecolyzer_otel.call import State, replace_state
from ecolyzer_otel.telemetry.exposition import render
from ecolyzer_otel.wrap import CallSpec, ModelFacts, leaf

environment.use_own()
environment.be_alone()


def seconds_until(condition: Callable[[], Any]) -> float:
    began = time.monotonic()
    until(condition, pause=0.01)
    return time.monotonic() - began


# The meter comes and goes.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_meter_ends_within_three_seconds_of_the_service(launch, number):
    service = launch(ENGINE + "engine.infer(); print('up', flush=True); time.sleep(240)")
    service.wait_for("up")
    meter = service.meter()
    service.process.send_signal(number)
    service.wait()
    assert seconds_until_gone(meter) < 3.0


def test_the_meter_ends_within_three_seconds_of_the_last_that_was_forked(launch):
    code = "engine.infer(); child = os.fork()\nif child: print(child, flush=True); os._exit(0)\ntime.sleep(240)"
    service = launch(ENGINE + code)
    child = int(service.wait_for("\n"))
    service.wait()
    meter = service.meter()
    os.kill(child, signal.SIGKILL)
    assert seconds_until_gone(meter) < 3.0


@pytest.mark.skipif(os.geteuid() != 0, reason="no permission to make a PID namespace")
def test_as_pid_1_the_launcher_drains_the_meter_within_four_seconds(launch):
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", LAUNCHER, "--port", "0", sys.executable]
    code = ENGINE + "engine.infer(); print('up', flush=True); time.sleep(240)"
    service = launch("", bare=True, command=[*words, "-c", code])
    service.wait_for("up")
    psutil.Process(service.process.pid).children()[0].send_signal(signal.SIGTERM)
    assert seconds_until(lambda: service.process.poll() is not None) < 4.0


def test_the_meter_of_a_plain_service_ends_with_it_within_eight_seconds(serve):
    service = serve(["waitress-serve", "--listen=127.0.0.1:PORT", "app:wsgi"], front="opentelemetry-instrument")
    service.settled(service.wait_until_up())
    (one,) = (each for each in psutil.process_iter(["cmdline"]) if belongs(each, service.process.pid))
    os.kill(service.process.pid, signal.SIGTERM)
    assert seconds_until_gone(one) < 8.0


def belongs(process: psutil.Process, pid: int) -> bool:
    """Whether a process is the meter that this one has started."""
    return f"ecolyzer-{pid}-" in " ".join(process.info["cmdline"] or ())


def test_workers_end_with_their_server_within_five_seconds(serve):
    service = serve([*GUNICORN, "-w", "2", "app:wsgi"])
    service.settled(service.wait_until_up() + service.load(20))
    children = psutil.Process(service.process.pid).children(recursive=True)
    os.kill(service.process.pid, signal.SIGTERM)
    assert psutil.wait_procs(children, 5)[1] == []


def test_a_cloud_that_does_not_answer_holds_the_start_up_for_less_than_twenty_seconds(launch, tmp_path):
    dmi = tmp_path / "sys" / "class" / "dmi" / "id"
    dmi.mkdir(parents=True)
    (dmi / "sys_vendor").write_text("Amazon EC2\n")
    (dmi / "product_name").write_text("m7i.large\n")
    service = launch(ENGINE + "engine.infer(); print('up', flush=True); time.sleep(240)", "--sysfs", str(tmp_path))
    assert seconds_until(lambda: "up" in service.stdout) < 20.0


# It is killed under load.


def test_an_agent_that_was_killed_has_its_workers_back_within_two_seconds_and_costs_no_latency(
    agent,
    script,
):
    first = agent()
    service = script(LOAD, env={"ECOLYZER_AGENT_SOCKET": str(first.socket), "SECONDS": "8"})
    until(lambda: first.metrics().settled >= 100)
    time.sleep(1.0)
    killed = time.time()
    first.process.kill()
    first.process.wait()
    time.sleep(1.0)
    second = agent(port=first.port, path=first.socket)
    up = time.time()
    # A page is up to a second old, which is not the worker's doing.
    assert seconds_until(lambda: second.metrics().total("ecolyzer_workers")) < 2.0 + 1.0
    latencies = result(service)["latencies"]
    before = [seconds for at, seconds in latencies if at < killed]
    without = [seconds for at, seconds in latencies if killed < at < up]
    assert statistics.median(without) < 2.0 * statistics.median(before)


def test_a_meter_of_its_own_that_was_killed_is_back_within_two_seconds(script):
    service = script(LOAD, env={"SECONDS": "6"})
    until(lambda: service.metrics().settled >= 100)
    (one,) = (each for each in psutil.process_iter(["cmdline"]) if belongs(each, service.process.pid))
    one.kill()
    # 2 s to be back, and what it takes to settle the first request.
    assert seconds_until(lambda: service.metrics().settled) < 4.0


# Settlement.


def test_requests_beside_a_long_one_are_settled_within_a_second(script):
    code = (
        METER_IS_UP
        + """
thread = threading.Thread(target=engine.infer, args=(8.0,))
thread.start()
count = 1
while thread.is_alive():
    engine.infer(0.001); count += 1
    time.sleep(0.02)
assert ecolyzer_otel.flush(60)
print("MADE", count, flush=True)
time.sleep(240)
"""
    )
    service = script(code)
    until(lambda: "MADE" in service.output)
    count = int(re.search(r"MADE (\d+)", service.output)[1])
    metrics = service.settled(count)
    assert metrics.total("ecolyzer_settlement_lag_seconds_bucket", 'le="1.0"') >= 0.95 * count


def test_the_first_call_after_a_rest_is_settled_within_three_seconds(launch):
    code = "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: engine.infer(0.001))\nengine.infer(0.001)\n"
    service = launch(ENGINE + code + "print('up', flush=True)\nwhile True: signal.pause()")
    service.wait_for("up")
    until(lambda: service.total("ecolyzer_requests_total") == 1)
    time.sleep(4.5)
    os.kill(service.process.pid, signal.SIGUSR1)
    assert seconds_until(lambda: service.total("ecolyzer_requests_total") == 2) < 3.0


def test_a_watermark_that_never_moves_holds_the_others_up_for_two_seconds_at_most(meter):
    running = meter()
    stuck, other = running.peer(), running.peer()
    stuck.hello("stuck")
    other.hello("other")
    stuck.say(stuck.batch(watermark_ns=1, quiet=False))
    other.say(other.batch(other.done(1)))
    assert seconds_until(lambda: running.total("ecolyzer_requests_total", 'service="other"')) < 3.5


def test_calls_do_not_wait_for_a_meter_that_stops_reading(tmp_path):
    from agent.test_protocol import worker

    code = """
slowest = 0.0
for n in range(60_000):
    began = time.perf_counter(); engine.infer(); slowest = max(slowest, time.perf_counter() - began)
    if n % 1000 == 0: time.sleep(0.05)
print(slowest)
"""
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        deaf.listen(8)
        out, err = worker(str(tmp_path / "deaf.sock"), code).communicate(timeout=100)
    assert float(out) < 1.0, err


# What it costs.


class Engine:
    def infer(self, x: Any) -> Any:
        return x


class Wrapped:
    infer = leaf(Engine.infer, CallSpec("custom", "infer", lambda model: ModelFacts("engine")))


@pytest.fixture
def here() -> Iterator[State]:
    yield replace_state(lambda state: None)
    replace_state(None)


def test_a_brief_call_costs_a_part_of_the_span_that_it_writes(here: State) -> None:
    """Seen: 0.22 of a bare span. A quarter is the aim."""
    engine, bare, x = Wrapped(), Engine(), [1, 2, 3]
    tracer = TracerProvider().get_tracer("test")

    def span() -> None:
        tracer.start_span("infer engine").end()

    def block(function: Callable[[], Any]) -> float:
        began = time.thread_time_ns()
        for _ in range(300):
            function()
        took = time.thread_time_ns() - began
        here.done.clear()
        return took

    def ratio() -> float:
        rounds = [(block(lambda: engine.infer(x)), block(lambda: bare.infer(x)), block(span)) for _ in range(30)]
        return statistics.median((ours - none) / theirs for ours, none, theirs in rounds)

    block(lambda: engine.infer(x))
    assert min(ratio() for _ in range(3)) < 0.6


def test_a_thousand_label_sets_are_one_cheap_scrape() -> None:
    store, children = a_thousand_label_sets()
    render(store, True)
    took = []
    for _ in range(5):
        for child in children[:30]:
            child.observe(0.1)
        began = time.perf_counter()
        render(store, True)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1
