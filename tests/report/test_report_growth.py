"""How much counters grew, sample by sample: restarts that show and restarts that do not."""

from __future__ import annotations

import pytest

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.report.growth import Growth, Key, Window

CPU: Key = (Metric.METER_CPU.stem, "")
DEVICE: Key = (Metric.DEVICE_ENERGY.stem, "", "gpu0")
A: Key = (Metric.REQUESTS.stem, "", "a")
B: Key = (Metric.REQUESTS.stem, "", "b")
Samples = dict[Key, list[tuple[float, float]]]


def step(
    growth: Growth, samples: Samples, *, new: bool = False, watts: float = 0.0, read: bool = True
) -> dict[Key, float]:
    """One step in which all samples were read, or only the last of each series."""
    window = Window(new, samples, watts) if read else None
    if window is not None:
        growth.find_restarts("m", window)
    grown = {key: growth.advance("m", key, points[-1][1], window) for key, points in samples.items()}
    growth.register({"m"})
    return grown


def known(**values: float) -> Growth:
    growth = Growth()
    growth.set_baseline("m", CPU, values["cpu"])
    growth.set_baseline("m", A, values["a"])
    return growth


def test_differences_of_last_values() -> None:
    growth = known(cpu=1.0, a=10.0)
    assert step(growth, {CPU: [(1, 1.5)], A: [(1, 14.0)]}, read=False) == {CPU: 0.5, A: 4.0}
    assert step(growth, {A: [(2, 14.0)], B: [(2, 3.0)]}, read=False) == {A: 0.0, B: 3.0}, "B is born"


def test_a_restart_holds_for_counters_that_outgrew_their_earlier_life() -> None:
    growth = known(cpu=9.0, a=10.0)
    grown = step(growth, {CPU: [(1, 9.5), (2, 0.2), (3, 0.3)], A: [(1, 12.0), (2, 15.0), (3, 16.0)]})
    assert grown[A] == 2 + 15 + 1
    assert grown[CPU] == pytest.approx(0.5 + 0.2 + 0.1)


def test_two_restarts_in_a_step() -> None:
    growth = known(cpu=9.0, a=10.0)
    grown = step(growth, {CPU: [(1, 0.2), (2, 0.1)], A: [(1, 11.0), (2, 12.0)]})
    assert grown[A] == 11 + 12


def test_a_series_that_ended_with_its_life_begins_at_0_when_it_comes_back() -> None:
    growth = known(cpu=9.0, a=10.0)
    growth.set_baseline("m", B, 5.0)
    grown = step(growth, {CPU: [(1, 9.1), (2, 0.1)], A: [(1, 13.0)]})
    assert grown[A] == 3.0, "its last samples are of the earlier life"
    later = step(growth, {CPU: [(3, 0.2)], A: [(3, 20.0)], B: [(3, 7.0)]}, read=False)
    assert later == {CPU: 0.2 - 0.1, A: 20.0, B: 7.0}


def test_a_fall_that_nobody_read_counts_what_came_after_it() -> None:
    growth = known(cpu=9.0, a=10.0)
    assert growth.has_reset("m", A, 4.0)
    assert not growth.has_reset("m", A, 10.0)
    assert not growth.has_reset("m", B, 0.0)
    assert step(growth, {A: [(1, 4.0)]}, read=False) == {A: 4.0}


def test_a_meter_that_has_just_begun_counts_from_0() -> None:
    growth = Growth()
    grown = step(growth, {DEVICE: [(1, 500.0), (2, 600.0)], A: [(1, 3.0), (2, 5.0)]}, new=True, watts=50.0)
    assert grown == {DEVICE: 600.0, A: 5.0}
    assert not growth.left_out


def test_a_meter_that_ran_before_counts_what_was_seen() -> None:
    growth = Growth()
    samples: Samples = {DEVICE: [(1, 1e6), (2, 1e6 + 100)], A: [(1, 900.0), (2, 905.0)], B: [(2, 7.0)]}
    grown = step(growth, samples, new=True, watts=50.0)
    assert grown == {DEVICE: 100.0, A: 5.0, B: 7.0}, "B is born while its meter is known"
    assert growth.left_out == {"m": 1e6}


def test_without_power_the_meters_own_time_tells_its_age() -> None:
    assert step(Growth(), {CPU: [(1, 0.8)], A: [(1, 3.0)]}, new=True)[A] == 3.0
    assert step(Growth(), {CPU: [(1, 800.0)], A: [(1, 3.0)]}, new=True)[A] == 0.0
