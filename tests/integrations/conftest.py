"""Frameworks patched in this process, with calls that stay in the queue where the tests can see them."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.spec import ModelFacts
from ecolyzer_otel.worker.state import State, replace_state


class Calls:
    """The finished calls of this process."""

    def __init__(self, state: State) -> None:
        self._state = state

    def take(self) -> list[Call]:
        """The calls since the last time; none may be open or lost."""
        assert self._state.open == {}
        assert self._state.dropped == 0
        return [self._state.done.popleft() for _ in range(len(self._state.done))]

    def operations(self) -> list[str]:
        return [call.spec.operation for call in self.take()]

    def one(self) -> Call:
        (call,) = self.take()
        return call

    def facts(self) -> ModelFacts:
        call = self.one()
        return call.spec.describe(call.model)

    def left_behind(self, work: Callable[[], Any], times: int = 10_000) -> int:
        """Bytes allocated by our files that so many calls leave, taken from the queue like the worker does."""

        def run(number: int) -> None:
            for _ in range(number):
                work()
                if len(self._state.done) >= 100:
                    self.take()
            self.take()

        def held() -> int:
            gc.collect()
            ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/ecolyzer_*")])
            return sum(one.size for one in ours.statistics("filename"))

        warm = min(200, times)
        run(warm)
        tracemalloc.start(1)
        try:
            run(warm)
            before = held()
            run(times)
            return held() - before
        finally:
            tracemalloc.stop()

    def forgotten(self) -> list[int]:
        return [self._state.forgotten.popleft() for _ in range(len(self._state.forgotten))]


@pytest.fixture
def calls() -> Iterator[Calls]:
    yield Calls(replace_state(lambda state: None))
    replace_state(None)


@pytest.fixture
def instrumented(calls: Calls) -> Iterator[Callable[[Any], Any]]:
    """Patch with an instrumentor until the test ends."""
    active: list[Any] = []

    def instrument(instrumentor: Any) -> Any:
        instrumentor.instrument(skip_dep_check=True)
        active.append(instrumentor)
        return instrumentor

    yield instrument
    for instrumentor in active:
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


@pytest.fixture
def in_threads() -> Callable[[Callable[[], Any], int, int], None]:
    """Run ``work`` ``times`` times in each of ``number`` threads; a failure there is a failure here."""

    def run(work: Callable[[], Any], number: int, times: int) -> None:
        failures: list[BaseException] = []

        def loop() -> None:
            try:
                for _ in range(times):
                    work()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=loop) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    return run
