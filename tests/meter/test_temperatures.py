"""What a request saw of the temperatures: time mean and maximum, by hand."""

from __future__ import annotations

import pytest

from ecolyzer_otel.meter.temperatures import Temperatures

S = 1_000_000_000


@pytest.fixture
def thermal() -> Temperatures:
    heat = Temperatures()
    for t, celsius in ((0, 40.0), (10, 50.0), (30, 70.0)):
        heat.add("package-0", t * S, celsius)
    return heat


def test_a_reading_stands_until_the_next_one(thermal: Temperatures) -> None:
    # 5 s at 40, 20 s at 50, 5 s at 70
    mean, highest = thermal.over(["package-0"], 5 * S, 35 * S) or (0, 0)
    assert mean == pytest.approx((5 * 40 + 20 * 50 + 5 * 70) / 30)
    assert highest == 70.0


def test_a_request_between_two_readings_saw_the_one_before(thermal: Temperatures) -> None:
    assert thermal.over(["package-0"], 12 * S, 13 * S) == (50.0, 50.0)


def test_a_request_of_no_length_has_a_temperature_too(thermal: Temperatures) -> None:
    assert thermal.over(["package-0"], 12 * S, 12 * S) == (50.0, 50.0)


def test_what_was_before_the_first_reading_is_not_guessed(thermal: Temperatures) -> None:
    heat = Temperatures()
    heat.add("package-0", 10 * S, 60.0)
    assert heat.over(["package-0"], 1 * S, 5 * S) is None
    assert heat.over(["package-0"], 5 * S, 20 * S) == (60.0, 60.0)


def test_of_several_sensors_the_hottest_counts(thermal: Temperatures) -> None:
    thermal.add("package-1", 0, 45.0)
    assert thermal.over(["package-0", "package-1"], 1 * S, 2 * S) == (45.0, 45.0)
    assert thermal.over(["gpu0"], 1 * S, 2 * S) is None
