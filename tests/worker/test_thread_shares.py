"""CPU time of calls that take turns in one thread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.state import State
from ecolyzer_otel.worker.thread_shares import ThreadShares

SPEC = CallSpec("custom", "infer", describe=lambda model: ModelFacts("engine"))
MS = 1_000_000


def call(start: float, end: float | None, cpu: tuple[float, float | None] | None = None, thread: int = 1) -> Call:
    """A call from ``start`` to ``end`` ms on the wall clock; on the clock of its thread the same, unless told."""
    one = Call(SPEC, None, State())
    low, high = cpu or (start, end)
    one.thread, one.start_ns, one.cpu_start_ns = thread, int(start * MS), int(low * MS)
    if end is not None:
        assert high is not None
        one.end_ns, one.cpu_ns = int(end * MS), int((high - low) * MS)
    return one


def milliseconds(shares: ThreadShares, done: list[Call], running: list[Call] = (), clock: float = 0) -> list[float]:  # type: ignore[assignment]
    found = shares.spent(done, running, {1: int(clock * MS)})
    return [found[id(one)] / MS for one in (*done, *running)]


def test_calls_one_after_the_other_have_what_the_clock_grew():
    assert milliseconds(ThreadShares(), [call(0, 4), call(4, 6), call(7, 8)]) == [4, 2, 1]


def test_calls_of_different_threads_do_not_share():
    assert milliseconds(ThreadShares(), [call(0, 4), call(1, 5, thread=2)]) == [4, 4]


def test_two_that_overlap_share_what_they_have_in_common():
    assert milliseconds(ThreadShares(), [call(0, 4), call(2, 6)]) == [3, 3]


def test_many_that_interleave_together_have_what_the_thread_used():
    calls = [call(n, n + 10) for n in range(10)]
    assert sum(milliseconds(ThreadShares(), calls)) == pytest.approx(19)


def test_a_finished_call_shares_with_one_that_is_still_open_and_both_reports_agree():
    shares = ThreadShares()
    long, short = call(0, None), call(2, 4)
    assert milliseconds(shares, [short], [long], clock=6) == [1, 5]
    long.end_ns, long.cpu_ns = 10 * MS, 10 * MS
    assert milliseconds(shares, [long]) == [9], "the two that it shared are remembered"


def test_what_was_told_of_an_open_call_never_falls():
    shares = ThreadShares()
    long = call(0, None)
    told = [milliseconds(shares, [call(t, t + 2)], [long], clock=t + 3)[1] for t in (2, 6, 10)]
    assert told == sorted(told) == [4, 7, 10]


def test_an_open_call_whose_thread_has_no_clock_has_nothing_yet():
    assert milliseconds(ThreadShares(), [], [call(0, None)]) == [0]


def test_a_thread_that_got_the_number_of_one_that_ended_shares_nothing_with_it():
    shares = ThreadShares()
    # The old thread's clock stood at 1000 ms; the new one's begins at 0.
    old, new = call(0, 4, cpu=(1000, 1004)), call(5, 9, cpu=(0, 4))
    assert milliseconds(shares, [old, new]) == [4, 4]


def test_a_thread_with_a_new_number_and_an_open_call_shares_nothing_with_the_old_one():
    shares = ThreadShares()
    old, new = call(0, 4), call(5, None, cpu=(0, None))
    assert milliseconds(shares, [old], [new], clock=4) == [4, 4]


def test_nothing_is_remembered_when_nothing_is_open():
    shares = ThreadShares()
    for n in range(0, 1000, 10):
        milliseconds(shares, [call(n, n + 8), call(n + 2, n + 9)])
    assert shares._threads == {}


def test_one_that_is_open_for_long_costs_no_memory_and_shares_exactly():
    shares = ThreadShares()
    long = call(0, None)
    spent = 0.0
    for n in range(2000):
        short, told = milliseconds(shares, [call(n * 2, n * 2 + 1)], [long], clock=n * 2 + 1)
        spent += short
    assert len(shares._threads[1].parts) == 1
    assert told + spent == pytest.approx(2 * 2000 - 1)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=12), st.integers(1, 20))
def test_however_calls_interleave_and_reports_fall_they_have_what_the_thread_used(times, period):
    """Reported every ``period`` ms by what was open then; the total is the union of all, each instant once."""
    ends = {number: start + length for number, (start, length) in enumerate(times)}
    calls = {number: call(start, None) for number, (start, _) in enumerate(times)}
    shares, spent = ThreadShares(), 0.0
    for now in range(0, 100, period):
        done = [number for number, end in ends.items() if end <= now]
        for number in sorted(done, key=ends.__getitem__):
            end = ends.pop(number)
            calls[number].end_ns, calls[number].cpu_ns = end * MS, (end - times[number][0]) * MS
        running = [calls[number] for number in ends if times[number][0] <= now]
        told = shares.spent(
            [calls[number] for number in sorted(done, key=lambda n: calls[n].end_ns)], running, {1: now * MS}
        )
        spent += sum(told[id(calls[number])] for number in done) / MS
    left = [calls[number] for number in ends]
    for number, end in ends.items():
        calls[number].end_ns, calls[number].cpu_ns = end * MS, (end - times[number][0]) * MS
    told = shares.spent(sorted(left, key=lambda one: one.end_ns), [], {})
    spent += sum(told[id(one)] for one in left) / MS
    used = len({ms for start, length in times for ms in range(start, start + length)})
    assert spent == pytest.approx(used, abs=1e-3)
