"""The wait between attempts."""

from __future__ import annotations

from ecolyzer_otel.common.backoff import Backoff


def test_the_wait_doubles_up_to_the_longest_and_a_success_resets_it() -> None:
    backoff = Backoff(1, 10)
    assert backoff.wait == 0
    assert [backoff.fail() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.succeed()
    assert (backoff.wait, backoff.fail()) == (0, 1)
