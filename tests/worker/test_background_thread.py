"""What a worker reports of calls that are not simply one after the other: coroutines, greenlets, threads, forks.

Real processes; the meter at the other end only listens.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.environment import clean
from support.waiting import AGES, PATIENCE, until

pytestmark = pytest.mark.slow

ENGINE = """
import asyncio, os, sys, threading, time, json
import ecolyzer_otel
from ecolyzer_otel.boot.activation import activate
from ecolyzer_otel.worker.state import state
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.wrap import leaf

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass

class Engine:
    def infer(self, work=0.0, inner=None):
        burn(work)
        return inner() if inner else "answer"
    async def ainfer(self, slices=1, work=0.0, inner=None):
        for _ in range(slices):
            burn(work)
            await asyncio.sleep(0)
        return await inner if inner is not None else "answer"

Engine.aplain = Engine.ainfer
facts = lambda model: ModelFacts("engine")
def wrap():
    Engine.infer = leaf(Engine.infer, CallSpec("custom", "infer", facts))
    Engine.ainfer = leaf(Engine.ainfer, CallSpec("custom", "ainfer", facts))
    activate()
engine = Engine()
"""


def start(listener, script: str, seconds: float = AGES) -> subprocess.CompletedProcess:
    """Run a script that reports to the listener."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean(ECOLYZER_AGENT_SOCKET=listener.path),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


TELL = """
assert ecolyzer_otel.flush(60)
print(json.dumps(ecolyzer_otel.counts()))
"""


def run(listener, code: str, *, first: str = "") -> None:
    """Run code in a process of its own, and wait until all that it served has been told of."""
    done = start(listener, first + ENGINE + "wrap()\n" + code + TELL)
    served = json.loads(done.stdout.splitlines()[-1])["served"]
    until(lambda: len(listener.done) >= served, lambda: f"{served} requests: {listener.done}")
    assert len(listener.done) == served


def cpu_seconds(listener, operation: str = "") -> float:
    return sum(one.cpu_ns for one in listener.done if operation in ("", one.operation)) / 1e9


def test_coroutines_that_take_turns_together_have_what_their_thread_used(listener):
    code = """
async def main(): await asyncio.gather(*(engine.ainfer(10, 0.005) for _ in range(20)))
asyncio.run(main())
"""
    run(listener, code)
    assert len(listener.done) == 20
    # 20 x 10 x 5 ms; each alone saw the clock of the thread grow by nearly all of it.
    assert cpu_seconds(listener) == pytest.approx(1.0, rel=0.15)
    each = [one.cpu_ns / 1e9 for one in listener.done]
    assert max(each) < 2.5 * min(each)


def test_calls_held_back_for_their_kernels_have_taken_turns_all_the_same(listener):
    """Half of them are reported 0.2 s later than the others: what they share is divided once."""
    code = """
def kernels(call): return {} if time.monotonic_ns() - call.end_ns > 200_000_000 else None
Engine.slow = leaf(Engine.aplain, CallSpec("custom", "slow", facts, kernels=kernels))
async def main():
    await asyncio.gather(*(call(engine, 10, 0.005) for call in (Engine.ainfer, Engine.slow) for _ in range(10)))
    await asyncio.sleep(0.4)
asyncio.run(main())
"""
    run(listener, code)
    assert len(listener.done) == 20
    assert cpu_seconds(listener, "slow") == pytest.approx(0.5, rel=0.2)
    assert cpu_seconds(listener) == pytest.approx(1.0, rel=0.15)


def test_a_coroutine_that_outlives_its_parent_is_a_request_of_its_own_and_within_it_a_phase(listener):
    code = """
async def main():
    async def late():
        await asyncio.sleep(0.05)
        return await engine.ainfer()
    loop = asyncio.get_running_loop()
    tasks = []
    async def spawn():
        tasks.append(loop.create_task(late()))  # inherits the context of the open call
    await engine.ainfer(inner=spawn())
    await tasks[0]                        # it began after its parent had ended: 2 in all
    await engine.ainfer(inner=engine.ainfer(inner=engine.ainfer()))  # phases: 3
asyncio.run(main())
"""
    run(listener, code)
    assert len(listener.done) == 3


def test_an_exception_of_a_coroutine_and_its_cancellation_pass_through(listener):
    code = """
async def main():
    async def fail(): raise KeyError("x")
    try: await engine.ainfer(inner=fail())
    except KeyError: pass
    task = asyncio.create_task(engine.ainfer(inner=asyncio.sleep(60)))
    await asyncio.sleep(0.05)
    task.cancel()
    try: await task
    except asyncio.CancelledError: pass
asyncio.run(main())
"""
    run(listener, code)
    assert sorted(one.error for one in listener.done) == ["KeyError", "asyncio.exceptions.CancelledError"]


