"""From readings to intervals: what a counter that wraps, restarts, spikes, jumps or stands still says."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecolyzer_otel.ledger import SensorSpec
from ecolyzer_otel.ledger.counter_wraps import Counter
from ecolyzer_otel.ledger.types import Interval

S = 1_000_000_000
MS = 1_000_000


def counter(**spec: float) -> Counter:
    return Counter(SensorSpec(id="d", component="cpu", **spec))  # type: ignore[arg-type]


def feed(one: Counter, *readings: tuple[float, float], last: bool = False) -> list[Interval]:
    """Intervals of readings (seconds, joules)."""
    found = [interval for t, joules in readings for interval in one.add(round(t * S), joules)]
    return [*found, *one.flush()] if last else found


def warmed(watts: float = 10.0, seconds: int = 10, **spec: float) -> Counter:
    """A counter that is known to rise by ``watts``, read every second, the last time at ``seconds``."""
    one = counter(**spec)
    wrap = spec.get("wrap_joules", float("inf"))
    intervals = feed(one, *[(t, watts * t % wrap) for t in range(seconds + 1)])
    assert [interval.joules for interval in intervals] == [watts] * seconds
    assert one.faults == {}
    return one


def said(intervals: list[Interval]) -> list[tuple[float, float, float, bool]]:
    return [(one.start_ns / S, one.end_ns / S, one.joules, one.usable) for one in intervals]


# Wraps.


def test_a_counter_that_wrapped_goes_on_where_it_would_be() -> None:
    one = counter(wrap_joules=1000.0)
    # 10 J up to the wrap, 10 J from there.
    assert said(feed(one, (0, 990.0), (1, 10.0), (2, 25.0))) == [(0, 1, 20.0, True), (1, 2, 15.0, True)]
    assert one.faults == {}


def test_rounds_that_nobody_saw_are_counted_by_the_mean_power() -> None:
    one = warmed(50.0, wrap_joules=100.0)
    # At 10 s it shows 0; 5.2 s later 60: 60 J and as many rounds of 100 J as come nearest to 50 W x 5.2 s = 260 J.
    (interval,) = feed(one, (15.2, 60.0))
    assert (interval.joules, interval.usable) == (60.0 + 2 * 100.0, True)
    assert one.faults == {"wrapped_unseen": 1}


def test_rounds_that_nobody_saw_are_counted_where_the_last_one_wrapped() -> None:
    one = warmed(50.0, seconds=11, wrap_joules=100.0)
    # At 11 s it shows 50; 5.4 s later 20: 70 J over the wrap, and two rounds more for 50 W x 5.4 s = 270 J.
    (interval,) = feed(one, (16.4, 20.0))
    assert (interval.joules, one.faults) == (270.0, {"wrapped_unseen": 1})


def test_a_counter_that_wrapped_to_where_it_was_did_not_stand_still() -> None:
    one = warmed(50.0, wrap_joules=100.0)
    (interval,) = feed(one, (14, 0.0))
    assert (interval.joules, interval.usable) == (200.0, True)


def test_no_more_rounds_are_counted_than_the_sensor_can_have_drawn() -> None:
    one = warmed(50.0, wrap_joules=100.0, max_watts=50.0)
    # The mean says 260 J; 50 W over 5.1 s are 255 J at most.
    (interval,) = feed(one, (15.1, 60.0))
    assert interval.joules <= 255.0
    assert "wrapped_unseen" not in one.faults


@pytest.mark.parametrize("seconds", [0.9, 1.4])
def test_no_round_is_claimed_where_the_gap_was_too_short_for_one(seconds: float) -> None:
    one = warmed(50.0, wrap_joules=100.0)
    # 50 W over 1.4 s are 70 J: less than three quarters of a round, even though only 5 J are seen.
    (interval,) = feed(one, (10 + seconds, 5.0))
    assert (interval.joules, one.faults) == (5.0, {})


def test_no_round_is_claimed_before_the_mean_power_is_known() -> None:
    one = counter(wrap_joules=100.0)
    assert said(feed(one, (0, 0.0), (1, 50.0), (9, 60.0))) == [(0, 1, 50.0, True), (1, 9, 10.0, True)]


# Restarts and steps back.


def test_after_an_announced_reset_what_it_shows_was_drawn_since_and_is_not_all() -> None:
    one = warmed()
    one.announce("reset")
    assert said(feed(one, (11, 4.0), (12, 14.0))) == [(10, 11, 4.0, False), (11, 12, 10.0, True)]
    assert one.faults == {"reset": 1}


def test_a_silent_restart_is_believed_once_the_next_reading_confirms_it() -> None:
    one = warmed()
    assert feed(one, (11, 4.0)) == []
    # 4 J can have been drawn within a second at about 10 W; that it goes on from there makes it a restart.
    assert said(feed(one, (12, 14.0))) == [(10, 11, 4.0, False), (11, 12, 10.0, True)]
    assert one.faults == {"backwards": 1}


def test_a_step_back_counts_nothing_for_its_interval() -> None:
    one = warmed()
    # 100 J, 95 J, 105 J: it goes on from 95. Nobody drew 95 J within the second in which it fell.
    assert said(feed(one, (11, 95.0), (12, 105.0))) == [(10, 11, 0.0, False), (11, 12, 10.0, True)]
    assert one.faults == {"backwards": 1}


def test_one_wrong_low_reading_between_two_right_ones_is_left_out() -> None:
    one = warmed()
    assert said(feed(one, (11, 3.0), (12, 120.0), (13, 130.0))) == [(10, 12, 20.0, True), (12, 13, 10.0, True)]
    assert one.faults == {"backwards": 1}


# Spikes and jumps.


def test_a_spike_that_falls_back_costs_one_reading_and_no_joule() -> None:
    one = warmed()
    # 4 x 10 W x 1 s = 40 J is the most that is believed at once: 500 J wait for the next reading.
    assert feed(one, (11, 600.0)) == []
    assert said(feed(one, (12, 120.0))) == [(10, 12, 20.0, True)]
    assert one.faults == {"spike": 1}


def test_a_rise_that_goes_on_is_a_load() -> None:
    one = warmed()
    assert feed(one, (11, 600.0)) == []
    assert said(feed(one, (12, 1100.0))) == [(10, 11, 500.0, True), (11, 12, 500.0, True)]
    assert one.faults == {}


def test_a_rise_beyond_any_device_that_goes_on_as_before_is_a_jump_and_no_power() -> None:
    one = warmed()
    # 2000 W over one second are the most that any load is taken to draw.
    jumped, after = feed(one, (11, 2200.0), (12, 2210.0))
    assert (jumped.joules, jumped.usable, jumped.jumped) == (2100.0, False, True)
    assert (after.joules, after.usable, after.jumped) == (10.0, True, False)
    assert one.faults == {"jump": 1}
    assert one.mean_watts == pytest.approx(10.0)


def test_a_rise_of_kilowatts_that_lasts_is_a_load() -> None:
    one = warmed()
    intervals = feed(one, (11, 2200.0), (12, 4300.0))
    assert [(interval.joules, interval.jumped) for interval in intervals] == [(2100.0, False), (2100.0, False)]


def test_while_little_is_known_every_rise_is_believed_at_once() -> None:
    one = warmed(seconds=7)
    assert said(feed(one, (8, 600.0))) == [(7, 8, 530.0, True)]


def test_what_a_suspended_machine_counted_is_marked() -> None:
    one = warmed()
    one.announce("suspend")
    asleep, after = feed(one, (3610, 2000.0), (3611, 2010.0))
    assert (asleep.joules, asleep.usable, asleep.jumped) == (1900.0, False, True)
    assert (after.joules, after.usable, after.jumped) == (10.0, True, False)
    assert one.mean_watts == pytest.approx(10.0), "nor is it the power of the machine at work"


def test_a_suspended_machine_may_restart_its_counters() -> None:
    one = warmed()
    one.announce("suspend")
    (asleep,) = feed(one, (3610, 7.0))
    assert (asleep.joules, asleep.usable, asleep.jumped) == (7.0, False, True)


def test_more_than_the_sensor_can_draw_counts_nothing() -> None:
    one = counter(max_watts=500.0)
    assert said(feed(one, (0, 0.0), (1, 501.0), (2, 601.0))) == [(0, 1, 0.0, False), (1, 2, 100.0, True)]
    assert one.faults == {"absurd": 1}


def test_a_short_interval_may_show_the_joules_of_a_whole_update() -> None:
    one = counter(max_watts=500.0)
    # 40 J within a millisecond are 40 kW: a counter that moves every 100 ms was read just before and after.
    assert said(feed(one, (0, 0.0), (0.001, 40.0))) == [(0, 0.001, 40.0, True)]


# Repeats.


def test_repeated_readings_are_one_interval() -> None:
    assert said(feed(counter(), (0, 0.0), (0.25, 0.0), (0.5, 0.0), (1, 9.0))) == [(0, 1, 9.0, True)]


def test_a_counter_that_stands_still_for_long_does_not_tell_all() -> None:
    one = counter()
    # Within 1.5 s it may only be slow.
    assert said(feed(one, (0, 5.0), (1, 5.0), (1.6, 5.0), (2, 8.0))) == [(0, 1.6, 0.0, False), (1.6, 2, 3.0, True)]


def test_a_reading_that_was_held_is_taken_as_it_is_when_no_more_come() -> None:
    assert said(feed(warmed(), (11, 600.0), last=True)) == [(10, 11, 500.0, True)]
    # A fall to 4 J may be a restart, one to 95 J cannot be.
    assert said(feed(warmed(), (11, 4.0), last=True)) == [(10, 11, 4.0, False)]
    assert said(feed(warmed(), (11, 95.0), last=True)) == [(10, 11, 0.0, False)]


def test_nothing_comes_of_a_flush_with_nothing_held() -> None:
    assert feed(warmed(), last=True) == []


# Whatever comes.

steps = st.lists(st.tuples(st.integers(1, 3_000), st.floats(0, 9_000) | st.floats(0, 5)), min_size=1, max_size=80)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_every_joule_that_a_rising_counter_grew_is_in_exactly_one_interval(grown: list[tuple[int, float]]) -> None:
    times = [0, *accumulate(ms * MS for ms, _ in grown)]
    values = [0.0, *accumulate(joules for _, joules in grown)]
    one = counter()
    intervals = feed(one, *[(t / S, value) for t, value in zip(times, values, strict=True)], last=True)
    assert sum(interval.joules for interval in intervals) == pytest.approx(values[-1], rel=1e-9, abs=1e-9)
    ends = [0, *(interval.end_ns for interval in intervals)]
    assert [interval.start_ns for interval in intervals] == ends[:-1]
    assert ends == sorted(set(ends))


wrapping = st.lists(st.tuples(st.integers(1, 1_000), st.floats(0, 100)), min_size=1, max_size=80)


@given(wrapping)
@settings(max_examples=100, deadline=None)
def test_nor_does_one_that_wraps_lose_or_invent_any(grown: list[tuple[int, float]]) -> None:
    # At most 100 W: never three quarters of a round of 1000 J in the second between two readings.
    times = [0, *accumulate(ms * MS for ms, _ in grown)]
    values = [0.0, *accumulate(watts * ms / 1e3 for ms, watts in grown)]
    one = counter(wrap_joules=1000.0, max_watts=150.0)
    readings = [(t / S, value % 1000.0) for t, value in zip(times, values, strict=True)]
    intervals = feed(one, *readings, last=True)
    assert sum(interval.joules for interval in intervals) == pytest.approx(values[-1], rel=1e-9, abs=1e-6)
    assert one.faults == {}


@given(st.lists(st.tuples(st.integers(1, 2_000), st.floats(0, 1e5)), max_size=30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_no_interval_is_negative_or_beyond_the_sensor_however_wild_the_readings(
    readings: list[tuple[int, float]], wraps: bool
) -> None:
    one = counter(max_watts=300.0, **({"wrap_joules": 65_000.0} if wraps else {}))
    times = accumulate(ms * MS for ms, _ in readings)
    joules = [value for _, value in readings]
    for interval in feed(one, *[(t / S, value) for t, value in zip(times, joules, strict=True)], last=True):
        seconds = max(1.0, (interval.end_ns - interval.start_ns) / S)
        assert 0.0 <= interval.joules <= 300.0 * seconds
