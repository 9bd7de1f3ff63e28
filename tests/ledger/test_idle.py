"""Idle power where no table gives it: by the state of the device, from quiet intervals, else from the intercept."""

from __future__ import annotations

from itertools import pairwise

import pytest
from simulated import Run, S, drive, readings, record, requests

from ecolyzer_otel.ledger import Ledger, SensorSpec
from ecolyzer_otel.ledger.idle import IdleLevels, State
from ecolyzer_otel.ledger.intensity import Intensity
from ecolyzer_otel.ledger.types import Interval


def levels(**spec: float) -> IdleLevels:
    return IdleLevels(SensorSpec(id="d", component="gpu", **spec), Intensity(learn_idle=True))  # type: ignore[arg-type]


def see(one: IdleLevels, *watts: float, state: State = "cold", quiet: bool = True, seconds: float = 1.0) -> None:
    for power in watts:
        one.observe(Interval("d", 0, round(seconds * S), power * seconds), state, quiet=quiet)


# Quiet intervals.


def test_the_lowest_quiet_interval_counts() -> None:
    one = levels()
    see(one, 30.0, 25.0, 28.0)
    assert one.watts("cold") == 25.0


def test_a_device_that_holds_a_service_idles_at_another_level_than_a_cold_one() -> None:
    one = levels()
    see(one, 25.0, 24.0, state="cold")
    see(one, 70.0, 75.0, state="loaded")
    assert (one.watts("cold"), one.watts("loaded")) == (24.0, 70.0)


def test_while_only_the_cold_level_is_known_it_is_taken_for_the_loaded_one() -> None:
    one = levels()
    see(one, 25.0, state="cold")
    assert one.watts("loaded") == 25.0


def test_the_loaded_level_is_never_taken_for_the_cold_one() -> None:
    one = levels()
    see(one, 70.0, state="loaded")
    assert one.watts("cold") == 0.0


def test_a_level_rises_only_after_thirty_quiet_intervals_in_a_row_above_it() -> None:
    one = levels()
    see(one, 20.0, *[40.0] * 28, 38.0)
    assert one.watts("cold") == 20.0
    see(one, 41.0)
    assert one.watts("cold") == 38.0, "the lowest of the thirty"


def test_one_quiet_interval_at_the_level_begins_the_thirty_anew() -> None:
    one = levels()
    see(one, 20.0, *[40.0] * 29, 20.0, *[40.0] * 29)
    assert one.watts("cold") == 20.0


def test_load_neither_raises_nor_lowers_it() -> None:
    one = levels()
    see(one, 20.0)
    see(one, *[300.0] * 100, quiet=False)
    assert one.watts("cold") == 20.0
    see(one, *[5.0] * 100, quiet=False)
    assert one.watts("cold") == 20.0


