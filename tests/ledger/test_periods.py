"""Joules by period of the factors: each is charged at the intensity of its own time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecolyzer_otel.ledger import Ledger, Record, SensorSpec, kind_of
from ecolyzer_otel.meter.impacts import joules_by_period

SECOND = 1_000_000_000
STEP = SECOND // 10


def ledger_of(*sensors: str) -> Ledger:
    return Ledger(SensorSpec(id=name, component="cpu", method="measured", idle_watts=2.0) for name in sensors)


def run(ledger, requests, watts, seconds, turns=()):
    """A machine of so many watts (a function of seconds), each request busy all its time. Settlements by id."""
    joules, settled = 0.0, {}
    waiting = sorted(turns)
    for step in range(round(seconds * 10) + 1):
        now = step * STEP
        while waiting and waiting[0] <= now:
            ledger.begin_period(waiting.pop(0))
        for name in ledger.sensors:
            ledger.sample(name, now, joules)
        joules += watts((step + 0.5) / 10) / 10
        busy = sum(max(0, min(now, end) - start) for start, end in requests.values() if start < now)
        ledger.activity.host.add(now, busy / SECOND)
        for name, (start, end) in requests.items():
            seen = min(now, end)
            if start < now and seen > start and name not in settled:
                closed = end if end <= now else None
                ledger.record(
                    Record(
                        id=name, pid=1, start_ns=start, end_ns=closed, seen_ns=None if closed else seen,
                        cpu_ns=seen - start, kind=kind_of(name),
                    )
                )  # fmt: skip
        for one in ledger.advance(now):
            settled[one.id] = one
    return settled


def test_without_a_turn_all_is_of_the_first_period():
    settled = run(ledger_of("cpu0"), {"a": (0, SECOND)}, lambda _: 10.0, 2)
    assert joules_by_period(settled["a"].charges) == {0: pytest.approx(10.0)}


def test_a_request_over_a_turn_is_charged_in_both_periods_what_it_drew_there():
    settled = run(ledger_of("cpu0"), {"a": (0, 4 * SECOND)}, lambda t: 10.0 if t < 1 else 30.0, 6, [SECOND])
    periods = joules_by_period(settled["a"].charges)
    assert periods == {0: pytest.approx(10.0), 1: pytest.approx(90.0)}


def test_several_sensors_and_turns():
    settled = run(ledger_of("cpu0", "cpu1"), {"a": (0, 3 * SECOND)}, lambda _: 10.0, 5, [SECOND, 2 * SECOND])
    assert joules_by_period(settled["a"].charges) == {n: pytest.approx(20.0) for n in range(3)}


def test_one_that_ended_before_the_turn_stays_before_it_even_if_settled_after():
    ledger = ledger_of("cpu0")
    ledger.sample("cpu0", 0, 0.0)
    ledger.record(Record(id="a", pid=1, start_ns=0, end_ns=SECOND, cpu_ns=SECOND))
    ledger.begin_period(SECOND + 1)
    ledger.sample("cpu0", 2 * SECOND, 20.0)
    (settled,) = ledger.advance(3 * SECOND)
    assert joules_by_period(settled.charges) == {0: pytest.approx(settled.joules)}


def test_one_that_began_after_the_turn_is_all_in_the_new_period():
    settled = run(ledger_of("cpu0"), {"a": (2 * SECOND, 3 * SECOND)}, lambda _: 10.0, 5, [SECOND])
    assert joules_by_period(settled["a"].charges) == {1: pytest.approx(10.0)}


def test_turns_in_the_wrong_order_are_moved_behind_the_last():
    ledger = ledger_of("cpu0")
    assert [ledger.begin_period(t) for t in (5 * SECOND, SECOND, 5 * SECOND)] == [1, 2, 3]


def test_more_turns_than_are_remembered_lose_no_joule():
    turns = [STEP * n for n in range(1, 600)]
    settled = run(ledger_of("cpu0"), {"a": (0, 60 * SECOND)}, lambda _: 10.0, 62, turns)
    periods = joules_by_period(settled["a"].charges)
    assert sum(periods.values()) == pytest.approx(600.0)
    assert periods[500] == pytest.approx(1.0)
    assert min(periods) > 300, "what is too old counts for the oldest that is remembered"


@settings(max_examples=40, deadline=None)
@given(
    edges=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=1, max_size=8),
    turns=st.lists(st.integers(1, 90), unique=True, max_size=6),
)
def test_periods_of_all_requests_add_up_to_what_they_were_charged(edges, turns):
    requests = {f"r{n}": (start * STEP, (start + length) * STEP) for n, (start, length) in enumerate(edges)}
    ledger = ledger_of("cpu0")
    settled = run(ledger, requests, lambda t: 20.0 + 10.0 * math.sin(t), 12, [turn * STEP + 1 for turn in turns])
    assert settled.keys() == requests.keys()
    for name, (start, end) in requests.items():
        periods = joules_by_period(settled[name].charges)
        assert sum(periods.values()) == pytest.approx(settled[name].joules, abs=1e-9)
        assert all(joules >= -1e-9 for joules in periods.values())
        inside = [turn * STEP + 1 for turn in sorted(turns)]
        first = sum(turn <= start for turn in inside)
        last = sum(turn <= end for turn in inside)
        assert set(periods) <= set(range(first, last + 1))
    shares = ledger.sensors["cpu0"].shares
    parts = shares.requests + shares.process + shares.host + shares.idle + shares.pending
    assert parts == pytest.approx(shares.measured, rel=1e-9)


def test_time_is_divided_equally_among_those_in_flight():
    requests = {"a": (0, 2 * SECOND), "b": (SECOND, 3 * SECOND)}
    settled = run(ledger_of("cpu0"), requests, lambda _: 10.0, 5)
    assert {name: one.charges[0].seconds for name, one in settled.items()} == {
        "a": pytest.approx(1.5),
        "b": pytest.approx(1.5),
    }


def test_time_without_readings_counts_as_alone():
    ledger = ledger_of("cpu0")
    for step in range(200):  # so much is known of the kind that it is modelled while nothing is read
        now = step * STEP
        ledger.sample("cpu0", now, step * 1.0)
        ledger.record(Record(id=step, pid=1, start_ns=now, end_ns=now + STEP // 2, cpu_ns=1, kind=kind_of("m")))
        ledger.advance(now)
    late = 300 * STEP
    ledger.record(Record(id="lost", pid=1, start_ns=late, end_ns=late + SECOND, cpu_ns=SECOND, kind=kind_of("m")))
    (settled,) = [one for one in ledger.advance(late, overdue_ns=late + SECOND) if one.id == "lost"]
    assert settled.charges[0].seconds == pytest.approx(1.0)
