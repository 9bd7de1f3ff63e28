"""CPU time of brief calls: one in eight reads its thread's clock, and the sums stay what the thread used."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

from ecolyzer_otel.worker import hot_path as hot
from ecolyzer_otel.worker import pace
from ecolyzer_otel.worker.hot_path import begin, finish
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.state import replace_state

SPEC = CallSpec("custom", "infer", lambda model: ModelFacts("engine"))
US = 1_000


class Clocks:
    """A thread's clock and the wall's, moved by hand; how often the first was read."""

    def __init__(self) -> None:
        self.wall = self.cpu = 1_000_000_000
        self.reads = 0

    def thread_time_ns(self) -> int:
        self.reads += 1
        return self.cpu

    def monotonic_ns(self) -> int:
        return self.wall

    def run(self, wall_us: float, cpu_us: float | None = None) -> None:
        self.wall += round(wall_us * US)
        self.cpu += round((wall_us if cpu_us is None else cpu_us) * US)

    def call(self, wall_us: float, cpu_us: float | None = None, *, plain: bool = True) -> float:
        """One call of so many microseconds; the CPU time that it was given, in the same."""
        one = begin(SPEC, None, (), {}, plain)
        assert one is not None
        self.run(wall_us, cpu_us)
        finish(one, None)
        return one.cpu_ns / US


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    one = Clocks()
    monkeypatch.setattr(hot, "thread_time_ns", one.thread_time_ns)
    monkeypatch.setattr(hot, "monotonic_ns", one.monotonic_ns)
    pace.paces.clear()
    replace_state(lambda here: None)
    yield one
    replace_state(None)
    pace.paces.clear()


def test_brief_calls_alike_read_the_clock_once_in_eight(clocks: Clocks) -> None:
    assert [clocks.call(100.0) for _ in range(400)] == [100.0] * 400
    assert clocks.reads < 400 * 2 / 8 + 20


def test_the_part_of_its_time_that_a_call_uses_the_cpu_for_is_learned(clocks: Clocks) -> None:
    told = [clocks.call(200.0, 120.0) for _ in range(400)]
    assert sum(told) == pytest.approx(400 * 120.0, rel=0.001)
    assert clocks.reads < 400 * 2 / 8 + 20


def test_calls_that_differ_read_it_each_time(clocks: Clocks) -> None:
    chance = random.Random(3)
    true = [chance.uniform(20.0, 200.0) for _ in range(200)]
    assert [round(clocks.call(200.0, cpu), 3) for cpu in true] == [round(cpu, 3) for cpu in true]
    assert clocks.reads == 400


@pytest.mark.parametrize("plain", [True, False])
def test_long_calls_and_those_that_are_not_plain_read_it_each_time(clocks: Clocks, plain: bool) -> None:
    wall = 2000.0 if plain else 50.0
    assert [clocks.call(wall, 30.0, plain=plain) for _ in range(20)] == [30.0] * 20
    assert clocks.reads == 40


def test_a_call_that_turns_out_long_is_given_no_more_than_its_thread_used(clocks: Clocks) -> None:
    for _ in range(6):  # by now the clock is not read
        clocks.call(100.0)
    assert clocks.call(50_000.0, 300.0) == 300.0, "it waited: nothing else ran since the clock was read"
    reads = clocks.reads
    assert clocks.call(50_000.0, 300.0) == 300.0
    assert clocks.reads == reads + 2, "the next ones read the clock"


def test_what_the_service_did_in_between_is_the_most_that_it_can_be_wrong_by(clocks: Clocks) -> None:
    for _ in range(6):
        clocks.call(100.0)
        clocks.run(1000.0, 40.0)
    told = clocks.call(50_000.0, 300.0)
    assert 300.0 <= told <= 300.0 + 6 * 40.0


def test_in_a_mixture_of_brief_and_long_calls_the_sum_stays_right(clocks: Clocks) -> None:
    chance = random.Random(7)
    told = true = worst = 0.0
    for _ in range(5000):
        brief = chance.random() < 0.8
        wall = chance.uniform(20.0, 400.0) if brief else chance.uniform(1000.0, 20_000.0)
        cpu = wall * chance.uniform(0.95, 1.0) if brief else wall * chance.uniform(0.05, 1.0)
        given = clocks.call(wall, cpu)
        told, true, worst = told + given, true + cpu, max(worst, given - cpu)
        clocks.run(chance.uniform(0.0, 300.0), 10.0)
    assert told == pytest.approx(true, rel=0.002)
    assert worst < 500.0


def test_a_thread_with_the_number_of_one_that_ended_has_a_clock_of_its_own(clocks: Clocks) -> None:
    for _ in range(6):
        clocks.call(100.0)
    clocks.cpu = 0  # the next thread's
    assert clocks.call(5_000.0, 700.0) == 700.0


def test_threads_without_end_are_forgotten(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100_000))
    monkeypatch.setattr(hot, "get_ident", lambda: next(numbers))
    for _ in range(6000):
        clocks.call(30.0)
    assert len(pace.paces) <= pace._MAX_PACES


def test_real_threads_are_told_apart_and_their_sums_are_what_they_used() -> None:
    replace_state(lambda here: None)
    pace.paces.clear()
    told: dict[str, tuple[float, float]] = {}

    def work(name: str, pause: float) -> None:
        given, used = 0, 0
        for number in range(300):
            one = begin(SPEC, None, (), {}, True)
            before = time.thread_time_ns()
            end = before + 60_000
            while time.thread_time_ns() < end:
                pass
            used += time.thread_time_ns() - before
            finish(one, None)
            given += one.cpu_ns
            if pause and number % 3 == 0:
                time.sleep(pause)
        told[name] = given, used

    try:
        threads = [threading.Thread(target=work, args=one) for one in (("busy", 0.0), ("paced", 0.001))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        replace_state(None)
        pace.paces.clear()
    for given, used in told.values():
        assert given == pytest.approx(used, rel=0.25)