def test_work_handed_to_a_thread_with_the_context_belongs_to_the_call(listener):
    """asyncio.to_thread takes the context along: no request of its own, and its CPU time is the call's."""
    code = """
async def main(): await engine.ainfer(inner=asyncio.to_thread(engine.infer, 0.3, lambda: engine.infer(0.1)))
asyncio.run(main())
"""
    run(listener, code)
    (one,) = listener.done
    assert (one.operation, one.cpu_ns / 1e9) == ("ainfer", pytest.approx(0.4, rel=0.15))


def test_work_in_a_pool_of_threads_is_a_request_each_with_its_own_clock(listener):
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool: list(pool.map(engine.infer, [0.05] * 20))
"""
    run(listener, code)
    assert len(listener.done) == 20
    assert all(one.cpu_ns / 1e9 == pytest.approx(0.05, abs=0.02) for one in listener.done)


def test_greenlets_share_the_clock_of_their_thread_and_our_thread_is_none(listener):
    pytest.importorskip("gevent")
    code = """
import gevent
def slices(n):
    for _ in range(n): burn(0.01); time.sleep(0)
jobs = [gevent.spawn(engine.infer, 0.0, lambda: slices(5)) for _ in range(20)]
gevent.joinall(jobs)
# One that computes without giving way for longer than the meter's patience.
engine.infer(2.5)
"""
    run(listener, code, first="from gevent import monkey; monkey.patch_all()\n")
    assert len(listener.done) == 21
    assert cpu_seconds(listener) == pytest.approx(1.0 + 2.5, rel=0.15)
    # Reported while it ran, with its CPU time so far: a greenlet could not have done that.
    told = [one.cpu_ns / 1e9 for one in listener.opens if one.id == listener.done[-1].id]
    assert len(told) > 10
    assert told == sorted(told)
    assert told[-1] == pytest.approx(2.5, rel=0.2)


def test_a_request_of_many_reports_is_told_of_all_the_time(listener):
    run(listener, "engine.infer(3.0)")
    (one,) = listener.done
    told = [(each.id, each.cpu_ns) for each in listener.opens]
    assert {number for number, _ in told} == {one.id}
    assert len(told) > 15
    clocks = [clock for _, clock in told]
    assert clocks == sorted(clocks)
    assert clocks[-1] <= one.cpu_ns


def test_fork_with_requests_in_flight_loses_none_and_reports_none_twice(listener):
    code = """
threads = [threading.Thread(target=engine.infer, args=(0.3,)) for _ in range(3)]
for thread in threads: thread.start()
time.sleep(0.3)                     # reported as open by now
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        for _ in range(10): engine.infer()
        sys.exit(0)
    children.append(child)
def inside():
    child = os.fork()               # in the middle of a call: the child's copy of it is nobody's
    if child == 0:
        engine.infer()
        ecolyzer_otel.flush(60)
        os._exit(0)
    os.waitpid(child, 0)
engine.infer(0.0, inside)
for child in children: assert os.waitpid(child, 0)[1] == 0
for thread in threads: thread.join()
"""
    start(listener, ENGINE + "wrap()\n" + code + "\nassert ecolyzer_otel.flush(60)")
    until(lambda: len(listener.done) >= 35, lambda: f"35 requests: {listener.done}")
    time.sleep(0.2)
    # 3 in threads and 1 around a fork of the parent; 3 x 10 of children, and 1 of the child forked within a call.
    assert len(listener.done) == 35
    assert max(batch.served for batch in listener.batches) == 10, "no child tells of its parent's requests"


def test_a_child_does_not_keep_its_parents_connection_open(listener):
    """Else the meter would not see the parent end as long as a child lives."""
    code = """
engine.infer(); assert ecolyzer_otel.flush(60)
child = os.fork()
if child == 0: time.sleep(240)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""
    environment = os.environ | {"ECOLYZER_AGENT_SOCKET": listener.path}
    command = [sys.executable, "-c", ENGINE + "wrap()\n" + code]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    try:
        assert process.wait(PATIENCE) == -signal.SIGKILL
        until(lambda: listener.ended, "the meter sees the parent end")
        assert listener.ended == 1
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


C_FORK = """
import ctypes
libc = ctypes.PyDLL(None)
engine.infer(); assert ecolyzer_otel.flush(60)
child = libc.fork()                 # as uWSGI does: Python's hooks are not called
if child == 0:
    for _ in range(5): engine.infer()
    assert ecolyzer_otel.flush(60)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="MADV_WIPEONFORK is Linux's")
def test_a_fork_that_python_was_not_told_of_is_noticed(listener):
    start(listener, ENGINE + "wrap()\n" + C_FORK)
    assert len(listener.done) == 6


KERNELS = """
class Accelerator:
    def infer(self, kernels): return kernels
