"""What the ledger holds and does is bounded by what is in flight, not by what it has seen. Counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import count
from types import FrameType
from typing import Any

import numpy as np
import pytest
from simulated import MS, Run, S, readings

from ecolyzer_otel.ledger import Ledger, Record, SensorSpec, Settlement, kind_of

STEP = 100 * MS


def ledger(*components: str, idle: float | None = None) -> Ledger:
    return Ledger(
        SensorSpec(id=name, component=name, idle_watts=idle)  # type: ignore[arg-type]
        for name in components or ("cpu", "gpu")
    )


def record(name: int, start: int, end: int | None, kind: int = 0, pid: int = 1, seen: int | None = None) -> Record:
    last = end if end is not None else seen or start
    return Record(
        id=name,
        pid=pid,
        start_ns=start,
        end_ns=end,
        seen_ns=seen,
        cpu_ns=(last - start) // 2,
        device_busy={"gpu": [[start, last]]},
        kind=kind_of(f"m{kind}"),
    )


def tick(one: Ledger, t_ns: int, joules: float | None = None) -> list[Settlement]:
    """All clocks and counters at a time: 16 CPU seconds and, if none are given, 300 J each second."""
    one.activity.host.add(t_ns, 16 * t_ns / S)
    one.activity.add_process(1, "cpu", t_ns, 12 * t_ns / S)
    one.activity.add_process(1, "pool", t_ns, 8 * t_ns / S)
    for name in one.books:
        one.sample(name, t_ns, 300 * t_ns / S if joules is None else joules)
    return one.advance(t_ns, overdue_ns=t_ns - 5 * S)


def served(requests: int, at_once: int, kinds: int = 3) -> tuple[Ledger, list[Settlement]]:
    """About ``at_once`` requests in flight until so many were served; power follows them, by kind."""
    one, rng, long_s = ledger(), np.random.default_rng(1), 0.35
    starts = np.sort(rng.uniform(0, requests * long_s / at_once, requests))
    chosen = rng.integers(kinds, size=requests)
    runs = [
        Run(
            str(name),
            str(kind),
            round(start * 1e3) * MS,
            round((start + long) * 1e3) * MS,
            20.0 + 30.0 * (kind % 5),
        )
        for name, (start, long, kind) in enumerate(
            zip(starts, rng.uniform(0.5 * long_s, 1.5 * long_s, requests), chosen, strict=True)
        )
    ]
    settled, coming = [], list(reversed(runs))
    for t, joules in readings(runs, round((starts[-1] + 2) * 10) * STEP, idle=30.0):
        while coming and coming[-1].start_ns < t:
            run = coming.pop()
            one.record(record(int(run.id), run.start_ns, run.end_ns, int(run.kind)))
        settled += tick(one, t, joules)
    return one, settled


# What is held.


@pytest.mark.slow
def test_after_twenty_thousand_requests_no_more_is_held_than_after_a_few() -> None:
    one, settled = served(20_000, 10)
    assert len(settled) == 20_000
    assert len(one) == 0
    for book in one.books.values():
        individuals = book.learner.individuals
        assert book.learner.trusted, "or nothing is shared by learned watts"
        assert len(book._pots) == 64
        assert len(book.waiting) == 0
        assert len(individuals._kept) <= 50, "those in flight, and those that went since the last interval"
        assert len(individuals._covariance or ()) <= 50
        assert len(book.learner.intensity.watts) <= 6, "three kinds, idle, process, host"
        assert len(book.rates._kinds) == 3
        assert len(book.learner.ceiling._errors) < 50
    assert max(len(curve._times) for curve in (one.activity.host, one.activity.curve(1, "pool"))) <= 2
    assert len(one.activity.pools._open) <= 1
    assert one.activity.owners == {1}


def test_what_is_held_does_not_grow_with_the_number_of_kinds() -> None:
    one, _ = served(4_000, 20, kinds=1_000)
    for book in one.books.values():
        assert len(book.learner.intensity.watts) == 64
        assert {len(row) for row in book.learner.intensity.covariance} == {64}
        assert len(book.rates._kinds) == 256


def test_a_request_that_lasts_for_hours_holds_no_more_than_the_intervals_that_may_still_move() -> None:
    one, rng, joules = ledger("gpu", idle=0.0), np.random.default_rng(1), 0.0
    tick(one, 0, joules)
    for step in range(1, 3_000):
        now = step * STEP
        part = int(rng.integers(1, 10))
        one.record(record(0, 0, None, seen=now))
        one.record(record(step, now - STEP, now - STEP + part * STEP // 10, kind=1))
        joules += 2.0 + part  # 20 W the long one, 100 W the others
        tick(one, now, joules)
    (live,) = one._live.values()
    assert len(live.accounts["gpu"].pots) == len(one.books["gpu"]._pots) == 64


def test_nor_more_of_its_own_clock_than_open_intervals_need() -> None:
    # A record every 250 ms for as long as it is open: 345 600 a day.
    one = ledger("cpu")
    tick(one, 0)
    for step in range(1, 3_000):
        one.record(record(0, 0, None, seen=step * STEP))
        tick(one, step * STEP)
    (live,) = one._live.values()
    assert len(live._curve._times) < 100


def test_workers_that_come_and_go_leave_nothing_behind() -> None:
    one = ledger()
    for step in range(1, 500):
        now = step * STEP
        one.record(record(step, now - STEP, now, pid=step))
        one.activity.add_process(step, "pool", now, 1.0)
        one.activity.place(step, ["cpu"])
        tick(one, now)
        one.activity.forget_process(step)
    activity = one.activity
    assert activity.owners == set()
    assert {pid for pid, _ in activity._processes} == {1}, "the one that tick tells of"
    assert (activity._placed, activity.pools._open) == ({}, {})


def test_a_sensor_that_is_lost_for_good_holds_nothing_up() -> None:
    one, names = ledger(), count()
    settled = []
    for step in range(2_000):
        now = step * STEP
        one.activity.host.add(now, 16 * now / S)
        one.sample("cpu", now, 30.0 * step)
        if step < 100:
            one.sample("gpu", now, 30.0 * step)
        if step:
            one.record(record(next(names), now - STEP, now))
        settled += one.advance(now, overdue_ns=now - 2 * S)
    assert len(settled) > 1_970
    assert len(one) < 30
    assert len(one.activity.host._times) < 700, "one minute, ten a second"


# Many at once.


@pytest.mark.parametrize("kinds", [1, 3, 200])
def test_512_requests_at_once_are_settled_with_shares_that_add_up(kinds: int) -> None:
    one = ledger()
    settled = tick(one, 0)
    for round_ in range(20):
        begin = round_ * 5 * STEP
        for number in range(512):
            start = begin + number * MS // 2
            one.record(record(round_ * 512 + number, start, start + 200 * MS, number % kinds))
        for step in range(1, 6):
            settled += tick(one, begin + step * STEP)
            for book in one.books.values():
                shares = book.shares
                parts = shares.requests + shares.process + shares.host + shares.idle + shares.pending
                assert parts == pytest.approx(shares.measured)
    assert len(settled) == 20 * 512
    assert {one.method for one in settled} == {"measured"}
    for name, book in one.books.items():
        assert book.shares.measured == pytest.approx(300.0 * 10)
        assert book.shares.pending == 0.0
        assert sum(request.sensors[name][0] for request in settled) == pytest.approx(book.shares.requests)
        assert sum(request.sensors[name][1] for request in settled) <= book.shares.idle * (1 + 1e-9)
        assert min(request.sensors[name][0] for request in settled) > 0.0


def test_more_kinds_at_once_than_columns_lose_nobody() -> None:
    one, settled = ledger("gpu", idle=None), []
    settled += tick(one, 0)
    for step in range(1, 60):
        now = step * STEP
        for number in range(150):  # each lasts for three intervals
            one.record(record(step * 150 + number, now - STEP, now + 2 * STEP, number))
        settled += tick(one, now)
    assert all(request.active_joules >= 0.0 for request in settled)
    assert len(settled) == 57 * 150
    shares = one.books["gpu"].shares
    parts = shares.requests + shares.process + shares.host + shares.idle + shares.pending
    assert parts == pytest.approx(shares.measured)


# What is done.


def operations(work: Callable[[], Any]) -> int:
    """Bytecode instructions of the ledger that ``work`` runs."""
    done = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal done
        if "ledger" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        done += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return done


def crowded(number: int) -> Iterator[int]:
    """Operations of intervals in which so many new requests are in flight from begin to end."""
    one = ledger()
    tick(one, 0)
    for step in range(1, 6):
        for name in range(number):
            one.record(record(step * number + name, (step - 1) * STEP + name, step * STEP - name, name % 3))
        yield operations(lambda now=step * STEP: tick(one, now))  # type: ignore[misc]


@pytest.mark.slow
def test_an_interval_costs_no_more_per_request_with_many_in_flight_than_with_a_few() -> None:
    few, many = sum(list(crowded(50))[1:]), sum(list(crowded(400))[1:])
    assert few > 10_000, "something was counted"
    # Eight times as many: about eight times the work, with logarithms, and by no means 64 times.
    assert many < 10 * few


def test_an_interval_costs_no_more_after_many_requests_than_after_a_few() -> None:
    def after(requests: int) -> int:
        one, _ = served(requests, 10)
        begin = 10_000 * S
        tick(one, begin)

        def work() -> None:
            for step in range(1, 11):
                one.record(record(10**9 + step, begin + (step - 1) * STEP, begin + step * STEP))
                tick(one, begin + step * STEP)

        return operations(work)

    assert after(3_000) < 1.2 * after(300)


def test_readings_that_nothing_happened_between_are_charged_as_one_interval() -> None:
    def with_readings(number: int) -> int:
        one = ledger("cpu", idle=10.0)
        one.record(record(0, 0, 10 * S))
        for at in range(number + 1):
            one.sample("cpu", at * 10 * S // number, at * 1000.0 / number)
        return operations(lambda: one.advance(10 * S))

    # Each costs a few comparisons, not a division among requests.
    assert (with_readings(1_000) - with_readings(10)) / 990 < 100
