"""Nothing wakes at rest, and the first call after a rest is told of as fast as any other."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.waiting import until

from .conftest import ENGINE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts wake-ups by /proc")

#: Sleeps without waking, but for the commands that are put into its file.
WAITS = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: engine.infer(0.001))
engine.infer(0.001)
print("up", flush=True)
while True: signal.pause()
"""


def wakings(pid: int) -> dict[str, int]:
    """How often each thread of a process has been woken so far."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        said = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
        found[task.name] = int(said[1]) if said else 0
    return found


def meter_of(pid: int) -> int:
    (one,) = [
        each.pid
        for each in psutil.process_iter(["cmdline"])
        if f"ecolyzer-{pid}-" in " ".join(each.info["cmdline"] or ())
    ]
    return one


def test_worker_page_and_meter_sleep_and_a_call_wakes_them(launch):
    service = launch(ENGINE + WAITS)
    service.wait_for("up")
    pid = service.process.pid
    until(lambda: service.total("ecolyzer_requests_total") >= 1, lambda: service.stderr)
    time.sleep(4.5)  # the worker says that it is quiet after 2 s, and the meter has been busy until then
    watched = {"worker": pid, "meter": meter_of(pid)}
    before = {who: wakings(one) for who, one in watched.items()}
    time.sleep(3.0)
    woken = {who: sum(now - before[who].get(task, 0) for task, now in wakings(one).items())
             for who, one in watched.items()}  # fmt: skip
    assert woken["worker"] == 0
    # For a minute after the last request it reads its sensors once a second.
    assert woken["meter"] <= 6
    os.kill(pid, 10)
    until(lambda: service.total("ecolyzer_requests_total") >= 2, service.metrics)


def test_many_rests_lose_nothing(launch):
    """Calls at the very moment at which the thread goes to rest."""
    code = """
import ecolyzer_otel, ecolyzer_otel.agent.worker as worker
worker._QUIET_AFTER = 0.0
for number in range(150):
    engine.infer()
    time.sleep(0.03 + 0.001 * (number % 40))
assert ecolyzer_otel.flush(60)
counts = ecolyzer_otel.counts()
assert counts == {"served": 150, "accounted": 150, "dropped": 0, "pending": 0}, counts
time.sleep(0.5)
from ecolyzer_otel.call import state
assert state().resting, "it rests again"
print("done", flush=True); time.sleep(240)
"""
    service = launch(ENGINE + code)
    service.wait_for("done")
    assert service.total("ecolyzer_requests_total") + service.total("ecolyzer_unsettled_requests_total") == 150
