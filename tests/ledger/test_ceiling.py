"""A power cap: what it does to requests, and when it is found, not found, and given up."""

from __future__ import annotations

import pytest
from simulated import MS, Run, S, drive, readings, record, requests

from ecolyzer_otel.ledger import Ledger, SensorSpec
from ecolyzer_otel.ledger.ceiling import Ceiling

IDLE = 50.0
KINDS = {"light": 60.0, "heavy": 130.0}


def gpu() -> Ledger:
    return Ledger([SensorSpec(id="gpu0", component="gpu", idle_watts=IDLE)])


def ceiling(ledger: Ledger) -> float | None:
    """Active watts."""
    found = ledger.sensors["gpu0"].ceiling_watts
    return None if found is None else found - IDLE


def crowd(seed: int, seconds: float, spread: float = 0.1, begin: float = 0.0) -> list[Run]:
    """About two at a time."""
    return requests(seed, seconds, KINDS, rate=8.0, duration=0.25, spread=spread, begin=begin)


# By hand.


def test_a_ceiling_scales_all_that_run_at_the_same_instant_alike() -> None:
    # 10 W of others. First second 10 + 60, below 100 W; second one 10 + 60 + 80 = 150 W, above; third one 10 + 80.
    spans = [(0, 2 * S, 60.0), (S, 3 * S, 80.0)]
    free, scale, reached = Ceiling.apply(spans, 10.0, 100.0)
    assert free == pytest.approx([1 / 2, 1 / 2])
    assert scale == pytest.approx([(1 + 100 / 150) / 2, (100 / 150 + 1) / 2])
    assert reached == pytest.approx(1.0)


def test_a_ceiling_that_is_not_reached_changes_nothing() -> None:
    assert Ceiling.apply([(0, S, 60.0), (0, S, 40.0)], 0.0, 100.0) == ([1.0, 1.0], [1.0, 1.0], 0.0)


def test_a_request_that_never_ran_below_the_ceiling_teaches_nothing() -> None:
    spans = [(0, 4 * S, 60.0), (S, 2 * S, 140.0)]
    free, scale, reached = Ceiling.apply(spans, 0.0, 100.0)
    assert (free, scale) == (pytest.approx([3 / 4, 0.0]), pytest.approx([(3 + 1 / 2) / 4, 1 / 2]))
    assert reached == pytest.approx(1.0)


def test_requests_that_take_turns_do_not_add_up() -> None:
    assert Ceiling.apply([(0, S, 80.0), (S, 2 * S, 80.0)], 0.0, 100.0) == ([1.0, 1.0], [1.0, 1.0], 0.0)


# Found.


@pytest.mark.parametrize(("cap", "seed"), [(150.0, 1), (150.0, 2), (200.0, 3)])
def test_a_cap_is_found(cap: float, seed: int) -> None:
    ledger, runs = gpu(), crowd(seed, 120.0)
    drive(ledger, map(record, runs), readings(runs, 120 * S, idle=IDLE, cap=cap))
    assert ceiling(ledger) == pytest.approx(cap, rel=0.1)


def test_under_a_cap_kinds_are_learned_as_they_draw_alone() -> None:
    ledger, runs = gpu(), crowd(1, 200.0)
    drive(ledger, map(record, runs), readings(runs, 200 * S, idle=IDLE, cap=150.0))
    intensity = ledger.sensors["gpu0"].learner.intensity
    known = {record(one).kind: KINDS[one.kind] for one in runs}
    assert {kind: intensity.watts_of(kind) for kind in known} == pytest.approx(known, rel=0.12)


def test_what_is_charged_under_a_cap_is_what_was_measured() -> None:
    ledger, runs = gpu(), crowd(1, 120.0)
    samples = readings(runs, 122 * S, idle=IDLE, cap=150.0)
    settled = drive(ledger, map(record, runs), samples)
    shares = ledger.sensors["gpu0"].shares
    assert shares.measured == pytest.approx(samples[-1][1])
    assert sum(one.active_joules for one in settled.values()) == pytest.approx(samples[-1][1] - IDLE * 122)


# Not found.


@pytest.mark.parametrize("seed", [*range(5), 11])
def test_no_cap_is_found_where_there_is_none(seed: int) -> None:
    ledger, runs = gpu(), crowd(seed, 120.0, spread=0.2)
    drive(ledger, map(record, runs), readings(runs, 120 * S, idle=IDLE))
    assert ceiling(ledger) is None


def test_no_cap_is_looked_for_while_requests_run_alone() -> None:
    ledger = gpu()
    runs = [Run(str(at), "light", at * S // 5, at * S // 5 + 150 * MS, 60.0) for at in range(500)]
    drive(ledger, map(record, runs), readings(runs, 100 * S, idle=IDLE, cap=40.0))
    assert ceiling(ledger) is None


def test_a_cap_that_goes_away_is_given_up() -> None:
    ledger = gpu()
    capped, free = crowd(1, 120.0), crowd(2, 300.0, begin=120.0)
    before = readings([*capped, *free], 120 * S, idle=IDLE, cap=150.0)
    after = readings([*capped, *free], 420 * S, idle=IDLE, start_ns=120 * S)
    drive(ledger, map(record, capped), before)
    assert ceiling(ledger) is not None
    drive(ledger, map(record, free), [(t, before[-1][1] + joules) for t, joules in after[1:]])
    assert ceiling(ledger) is None
