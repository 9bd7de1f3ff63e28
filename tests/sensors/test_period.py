"""The update period of counters, from readings of simulated ones whose period is known."""

from __future__ import annotations

import random

import pytest

from ecolyzer_otel.sensors import PeriodEstimator


def _read(estimator, seconds, read, *, period, phase=0.03, start=0.0, jitter=0.0, watts=lambda t: 100.0, seed=1):
    """Read a counter that is updated every ``period`` seconds, every ``read`` seconds."""
    rng = random.Random(seed)
    joules, updated = start * 1e6, start + phase
    t = start
    while t < start + seconds:
        t += read * (1 + jitter * rng.uniform(-1, 1))
        while updated <= t:
            joules += watts(updated) * period
            updated += period * (1 + jitter * rng.uniform(-1, 1))
        estimator.add(round(t * 1e9), joules)
    return estimator


@pytest.mark.parametrize(
    ("period", "read"), [(0.1, 0.02), (0.1, 0.03), (0.25, 0.1), (1.0, 0.1), (0.02, 0.005), (1.0, 0.3)]
)
def test_the_period_is_found_whatever_the_reads(period, read):
    estimator = _read(PeriodEstimator(0.05), 30.0, read, period=period)
    assert estimator.seconds == pytest.approx(period, rel=0.15)


def test_jitter_of_both_does_not_matter():
    estimator = _read(PeriodEstimator(0.1), 20.0, 0.02, period=0.1, jitter=0.3)
    assert estimator.seconds == pytest.approx(0.1, rel=0.15)


def test_a_counter_that_moves_at_every_read_says_nothing():
    assert _read(PeriodEstimator(0.001), 10.0, 0.1, period=0.001).seconds == 0.001


def test_read_at_its_own_pace_it_does_not_seem_slower():
    estimator = _read(PeriodEstimator(0.1), 3.0, 0.02, period=0.1)
    assert not estimator.learning
    before = estimator.seconds
    _read(estimator, 100.0, 0.1, period=0.1, start=3.0, jitter=0.05)
    assert estimator.seconds == pytest.approx(before, rel=0.03)


def test_a_counter_that_stands_still_when_idle_keeps_its_period():
    """Nothing is drawn for 0.9 of every second: the counter moves for a tenth of the time."""
    estimator = _read(
        PeriodEstimator(0.5), 30.0, 0.01, period=0.05, watts=lambda t: 100.0 if t % 1.0 < 0.4 else 0.0
    )
    assert estimator.seconds == pytest.approx(0.05, rel=0.2)


def test_a_counter_that_becomes_slower_is_noticed():
    estimator = _read(PeriodEstimator(0.1), 5.0, 0.02, period=0.1)
    _read(estimator, 60.0, 0.1, period=1.0, start=5.0)
    assert estimator.seconds == pytest.approx(1.0, rel=0.15)


def test_a_counter_that_becomes_faster_is_noticed_when_it_is_learned_again():
    estimator = _read(PeriodEstimator(1.0), 20.0, 0.05, period=1.0)
    assert estimator.seconds == pytest.approx(1.0, rel=0.1)
    _read(estimator, 270.0, 1.0, period=0.2, start=20.0)
    assert not estimator.learning
    t = 290.0
    while not estimator.learning:
        t += 1.0
        estimator.add(round(t * 1e9), t)
    _read(estimator, 10.0, 0.05, period=0.2, start=t)
    assert estimator.seconds == pytest.approx(0.2, rel=0.15)


def test_learning_ends_by_itself_where_nothing_moves():
    estimator = PeriodEstimator(0.1)
    for n in range(50):
        estimator.add(n * 10**8, 5.0)
    assert not estimator.learning
    assert estimator.seconds == 0.1


def test_a_loss_is_no_period():
    estimator = PeriodEstimator(0.1)
    for n in range(20):
        t = n * 1_000_000_000
        for step in range(3):
            estimator.add(t + step * 10**7, float(n))
        estimator.forget()
    assert estimator.seconds == 0.1
