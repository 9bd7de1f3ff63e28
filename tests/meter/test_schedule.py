"""When sensors are read: the meter's schedule, on a clock that the test moves."""

from __future__ import annotations

import pytest

from ecolyzer_otel.meter.schedule import Schedule
from ecolyzer_otel.sensors import SensorInfo


def _info(**changes: object) -> SensorInfo:
    known = {"update_period_seconds": 0.1, "relative_uncertainty": 0.05} | changes
    return SensorInfo(id="gpu0", component="gpu", method="measured", description="a sensor", **known)


def _run(schedule, pace, seconds, *, period, quiet=0.0, start=0.0, step=0.005):
    """Read whenever it is due, a counter that moves every ``period`` seconds. Gives the times of the readings."""
    times = []
    now = start
    while now < start + seconds:
        if schedule.is_due(now, pace, quiet):
            times.append(now)
            schedule.succeeded(now, round(now * 1e9), float(int(now / period)))
        now += step
    return times


def _spacing(times):
    return (times[-1] - times[0]) / (len(times) - 1)


@pytest.mark.parametrize(
    ("configured", "moves", "spacing"),
    [
        (0.1, 0.001, 0.1),  # RAPL: not faster than configured
        (0.1, 0.1, 0.1),
        (0.02, 0.1, 0.1),  # not faster than it moves
        (0.1, 0.5, 0.5),
        (0.1, 3.0, 1.0),  # a settlement does not wait for longer
        (2.0, 0.1, 2.0),
    ],
)
def test_under_load_at_the_counters_pace_but_not_faster_than_configured(configured, moves, spacing):
    schedule = Schedule(_info(update_period_seconds=moves if moves < 0.1 else 0.1), configured)
    _run(schedule, "load", 40.0, period=moves)
    times = _run(schedule, "load", 100.0, period=moves, start=40.0)
    assert _spacing(times) == pytest.approx(spacing, rel=0.15)


def test_somebody_who_waits_gets_readings_every_20_ms():
    times = _run(Schedule(_info(), 0.1), "flush", 1.0, period=0.1)
    assert _spacing(times) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("pace", "quiet", "spacing"), [("rest", 5, 1.0), ("rest", 61, 10.0), ("unused", 5, 1.0), ("unused", 61, 60.0)]
)
def test_at_rest_ever_less_often(pace, quiet, spacing):
    schedule = Schedule(_info(), 0.1)
    assert schedule.period(pace, quiet) == spacing


def test_not_faster_than_configured_at_rest_either():
    assert Schedule(_info(), 30.0).period("rest", 100.0) == 30.0


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        ({"wrap_joules": 65_536.0, "power_limit_watts": 400.0, "peak_watts": 500.0}, 32.768),
        ({"wrap_joules": 65_536.0, "power_limit_watts": 400.0}, 40.96),
        ({"wrap_joules": 20_000.0}, 20.0),  # 250 W where no limit is known
        ({"wrap_joules": 262_144.0, "power_limit_watts": 200.0}, 60.0),
        ({"longest_gap_seconds": 12.0}, 9.0),
        ({}, 60.0),
    ],
)
def test_alone_as_often_as_the_counter_needs(info, seconds):
    """A quarter of the time to the next wrap; power well within the time over which it is integrated."""
    assert Schedule(_info(**info), 0.1).period("unused", 1000.0) == pytest.approx(seconds)


def test_a_counter_given_up_for_power_is_read_as_power_needs():
    schedule = Schedule(_info(), 0.1)
    schedule.adapt(_info(longest_gap_seconds=12.0))
    assert schedule.period("unused", 1000.0) == pytest.approx(9.0)


def test_a_sensor_that_fails_is_asked_once_a_second():
    schedule = Schedule(_info(), 0.1)
    schedule.failed(10.0)
    assert [schedule.period(pace) for pace in ("flush", "load", "rest")] == [1.0, 1.0, 1.0]
    assert not schedule.is_due(10.5, "load")
    schedule.succeeded(11.0, 11 * 10**9, 1.0)
    assert schedule.period("load") == 0.1


def test_what_is_almost_due_is_read_along():
    schedule = Schedule(_info(), 1.0)
    schedule.succeeded(0.0, 0, 1.0)
    assert [schedule.is_due(now, "load") for now in (0.8, 0.95)] == [False, True]
