"""Meters and workers that die, requests that go on for long: all are accounted for, the service is untouched."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.ports import free_port
from support.waiting import AGES, PATIENCE, until

from .conftest import BIN, environment, recording

#: A service as a script, with the public wrapper factory in the place of an instrumentor.
ENGINE = """
import os, sys, threading, time, json
import ecolyzer_otel
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.wrap import leaf

class Engine:
    def infer(self, seconds=0.0):
        end = time.thread_time() + seconds
        while time.thread_time() < end: pass
        return "answer"

Engine.infer = leaf(Engine.infer, CallSpec("custom", "infer", lambda model: ModelFacts("engine", 1_000_000)))
engine = Engine()
"""


#: Recorded sensors have no reading from before the meter: what ends before its first one is nobody's. (PORT as a
#: word of a command is replaced by that of the service.)
METER_IS_UP = """
import urllib.request
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:" + os.environ["ECOLYZER_PO" "RT"] + "/healthz", timeout=5).read()
        break
    except OSError:
        time.sleep(0.05)
time.sleep(0.3)
"""


@pytest.fixture
def script(serve, tmp_path):
    """``script(code, ...)`` runs it under the launcher, with its standard output and error in one file."""

    def start(code, *, env=None, **more):
        result = tmp_path / f"{next(numbers)}.result"
        running = serve(["python", "-c", ENGINE + code], env={"RESULT": str(result)} | (env or {}), **more)
        results[running.process.pid] = result
        return running

    numbers = itertools.count()
    return start


def wait_for(text: str, service) -> None:
    until(lambda: text in service.output, text, service.program, seconds=AGES)


LOAD = """
latencies, spans = [], 0
end, enough = time.monotonic() + float(os.environ["SECONDS"]), os.environ.get("ENOUGH")
while time.monotonic() < end or (enough and not os.path.exists(enough)):
    began = time.perf_counter()
    assert engine.infer(0.0005) == "answer"
    latencies.append([time.time(), time.perf_counter() - began])
    time.sleep(0.003)
assert ecolyzer_otel.flush(60)
with open(os.environ["RESULT"] + ".part", "w") as file:
    json.dump({"counts": ecolyzer_otel.counts(), "latencies": latencies}, file)
os.replace(file.name, os.environ["RESULT"])
time.sleep(240)
"""


#: Where each script, by its process, writes its result: its output is the console exporter's as well.
results: dict[int, Path] = {}


def result(service) -> dict:
    file = results[service.process.pid]
    until(file.exists, lambda: service.output, seconds=AGES)
    return json.loads(file.read_text())


def spans(output: str) -> list[dict]:
    return [json.loads(text) for text in re.findall(r"^\{.*?^\}", output, re.S | re.M)]


def test_an_agent_killed_and_restarted_under_load(agent, script, tmp_path):
    """The service goes on and connects again; settled + unsettled + dropped + pending = served."""
    first = agent()
    env = {"ECOLYZER_AGENT_SOCKET": str(first.socket), "OTEL_TRACES_EXPORTER": "console"}
    service = script(LOAD, env=env | {"SECONDS": "5", "ENOUGH": str(tmp_path / "enough")})
    until(lambda: first.metrics().settled >= 100, lambda: first.metrics().written)
    time.sleep(1.0)
    killed = time.time()
    first.process.kill()
    first.process.wait()
    time.sleep(1.0)
    second = agent(port=first.port, path=first.socket)
    up = time.time()
    until(lambda: second.metrics().total("ecolyzer_workers"), "the worker has connected again")
    until(lambda: (page := second.metrics()).settled > 1.5 * page.total("ecolyzer_dropped_requests_total") + 100,
          lambda: second.metrics().written)  # fmt: skip
    (tmp_path / "enough").touch()
    told = result(service)
    counts, latencies = told["counts"], told["latencies"]
    assert counts["served"] == counts["accounted"] + counts["dropped"] + counts["pending"]
    assert counts["pending"] == 0
    time.sleep(1.2)
    metrics = second.metrics()
    here = metrics.settled + int(metrics.total("ecolyzer_unsettled_requests_total"))
    assert 0 < here < counts["accounted"], "the first settled some as well"
    assert metrics.total("ecolyzer_dropped_requests_total") == counts["dropped"] > 0
    assert metrics.total("ecolyzer_pending_requests") == 0
    # Each has one span, settled or not.
    os.kill(service.process.pid, signal.SIGTERM)
    service.process.wait(PATIENCE)
    found = spans(service.output)
    assert len(found) == counts["served"] == len(latencies)
    assert len({span["context"]["span_id"] for span in found}) == counts["served"]
    methods = [span["attributes"]["ecolyzer.energy.method"] for span in found]
    assert methods.count("unsettled") >= counts["dropped"]
    assert methods.count("modelled") + methods.count("measured") > 0.5 * counts["served"]
    # It went on while the agent was gone (as fast as before: benchmarks/promptness.py).
    assert len([at for at, _ in latencies if killed < at < up]) > 50


def test_a_meter_of_its_own_killed_under_load_comes_back(script, tmp_path):
    service = script(LOAD, env={"SECONDS": "3", "ENOUGH": str(tmp_path / "enough")})
    until(lambda: service.metrics().settled >= 100, lambda: service.output)
    (meter,) = [
        one
        for one in psutil.process_iter(["cmdline"])
        if f"ecolyzer-{service.process.pid}-" in " ".join(one.info["cmdline"] or ())
    ]
    meter.kill()
    until(lambda: service.metrics().settled, lambda: service.output)
    (tmp_path / "enough").touch()
    counts = result(service)["counts"]
    metrics = service.metrics()
    assert counts["pending"] == 0 == metrics.total("ecolyzer_pending_requests")
    assert metrics.total("ecolyzer_dropped_requests_total") == counts["dropped"]
    assert metrics.accounted < counts["served"]


def test_the_joules_of_a_worker_killed_in_the_middle_of_a_request_become_process_share(script, tmp_path):
    file = recording(tmp_path / "cpu.json", 40.0, 120.0)
    code = (
        METER_IS_UP
        + """
