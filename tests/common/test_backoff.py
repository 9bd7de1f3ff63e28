"""The wait between attempts."""

from __future__ import annotations

from ecolyzer_otel.common.backoff import Backoff


def test_the_wait_doubles_up_to_the_longest_and_a_success_resets_it() -> None:
    backoff = Backoff(1, 10)
    assert backoff.wait == 0
    assert [backoff.fail() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.succeed()
    assert (backoff.wait, backoff.fail()) == (0, 1)


def test_the_wait_grows_after_so_many_failures_at_the_first_one() -> None:
    backoff = Backoff(0.25, 1.0, tries_at_first=3)
    assert [backoff.fail() for _ in range(6)] == [0.25, 0.25, 0.25, 0.5, 1.0, 1.0]
    backoff.succeed()
    assert [backoff.fail() for _ in range(4)] == [0.25, 0.25, 0.25, 0.5]


def test_no_wait_is_above_the_longest() -> None:
    assert [Backoff(5, 2).fail(), Backoff(5, 2, tries_at_first=9).fail()] == [2, 2]