def kernels(call):
    # Not known until 0.2 s after the call: events that the device has not passed yet.
    if call.end_ns and time.monotonic_ns() - call.end_ns < 200_000_000: return None
    start = call.start_ns
    return {"cuda:1": [(start + 1, start + 2)] + [(start + n * 100, start + n * 101) for n in range(1, 200)]}
spec = CallSpec("custom", "infer", lambda model: ModelFacts("gpu", device="cuda:1"), kernels=kernels)
Accelerator.infer = leaf(Accelerator.infer, spec)
os.environ["CUDA_VISIBLE_DEVICES"] = "4,GPU-abc"
Accelerator().infer(1)
"""


def test_kernels_are_told_by_the_meters_name_of_the_device_once_they_are_known(listener):
    run(listener, KERNELS + "time.sleep(0.6)")
    (one,) = listener.done
    ((device, spans),) = one.busy.items()
    assert device == "GPU-abc"
    assert len(spans) == 64, "neighbours are joined until they fit"
    assert spans == sorted(spans)
    assert all(low < high for low, high in spans)
    assert spans[0][0] == one.start_ns + 1
    assert spans[-1][1] == one.start_ns + 199 * 101
    (model,) = [model for batch in listener.batches for model in batch.models]
    assert (model.device, model.sensor) == ("cuda:1", "GPU-abc")


def test_an_open_request_of_a_forked_child_is_told_with_its_cpu_time(listener):
    """Python before 3.13 leaves the main thread of a child its parent's kernel number, whose clock is another's."""
    code = """
child = os.fork()
if child == 0:
    engine.infer(1.0)
    assert ecolyzer_otel.flush(60)
    os._exit(0)
os.waitpid(child, 0)
engine.infer()
"""
    start(listener, ENGINE + "wrap()\n" + code)
    assert listener.opens[-1].cpu_ns / 1e9 == pytest.approx(0.9, abs=0.3)


def test_the_background_thread_imports_nothing(listener):
    """A fork in the middle of an import would leave the child with a lock that nobody gives back."""
    code = """
flush, before = ecolyzer_otel.flush, set(sys.modules)
engine.infer(0.5)
assert flush(60)
time.sleep(0.3)
assert sorted(set(sys.modules) - before) == [], sorted(set(sys.modules) - before)
"""
    run(listener, code)
    assert len(listener.opens) > 0


def test_a_service_that_closes_our_descriptors_is_not_kept_busy(listener):
    code = """
engine.infer()
assert ecolyzer_otel.flush(60)
os.closerange(3, 256)
before = time.process_time()
time.sleep(1.0)
assert time.process_time() - before < 0.3, time.process_time() - before
assert engine.infer() == "answer"
"""
    start(listener, ENGINE + "wrap()\n" + code)


def test_what_may_have_been_training_is_not_kept_alive_once_it_is_told_of() -> None:
    from ecolyzer_otel.worker.accounts import Accounts
    from ecolyzer_otel.worker.hot_path import begin, finish
    from ecolyzer_otel.worker.reports import Reporter
    from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
    from ecolyzer_otel.worker.state import replace_state

    here = replace_state(lambda state: None)
    try:
        reporter = Reporter(here, Accounts(here))
        call = begin(CallSpec("custom", "infer", lambda model: ModelFacts("engine")), object(), (), {})
        assert call is not None
        call.ensure_details().maybe_training = True
        here.maybe_training.append(call)
        finish(call, None)
        list(reporter.batches(hold=True, quiet=False))
        assert list(here.maybe_training) == [call], "it may still turn out to be"
        call.end_ns -= 2_000_000_000
        list(reporter.batches(hold=True, quiet=False))
        assert list(here.maybe_training) == []
    finally:
        replace_state(None)


def test_a_call_that_ends_while_the_clock_of_its_thread_is_read_has_nothing_of_what_came_after_it() -> None:
    import threading

    from ecolyzer_otel.worker.accounts import Accounts
    from ecolyzer_otel.worker.hot_path import begin, finish
    from ecolyzer_otel.worker.reports import Reporter
    from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
    from ecolyzer_otel.worker.state import replace_state

    here = replace_state(lambda state: None)
    try:
        call = begin(CallSpec("custom", "infer", lambda model: ModelFacts("engine")), object(), (), {})
        assert call is not None
        finish(call, None)
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        natives = {threading.get_ident(): threading.get_native_id()}
        later = call.start_ns + 1_000_000_000
        clocks = Reporter(here, Accounts(here))._clocks_of([call], later, natives)
        assert clocks[call.thread] == call.cpu_start_ns + call.cpu_ns
    finally:
        replace_state(None)
