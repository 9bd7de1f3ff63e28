"""Watts by kind of request, learned from sums: what is found, what it admits not to know, when it is used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecolyzer_otel.ledger import Record
from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.individuals import Individuals
from ecolyzer_otel.ledger.intensity import HOST, IDLE, Intensity
from ecolyzer_otel.ledger.live import Live


def teach(
    one: Intensity, seconds: Mapping[object, float], joules: float, steady: float = 1e6, flat: float | None = None
) -> None:
    """One interval with these seconds of activity. ``flat`` and ``steady``: errors of equal weights, of none."""
    total = sum(seconds.values())
    one.update_mean(joules, total)
    columns = {one.column(kind): amount for kind, amount in seconds.items()}
    own = sum((one.scale(column) * amount) ** 2 for column, amount in columns.items())
    equal = joules - one.mean_watts * total if flat is None else flat
    one.observe(columns, joules, own, (0.01 * joules) ** 2, (equal, steady))


def taught(watts: Mapping[object, float], intervals: int, seed: int = 1, noise: float = 0.0) -> Intensity:
    """Intervals in which every kind is active for another part of a second."""
    one, rng = Intensity(learn_idle=False), np.random.default_rng(seed)
    for _ in range(intervals):
        seconds = {kind: float(rng.uniform(0.0, 1.0)) for kind in watts}
        true = sum(watts[kind] * amount for kind, amount in seconds.items())
        teach(one, seconds, true * (1 + noise * float(rng.standard_normal())))
    return one


# What is learned.


def test_two_kinds_are_told_apart_by_intervals_with_different_mixtures() -> None:
    one = taught({"light": 40.0, "heavy": 120.0}, 300, noise=0.05)
    assert one.watts_of("light") == pytest.approx(40.0, rel=0.1)
    assert one.watts_of("heavy") == pytest.approx(120.0, rel=0.1)
    assert one.deviation("light") < 10.0


def test_what_every_interval_tells_alone_is_known_after_a_few() -> None:
    one = Intensity(learn_idle=False)
    for _ in range(10):
        teach(one, {"a": 1.0}, 50.0)
        teach(one, {"b": 0.5}, 50.0)
    assert (one.watts_of("a"), one.watts_of("b")) == pytest.approx((50.0, 100.0), rel=0.02)


def test_a_new_kind_begins_at_the_mean_of_all_activity() -> None:
    one = Intensity(learn_idle=False)
    for _ in range(5):
        teach(one, {"a": 2.0}, 100.0)
    # 100 J over 2 s. Its standard deviation is 0.7 of that.
    number = one.column("new")
    assert one.watts[number] == pytest.approx(50.0)
    assert one.deviation("new") == pytest.approx(35.0)


def test_a_column_that_was_made_before_the_mean_was_known_begins_there_later() -> None:
    one = Intensity(learn_idle=False)
    assert one.watts[one.column("early")] == 0.0
    teach(one, {"a": 2.0}, 100.0)
    assert one.watts[one.column("early")] == pytest.approx(50.0)


def test_a_kind_that_was_never_seen_is_unknown() -> None:
    one = taught({"a": 50.0}, 20)
    assert one.watts_of("b") is None
    assert one.deviation("b") == float("inf")


def test_watts_never_fall_below_a_part_of_the_mean() -> None:
    one = Intensity(learn_idle=False)
    for _ in range(200):
        teach(one, {"a": 1.0}, 100.0)
        teach(one, {"a": 1.0, "free": 1.0}, 60.0)  # as if the other gave power back
    least = one.watts_of("free")
    assert least == pytest.approx(0.02 * one.mean_watts, rel=0.1)
    assert least > 0.0


def test_idle_power_may_be_nothing_but_not_less() -> None:
    one = Intensity(learn_idle=True)
    for number in range(100):
        amount = 0.2 + 0.1 * (number % 7)
        one.update_mean(100 * amount, amount)
        columns = {one.column("a"): amount, one.idle_column(100 * amount): 1.0}
        one.observe(columns, 100 * amount - 20.0, 0.0, 1e-4, (0.0, 0.0))
    assert one.watts_of(IDLE) == 0.0


def test_idle_power_begins_at_what_the_tables_say() -> None:
    told, untold = Intensity(learn_idle=True, idle_prior=15.0), Intensity(learn_idle=True)
    assert told.watts[told.idle_column(100.0)] == 15.0
    assert untold.watts[untold.idle_column(100.0)] == pytest.approx(30.0), "three tenths of the first power seen"
    low = Intensity(learn_idle=True, idle_prior=15.0)
    assert low.watts[low.idle_column(10.0)] == 10.0, "never more than was seen"


def test_kinds_that_only_come_together_keep_equal_watts_and_a_large_deviation() -> None:
    one, rng = Intensity(learn_idle=False), np.random.default_rng(3)
    for _ in range(400):
        amount = float(rng.uniform(0.2, 1.0))
        teach(one, {"a": amount, "b": amount}, 150.0 * amount)
    # Only their sum, 150 W, is told. Each began at 75 +- 0.7 x 75 W; of that the sum takes away half the variance.
    assert one.watts_of("a") == pytest.approx(one.watts_of("b"))
    assert one.watts_of("a") == pytest.approx(75.0, rel=0.01)
    assert one.deviation("a") > 0.7 * 75.0 / 2**0.5 * 0.95


def test_a_kind_that_draws_more_than_it_did_is_followed() -> None:
    one = Intensity(learn_idle=False)
    for _ in range(500):
        teach(one, {"a": 1.0}, 50.0)
    assert one.watts_of("a") == pytest.approx(50.0, rel=0.02)
    for _ in range(300):
        teach(one, {"a": 1.0}, 80.0)
    # The mean of all intervals is 61 W.
    assert one.watts_of("a") == pytest.approx(80.0, rel=0.05)


def test_at_most_64_kinds_are_held_and_the_one_unused_for_longest_makes_room() -> None:
    one = Intensity(learn_idle=False)
    for number in range(64):
        teach(one, {number: 1.0}, 50.0)
    teach(one, {0: 1.0}, 50.0)
    teach(one, {"new": 1.0}, 50.0)
    assert one.watts_of(1) is None
    assert None not in (one.watts_of(0), one.watts_of(2), one.watts_of("new"))
    for number in range(1000):
        teach(one, {("more", number): 1.0}, 50.0)
    assert (len(one.watts), len(one.covariance), {len(row) for row in one.covariance}) == (64, 64, {64})


def test_a_kind_that_took_the_place_of_another_knows_nothing_of_it() -> None:
    one = Intensity(learn_idle=False)
    for number in range(64):
        teach(one, {number: 1.0, "shared": 1.0} if number else {"other": 1.0}, 100.0)
    number = one.column("new")
    row = one.covariance[number]
    assert [value for index, value in enumerate(row) if index != number] == [0.0] * 63
    assert [other[number] for index, other in enumerate(one.covariance) if index != number] == [0.0] * 63
    assert one.watts[number] == one.mean_watts


# Else two kinds of one interval would be learned as one.
def test_a_column_that_this_interval_uses_makes_no_room_in_it() -> None:
    one = Intensity(learn_idle=False)
    for number in range(64):
        teach(one, {number: 1.0}, 50.0)
    # Kind 0 is the one unused for longest, until now.
    assert one.column(0) != one.column("new")


amounts = st.dictionaries(st.sampled_from(["a", "b", "c", HOST, IDLE]), st.floats(1e-6, 10), min_size=1)


@given(st.lists(st.tuples(amounts, st.floats(0, 1e4)), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_covariances_stay_symmetric_and_watts_and_variances_never_negative(
    intervals: list[tuple[dict[object, float], float]],
) -> None:
    one = Intensity(learn_idle=True)
    for seconds, joules in intervals:
        teach(one, seconds, joules)
        rows = np.array(one.covariance)
        scale = max(1e-12, float(np.abs(rows).max()))
        assert np.allclose(rows / scale, rows.T / scale, atol=1e-6)
        assert rows.diagonal().min() >= 0.0
        assert np.isfinite(rows).all()
        assert min(one.watts) >= 0.0


# When it is used.


def test_weights_are_not_used_before_a_dozen_intervals() -> None:
    one = Intensity(learn_idle=False)
    trusted = []
    for _ in range(13):
        teach(one, {"a": 1.0}, 50.0)
        trusted.append(one.trusted)
    assert trusted == [False] * 11 + [True] * 2


def test_weights_are_not_used_where_power_is_steady_whatever_runs() -> None:
    one, rng = Intensity(learn_idle=False), np.random.default_rng(5)
    for _ in range(300):
        teach(one, {"a": float(rng.uniform(0.1, 1.0)), "b": float(rng.uniform(0.1, 1.0))}, 100.0, steady=0.5)
    assert not one.trusted


def test_weights_are_used_where_power_follows_activity() -> None:
    one, rng = Intensity(learn_idle=False), np.random.default_rng(5)
    for _ in range(300):
        amount = float(rng.uniform(0.1, 1.0))
        teach(one, {"a": amount}, 100.0 * amount, steady=100.0 * amount - 55.0)
    assert one.trusted


def test_weights_are_not_used_where_equal_ones_explain_better() -> None:
    one, rng = Intensity(learn_idle=False), np.random.default_rng(5)
    for _ in range(300):
        joules = 100.0 + 20.0 * float(rng.standard_normal())
        teach(one, {"a": 1.0}, joules, flat=0.5 * (joules - 100.0))
    assert not one.trusted


def test_weights_that_do_far_worse_than_equal_ones_begin_again_at_the_mean_but_not_all_the_time() -> None:
    one, begun = Intensity(learn_idle=False), []
    for number in range(1, 41):
        teach(one, {"a": 0.5, "b": 1.0 - 0.4 * (number % 2)}, 80.0 + number % 3, flat=0.0)
        mean = one.mean_watts
        if number > 1 and (one.watts_of("a"), one.watts_of("b")) == (mean, mean):
            begun.append(number)
            assert one.deviation("a") == pytest.approx(0.7 * mean)
            assert one.covariance[one.column("a")][one.column("b")] == 0.0
    assert begun == [16, 32]


def test_beginning_again_leaves_idle_power_as_it_is() -> None:
    one = Intensity(learn_idle=True)
    one.idle_column(100.0)
    for _ in range(100):
        teach(one, {"a": 1.0, IDLE: 1.0}, 80.0)
        teach(one, {"a": 2.0, IDLE: 1.0}, 130.0)
    idle = one.watts_of(IDLE), one.deviation(IDLE)
    one._restart()
    assert (one.watts_of(IDLE), one.deviation(IDLE)) == idle
    assert one.watts_of("a") == one.mean_watts


def test_an_interval_without_requests_says_nothing_of_weights() -> None:
    one = Intensity(learn_idle=False)
    for _ in range(50):
        one.update_mean(50.0, 1.0)
        one.observe({one.column(HOST): 1.0}, 50.0, 0.0, 0.1, None)
    assert one.observations == 0
    assert one.watts_of(HOST) == pytest.approx(50.0, rel=0.05), "though it teaches what others draw"


# Spread.


def ran(spread: float, seed: int, requests: int = 1500, together: int = 3) -> Intensity:
    """Requests of two kinds whose watts differ by ``spread``, a few in each interval, each in one interval."""
    one, rng = Intensity(learn_idle=False), np.random.default_rng(seed)
    individuals = Individuals(one)
    watts = {"a": 50.0, "b": 100.0}
    for number in range(requests // together):
        kinds = [str(kind) for kind in rng.choice(["a", "b"], together)]
        seconds = [float(amount) for amount in rng.uniform(0.2, 1.0, together)]
        drawn = [watts[kind] * max(0.1, 1 + spread * float(rng.standard_normal())) for kind in kinds]
        joules = sum(power * amount for power, amount in zip(drawn, seconds, strict=True))
        one.update_mean(joules, sum(seconds))
        members, squares, columns, own = [], {}, {}, 0.0
        for kind, amount in zip(kinds, seconds, strict=True):
            account = Account()
            account.column = column = one.column(kind)
            members.append((account, amount))
            squares[column] = one.scale(column) ** 2
            columns[column] = columns.get(column, 0.0) + amount
            own += squares[column] * amount**2
        live = [Live(Record(id=(number, at), pid=1, start_ns=0, end_ns=1)) for at in range(together)]
        noise = (0.002 * joules) ** 2 * individuals.noise
        individuals.observe(members, live, 2, joules, noise, squares)
        one.observe(columns, joules, own, noise, (joules - one.mean_watts * sum(seconds), 1e6))
    return one


@pytest.mark.parametrize("spread", [0.1, 0.2, 0.4])
def test_the_spread_of_requests_of_one_kind_is_learned(spread: float) -> None:
    found = [ran(spread, seed).spread ** 0.5 for seed in range(3)]
    assert sum(found) / 3 == pytest.approx(spread, rel=0.25)


def test_requests_that_are_all_alike_have_next_to_no_spread() -> None:
    assert ran(0.0, 1).spread ** 0.5 < 0.03


def test_doubt_widens_every_kind_but_not_idle_power() -> None:
    one = Intensity(learn_idle=True)
    one.idle_column(100.0)
    for _ in range(100):
        teach(one, {"a": 1.0, IDLE: 1.0}, 80.0)
        teach(one, {"a": 2.0, IDLE: 1.0}, 130.0)
    idle, kind = one.deviation(IDLE), one.deviation("a")
    one.add_uncertainty()
    assert one.deviation(IDLE) == idle
    # 0.3 x 50 W are added as variances are.
    assert one.deviation("a") == pytest.approx((kind**2 + (0.3 * one.scale(one.column("a"))) ** 2) ** 0.5)