child = os.fork()
if child == 0:
    engine.infer()
    ecolyzer_otel.flush(60)
    engine.infer(60)
print("CHILD", child, flush=True)
os.waitpid(child, 0)
print("GONE", flush=True)
time.sleep(240)
"""
    )
    service = script(code, env={"ECOLYZER_SENSORS": f"replay:{file}"})
    wait_for("CHILD", service)
    child = int(re.search(r"CHILD (\d+)", service.output)[1])
    # The service may be up before its meter is.
    until(lambda: service.metrics().shares()["pending"] >= 50.0, lambda: service.output)
    before = service.metrics()
    assert before.settled == 1
    assert before.shares()["pending"] >= 50.0
    os.kill(child, signal.SIGKILL)
    wait_for("GONE", service)
    until(lambda: service.metrics().shares()["pending"] == 0, lambda: service.metrics().shares())
    after = service.metrics()
    assert after.shares()["pending"] == 0
    assert after.shares()["requests"] == before.shares()["requests"]
    assert after.shares()["process"] >= before.shares()["process"] + before.shares()["pending"]
    assert (after.settled, after.accounted) == (1, 1), "it never ended, so it was never served"


def test_requests_served_and_not_reported_when_a_worker_is_killed_are_counted(script):
    """Killed at once after a report said how many were served: those held back are `worker_died`."""
    code = """
child = os.fork()
if child == 0:
    for n in range(200):
        engine.infer(); time.sleep(0.005)
    os.kill(os.getpid(), 9)
os.waitpid(child, 0)
print("GONE", flush=True)
time.sleep(240)
"""
    service = script(code)
    wait_for("GONE", service)
    until(lambda: not service.metrics().total("ecolyzer_pending_requests"), lambda: service.metrics().written)
    metrics = service.metrics()
    assert 150 <= metrics.accounted <= 200, "at most a report is lost without a trace"
    assert metrics.total("ecolyzer_pending_requests") == 0


def test_a_request_of_thirty_seconds_spans_hundreds_of_intervals_and_holds_up_nobody(script, tmp_path):
    file, enough = recording(tmp_path / "cpu.json", 40.0, 600.0, idle_watts=10.0), tmp_path / "enough"
    code = (
        METER_IS_UP
        + """
def long():
    began = time.monotonic()
    while time.monotonic() < began + 30.0 or not os.path.exists(os.environ["ENOUGH"]):
        burn = time.thread_time() + 0.002
        while time.thread_time() < burn: pass
        time.sleep(0.02)
    print("TOOK", time.monotonic() - began, flush=True)
