"""The hot path: queue, open calls, watermark, fork."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ecolyzer_otel.worker import hot_path as hot
from ecolyzer_otel.worker.accounts import Accounts
from ecolyzer_otel.worker.call import current_call
from ecolyzer_otel.worker.hot_path import begin, finish
from ecolyzer_otel.worker.reports import Reporter
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.state import State, replace_state

SPEC = CallSpec("engine", "infer", describe=lambda model: ModelFacts("engine"))


@pytest.fixture
def calls() -> Iterator[State]:
    yield replace_state(lambda state: None)
    replace_state(None)


def call() -> None:
    one = begin(SPEC, object(), ([1],), {})
    assert one is not None
    finish(one, None)


def test_nothing_is_recorded_where_nobody_measures() -> None:
    here = replace_state(None)
    assert begin(SPEC, object(), (), {}) is None
    assert (len(here.done), here.open, here.dropped) == (0, {}, 0)
    assert current_call.get() is None


def test_the_background_thread_is_started_by_the_first_call_and_once() -> None:
    started: list[State] = []
    here = replace_state(started.append)
    try:
        assert started == []
        threads = [threading.Thread(target=lambda: [call() for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert started == [here]
        assert len(here.done) == 200
    finally:
        replace_state(None)


def test_a_background_thread_that_cannot_start_hurts_nobody_and_is_not_tried_again() -> None:
    tries: list[State] = []

    def fail(state: State) -> None:
        tries.append(state)
        raise OSError("no threads left")

    here = replace_state(fail)
    try:
        assert begin(SPEC, object(), (), {}) is None
        call()
        assert tries == [here]
        assert (here.dropped, here.open) == (1, {})
        assert current_call.get() is None
    finally:
        replace_state(None)


def test_a_full_queue_drops_and_counts(calls: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "MAX_WAITING", 5)
    for _ in range(12):
        call()
    assert (len(calls.done), calls.dropped, calls.open) == (5, 7, {})


def test_a_call_is_published_before_its_start_is_read(calls: State) -> None:
    seen: list[tuple[int, int]] = []

    def items(args: Any, kwargs: Any) -> int:
        seen.extend((one.start_ns, len(calls.open)) for one in calls.open)
        return 1

    one = begin(CallSpec("engine", "infer", SPEC.describe, items), object(), (), {})
    assert one is not None
    assert seen == [(0, 1)]
    finish(one, None)


def test_a_call_is_queued_before_it_is_unpublished(calls: State) -> None:
    order: list[str] = []

    class Watched(dict[int, Any]):
        def pop(self, *key: Any) -> Any:
            order.append(f"unpublished with {len(calls.done)} queued")
            return super().pop(*key)

    calls.open = Watched()
    call()
    assert order == ["unpublished with 1 queued"]


def test_an_open_call_whose_start_is_not_read_yet_holds_the_watermark(calls: State) -> None:
    reporter = Reporter(calls, Accounts(calls))
    before = reporter.watermark([], 0)
    one = begin(SPEC, object(), (), {})
    assert one is not None
    start_ns, one.start_ns = one.start_ns, 0
    far = start_ns + 10**12
    assert reporter.watermark(list(calls.open), far) == before
    one.start_ns = start_ns
    assert reporter.watermark(list(calls.open), far) == start_ns
    finish(one, None)
    assert reporter.watermark(list(calls.open), far) == far


FORK = """
import json, os, sys
from ecolyzer_otel.worker.call import current_call
from ecolyzer_otel.worker.hot_path import begin, finish
from ecolyzer_otel.worker.state import replace_state, state
from ecolyzer_otel.worker.patches import Patches
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.wrap import leaf

started = []

class Engine:
    def infer(self, inner=None):
        return inner() if inner else None

spec = CallSpec("engine", "infer", describe=lambda model: ModelFacts("engine"))
Patches().replace(Engine, "infer", leaf(Engine.infer, spec))
replace_state(lambda here: started.append(os.getpid()))
engine = Engine()
engine.infer()

def fork():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # In the middle of the parent's call: this one is the child's own.
        engine.infer(inner=engine.infer)
        return writing
    os.close(writing)
    os.waitpid(child, 0)
    return json.loads(os.read(reading, 10_000))

def told():
    here = state()
    return {"done": len(here.done), "open": len(here.open), "dropped": here.dropped, "pid": here.pid == os.getpid(),
            "started": [pid == os.getpid() for pid in started], "current": current_call.get() is None}

result = engine.infer(inner=fork)
if isinstance(result, int):
    engine.infer()
    os.write(result, json.dumps(told()).encode())
    os._exit(0)
engine.infer()
print(json.dumps({"child": result, "parent": told()}))
"""


def test_a_call_in_flight_at_a_fork_is_the_parents_and_the_child_counts_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=240, check=True)
    result = json.loads(done.stdout)
    # The child made one call inside the parent's and one after it returned through the parent's wrapper.
    assert result["child"] == {
        "done": 2, "open": 0, "dropped": 0, "pid": True, "started": [False, True], "current": True,
    }  # fmt: skip
    assert result["parent"] == {
        "done": 3, "open": 0, "dropped": 0, "pid": True, "started": [True], "current": True,
    }  # fmt: skip