@pytest.mark.parametrize(
    "interval",
    [
        Interval("d", 0, S // 25, 0.04),  # 1 W, but of 40 ms
        Interval("d", 0, S, 1.0, usable=False),
        Interval("d", 0, S, 0.0),
    ],
    ids=["short", "not-usable", "nothing-told"],
)
def test_an_interval_that_does_not_tell_power_teaches_nothing(interval: Interval) -> None:
    one = levels()
    see(one, 20.0)
    one.observe(interval, "cold", quiet=True)
    assert one.watts("cold") == 20.0


# Before anything is known.


def test_without_table_and_quiet_intervals_all_is_active() -> None:
    one = levels()
    see(one, 100.0, quiet=False)
    assert one.watts("cold") == 0.0


def test_until_it_is_learned_the_prior_of_the_tables_holds() -> None:
    one = levels(idle_prior_watts=30.0)
    assert one.watts("cold") == 30.0
    see(one, 100.0, quiet=False)
    assert one.watts("cold") == 30.0
    see(one, 45.0)
    assert one.watts("cold") == 45.0, "what is seen counts more than a table"


def test_the_prior_is_never_above_the_lowest_power_seen() -> None:
    one = levels(idle_prior_watts=30.0)
    see(one, 12.0, 50.0, quiet=False)
    assert one.watts("cold") == 12.0


def test_idle_power_that_is_given_is_never_changed() -> None:
    one = levels(idle_watts=60.0)
    see(one, *[10.0] * 50, *[200.0] * 50)
    see(one, *[10.0] * 50, quiet=False)
    assert (one.watts("cold"), one.watts("loaded")) == (60.0, 60.0)
    assert one.deviation("cold") == 0.0


# A device that is never quiet.


def busy(seed: int, seconds: int) -> list[Run]:
    """One or several at a time, of two kinds, and never none."""
    runs = requests(seed, seconds, {"a": 60.0, "b": 120.0}, rate=6.0, duration=0.3, spread=0.1)
    reach, fillers = 0, []
    for one in [*runs, Run("end", "", seconds * S, seconds * S, 0.0)]:
        if one.start_ns > reach:
            kind = "ab"[len(fillers) % 2]
            fillers.append(Run(f"filler-{one.id}", kind, reach, one.start_ns, {"a": 60.0, "b": 120.0}[kind]))
        reach = max(reach, one.end_ns)
    return runs + fillers


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_where_no_instant_is_quiet_it_is_the_power_that_no_activity_explains(seed: int) -> None:
    ledger = Ledger([SensorSpec(id="gpu0", component="gpu", idle_watts=None, idle_prior_watts=25.0)])
    runs = busy(seed, 200)
    drive(ledger, map(record, runs), readings(runs, 200 * S, idle=80.0))
    assert ledger.sensors["gpu0"].idle_watts == pytest.approx(80.0, rel=0.1)


def test_an_intercept_is_never_above_the_lowest_power_seen() -> None:
    ledger = Ledger([SensorSpec(id="gpu0", component="gpu", idle_watts=None)])
    runs = busy(4, 100)
    samples = readings(runs, 100 * S, idle=80.0)
    drive(ledger, map(record, runs), samples)
    lowest = min((b[1] - a[1]) / ((b[0] - a[0]) / S) for a, b in pairwise(samples))
    assert ledger.sensors["gpu0"].idle_watts <= lowest * (1 + 1e-9)


def test_what_is_learned_of_idle_power_by_load_is_the_truth_that_a_quiet_minute_shows() -> None:
    ledger = Ledger([SensorSpec(id="gpu0", component="gpu", idle_watts=None)])
    runs = requests(5, 100, {"a": 60.0, "b": 120.0}, rate=4.0, spread=0.1)
    drive(ledger, map(record, runs), readings(runs, 160 * S, idle=80.0))
    assert ledger.sensors["gpu0"].idle_watts == pytest.approx(80.0, rel=0.02)


# The states of a device, as the ledger tells them.


def test_a_gpu_is_loaded_once_a_request_ran_on_it_and_cold_when_its_service_is_gone() -> None:
    ledger = Ledger([SensorSpec(id="gpu0", component="gpu", idle_watts=None)])
    book = ledger.sensors["gpu0"]
    run = Run("r", "a", 2 * S, 3 * S, 100.0)
    # 20 W, then 120 W by the request, then 60 W with its weights in memory.
    ledger.record(record(run))
    for t, joules in ((0, 0.0), (1, 20.0), (2, 40.0), (3, 160.0), (4, 220.0), (5, 280.0)):
        ledger.sample("gpu0", t * S, joules)
        ledger.advance(t * S)
    assert book.idle_watts == 60.0
    ledger.activity.forget_process(1)
    ledger.sample("gpu0", 6 * S, 300.0)
    ledger.advance(6 * S)
    assert book.idle_watts == 20.0


def test_joules_set_aside_for_a_loaded_device_are_those_of_its_level() -> None:
    ledger = Ledger([SensorSpec(id="gpu0", component="gpu", idle_watts=None)])
    runs = [Run("first", "a", S, 2 * S, 100.0), Run("second", "a", 4 * S, 5 * S, 100.0)]
    samples = [(0, 0.0), (S, 20.0), (2 * S, 140.0), (3 * S, 200.0), (4 * S, 260.0), (5 * S, 400.0)]
    settled = drive(ledger, map(record, runs), samples)
    # Cold at 20 W when the first began, loaded at 60 W when the second did.
    assert (settled["first"].active_joules, settled["first"].idle_joules) == pytest.approx((100.0, 20.0))
    assert (settled["second"].active_joules, settled["second"].idle_joules) == pytest.approx((80.0, 60.0))