Engine.long = leaf(lambda self: long(), CallSpec("custom", "long", lambda model: ModelFacts("engine", 1_000_000)))
thread = threading.Thread(target=engine.long)
thread.start()
count = 0
while thread.is_alive():
    engine.infer(0.001); count += 1
    time.sleep(0.02)
assert ecolyzer_otel.flush(60)
print("MADE", count, flush=True)
time.sleep(240)
"""
    )
    env = {"ECOLYZER_SENSORS": f"replay:{file}", "ECOLYZER_SAMPLING_PERIOD": "0.05", "ENOUGH": str(enough)}
    service = script(code, env=env)
    infer = "ecolyzer_requests_total", 'operation="infer"'
    until(lambda: service.metrics().total(*infer) > 400, lambda: service.output, seconds=AGES, pause=0.5)
    metrics = service.metrics()
    enough.touch()
    # Long before the long one ends, the short ones beside it are settled, and its joules so far are pending.
    assert metrics.total("ecolyzer_requests_total", 'operation="long"') == 0
    assert metrics.shares()["pending"] > 0
    wait_for("MADE", service)
    count = int(re.search(r"MADE (\d+)", service.output)[1])
    metrics = service.settled(count + 1)
    assert metrics.total("ecolyzer_requests_total", 'operation="long"') == 1
    metrics.assert_requests_close()
    # While it ran, it had the idle power of its 30 s, less what the short ones beside it had of it.
    seconds = float(re.search(r"TOOK (\S+)", service.output)[1])
    idle = metrics.total("ecolyzer_energy_joules_total", 'operation="long"', 'share="idle"')
    assert 0.8 * seconds * 10 < idle < (seconds + 0.5) * 10
    # Its own CPU time was some 9 % of one CPU: it has that part of the active joules, not all of them.
    active = metrics.total("ecolyzer_energy_joules_total", 'operation="long"', 'share="active"')
    assert 0.01 * seconds * 30 < active < 0.9 * seconds * 30


def test_a_service_that_waits_for_all_its_children_gets_only_its_own(serve):
    code = (
        ENGINE
        + """
import ecolyzer_otel
engine.infer(); ecolyzer_otel.flush(60)
children = {os.fork() or os._exit(0) for _ in range(3)}
found = set()
while True:
    try: found.add(os.wait()[0])
    except ChildProcessError: break
print("OK" if found == children else f"BAD {found} {children}", flush=True)
"""
    )
    service = serve(["python", "-c", code])
    assert service.process.wait(PATIENCE) == 0
    assert "OK" in service.output


def test_many_services_connect_and_go_and_the_agent_forgets_them(agent, model_file):
    node = agent("--sensors", "modelled")
    code = ENGINE + "for _ in range(5): engine.infer()"
    env = environment(model_file, 0, ECOLYZER_AGENT_SOCKET=str(node.socket))
    for _ in range(3):
        batch = [
            subprocess.Popen(
                [str(BIN / "ecolyzer-instrument"), sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL
            )
            for _ in range(5)
        ]
        assert [one.wait(PATIENCE) for one in batch] == [0] * 5
    found = node.settled(75)
    assert found.total("ecolyzer_workers") == 0
    assert found.total("ecolyzer_pending_requests") == 0
    assert node.health()["clients"] == 0


def test_a_worker_under_load_and_one_at_rest_settle_alike(agent, script):
    """A worker that says nothing for long does not hold up another one's intervals."""
    node = agent()
    env = {"ECOLYZER_AGENT_SOCKET": str(node.socket)}
    script("engine.infer(); ecolyzer_otel.flush(60); time.sleep(240)", env=env | {"OTEL_SERVICE_NAME": "resting"})
    busy = script(LOAD, env=env | {"OTEL_SERVICE_NAME": "busy", "SECONDS": "4"})
    counts = result(busy)["counts"]
    node.settled(counts["served"], 'service="busy"')
    node.settled(1, 'service="resting"')


def test_a_replaced_worker_and_a_fresh_port_are_not_confused(serve):
    """Two services one after the other on the same port: the second's counters start at nothing."""
    port = free_port()
    for _ in range(2):
        service = serve(
            [
                "python",
                "-c",
                ENGINE + "engine.infer(); ecolyzer_otel.flush(60); print('UP', flush=True); time.sleep(240)",
            ],
            env={"ECOLYZER_PORT": str(port)},
        )
        wait_for("UP", service)
        service.port = port
        service.settled(1)
        os.kill(service.process.pid, signal.SIGTERM)
        service.process.wait(PATIENCE)
