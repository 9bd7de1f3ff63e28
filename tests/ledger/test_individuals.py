"""Requests told apart: the Gaussian of the watts in flight, conditioned on what each interval held."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ecolyzer_otel.ledger import Record, individuals
from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.individuals import Individuals
from ecolyzer_otel.ledger.intensity import Intensity
from ecolyzer_otel.ledger.live import Live


class Bench:
    """Kinds with known watts, and requests that are conditioned on intervals."""

    def __init__(self, *watts: float, spread: float = 0.2, kind_variances: Sequence[float] = ()) -> None:
        self.intensity = Intensity(learn_idle=False)
        self.intensity.update_mean(sum(watts), float(len(watts)))
        for number, one in enumerate(watts):
            assert self.intensity.column(number) == number
            self.intensity.watts[number] = one
            self.intensity.covariance[number][number] = kind_variances[number] if kind_variances else 0.0
        self.intensity.spread = spread**2
        self.individuals = Individuals(self.intensity)

    def request(self, kind: int = 0) -> Account:
        account = Account()
        account.column = kind
        return account

    def interval(
        self, joules: float, *parts: tuple[Account, float], noise: float = 0.0, ending: Sequence[Account] = ()
    ) -> None:
        """One interval; the requests in ``ending`` end in it, the others go on."""
        spread = self.intensity.spread
        live = [
            Live(Record(id=0, pid=1, start_ns=0, end_ns=9 if account in ending else None, seen_ns=10))
            for account, _ in parts
        ]
        squares = {account.column: self.intensity.watts[account.column] ** 2 for account, _ in parts}
        self.individuals.observe(list(parts), live, 10, joules, noise, squares)
        self.intensity.spread = spread  # it is learned from errors; here it is given

    def leave(self, *gone: Account) -> None:
        for account in gone:
            account.settled = True
            self.individuals.mark_settled()

    def deviation(self, account: Account) -> float:
        """Of the watts, before it is corrected by how wrong the filter was."""
        rows = self.individuals._covariance
        return (account.variance if rows is None else rows[account.row][account.row]) ** 0.5


# By hand.


def test_the_surprise_of_an_interval_goes_to_its_requests_by_variance_times_activity() -> None:
    bench = Bench(50.0, 100.0, spread=0.2)
    a, b = bench.request(0), bench.request(1)
    bench.interval(8.0, (a, 0.06), (b, 0.04), ending=(a, b))
    # Expected 50 x 0.06 + 100 x 0.04 = 7 J. Variances 10^2 and 20^2 W^2; that of the sum
    # 100 x 0.0036 + 400 x 0.0016 = 1 J^2. Gains 100 x 0.06 = 6 and 400 x 0.04 = 16 W per J, of 1 J.
    assert (a.watts, b.watts) == pytest.approx((56.0, 116.0))
    # 100 - 6^2 and 400 - 16^2.
    assert (a.variance, b.variance) == pytest.approx((64.0, 144.0))


def test_noise_takes_its_part_of_the_surprise() -> None:
    bench = Bench(50.0, 100.0, spread=0.2)
    a, b = bench.request(0), bench.request(1)
    bench.interval(8.0, (a, 0.06), (b, 0.04), noise=1.0, ending=(a, b))
    # As above with half of the surprise: 1 of 2 J^2 is noise.
    assert (a.watts, b.watts) == pytest.approx((53.0, 108.0))
    assert (a.variance, b.variance) == pytest.approx((100 - 36 / 2, 400 - 256 / 2))


def test_a_kind_that_is_not_well_known_takes_more_of_the_surprise() -> None:
    bench = Bench(50.0, 100.0, spread=0.2, kind_variances=(300.0, 0.0))
    a, b = bench.request(0), bench.request(1)
    bench.interval(8.0, (a, 0.06), (b, 0.04), ending=(a, b))
    # a: 100 by spread and 300 by its kind. The sum: 400 x 0.0036 + 400 x 0.0016 = 2.08 J^2, of 1 J.
    assert a.watts == pytest.approx(50.0 + 400 * 0.06 / 2.08)
    assert b.watts == pytest.approx(100.0 + 400 * 0.04 / 2.08)


def test_two_requests_of_one_uncertain_kind_are_wrong_together() -> None:
    bench = Bench(100.0, spread=0.1, kind_variances=(400.0,))
    a, b = bench.request(), bench.request()
    bench.interval(46.0, (a, 0.1), (b, 0.3), ending=(a, b))
    # Expected 40 J, measured 46. Own variances 100 each, 400 in common over 0.4 s:
    # spans a 100 x 0.1 + 400 x 0.4 = 170, b 100 x 0.3 + 160 = 190; sum 170 x 0.1 + 190 x 0.3 = 74 J^2.
    assert (a.watts, b.watts) == pytest.approx((100 + 170 * 6 / 74, 100 + 190 * 6 / 74))


def test_a_request_that_goes_on_is_conditioned_again_with_what_is_left_of_its_variance() -> None:
    bench = Bench(100.0, spread=0.2)
    a = bench.request()
    bench.interval(120.0, (a, 1.0), noise=400.0)
    # 20^2 W^2 against 400 J^2 of noise: half of 20 J. Left are 200.
    assert (a.watts, bench.deviation(a) ** 2) == pytest.approx((110.0, 200.0))
    bench.interval(120.0, (a, 1.0), noise=400.0)
    # It may have changed by 1 %: 200 + 1.1^2 = 201.21. Gain 201.21 / 601.21, of 10 J.
    assert a.watts == pytest.approx(110.0 + 10 * 201.21 / 601.21)
    assert bench.deviation(a) ** 2 == pytest.approx(201.21 * 400 / 601.21)


def test_without_any_variance_nothing_is_learned() -> None:
    bench = Bench(100.0, spread=0.0)
    a = bench.request()
    bench.interval(50.0, (a, 1.0), ending=(a,))
    assert (a.watts, a.variance) == (100.0, 0.0)


def test_two_requests_of_one_uncertain_kind_that_go_on_stay_tied_by_it() -> None:
    bench = Bench(100.0, spread=0.1, kind_variances=(400.0,))
    a, b = bench.request(), bench.request()
    bench.interval(40.0, (a, 0.1), (b, 0.3))
    rows = bench.individuals._covariance
    # As above: spans 170 and 190, sum 74 J^2. Variances 500 each, 400 of them in common.
    assert rows[a.row][a.row] == pytest.approx(500 - 170**2 / 74)
    assert rows[b.row][b.row] == pytest.approx(500 - 190**2 / 74)
    assert rows[a.row][b.row] == pytest.approx(400 - 170 * 190 / 74)
    assert rows[b.row][a.row] == pytest.approx(400 - 170 * 190 / 74)


# Over several intervals.


def test_requests_are_told_apart_by_the_intervals_in_which_they_are_alone() -> None:
    bench = Bench(100.0, spread=0.3)
    a, b = bench.request(), bench.request()
    # In truth a draws 80 W and b 130 W.
    bench.interval(80.0, (a, 1.0), noise=0.01)
    bench.interval(210.0, (a, 1.0), (b, 1.0), noise=0.01, ending=(a,))
    assert (a.watts, b.watts) == pytest.approx((80.0, 130.0), rel=0.02), "the difference tells of b already"
    bench.leave(a)
    bench.interval(130.0, (b, 1.0), noise=0.01, ending=(b,))
    assert b.watts == pytest.approx(130.0, rel=0.005)


def test_what_is_learned_of_one_request_later_corrects_the_other() -> None:
    bench = Bench(100.0, spread=0.3)
    a, b = bench.request(), bench.request()
    bench.interval(210.0, (a, 1.0), (b, 1.0), noise=0.01)
    assert (a.watts, b.watts) == pytest.approx((105.0, 105.0), rel=0.001), "nothing tells them apart yet"
    bench.interval(130.0, (b, 1.0), noise=0.01)
    assert (a.watts, b.watts) == pytest.approx((80.0, 130.0), rel=0.02)


def test_it_is_the_conditioning_of_one_gaussian_on_all_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(individuals, "_DRIFT", 0.0)
    bench, rng = Bench(100.0, spread=0.3), np.random.default_rng(2)
    accounts = [bench.request() for _ in range(6)]
    true = 100.0 + 30.0 * rng.standard_normal(6)
    rows, noise = rng.uniform(0.2, 1.0, (5, 6)), 4.0
    joules = rows @ true + noise**0.5 * rng.standard_normal(5)
    for row, one in zip(rows, joules, strict=True):
        bench.interval(float(one), *zip(accounts, map(float, row), strict=True), noise=noise)
    prior = 900.0 * np.eye(6)
    gain = prior @ rows.T @ np.linalg.inv(rows @ prior @ rows.T + noise * np.eye(5))
    expected = 100.0 + gain @ (joules - 100.0 * rows.sum(axis=1))
    assert [one.watts for one in accounts] == pytest.approx(list(expected))


def test_watts_never_fall_below_a_part_of_those_of_the_kind() -> None:
    bench = Bench(100.0, spread=0.5)
    new, old = bench.request(), bench.request()
    bench.interval(100.0, (old, 1.0))
    for _ in range(5):
        bench.interval(0.0, (old, 1.0))
        assert old.watts == pytest.approx(5.0)
    bench.interval(0.0, (new, 1.0), ending=(new,))
    assert new.watts == pytest.approx(5.0), "one twentieth of 100 W"


def test_requests_of_an_interval_that_told_nothing_draw_what_their_kind_does() -> None:
    bench = Bench(50.0, spread=0.2)
    a = bench.request()
    bench.individuals.assume([(a, 1.0)], {0: 2500.0})
    assert (a.watts, a.variance) == pytest.approx((50.0, 100.0))


# Many, and those that leave.


def test_more_than_sixteen_at_once_keep_variances_only() -> None:
    bench = Bench(100.0, spread=0.2)
    accounts = [bench.request() for _ in range(40)]
    bench.interval(4400.0, *[(one, 1.0) for one in accounts])
    assert bench.individuals._covariance is None
    # 400 J more than expected, shared by forty that are alike.
    assert [one.watts for one in accounts] == pytest.approx([110.0] * 40)
    # 400 - 400^2 / 16000 each.
    assert [one.variance for one in accounts] == pytest.approx([390.0] * 40)


def test_with_variances_only_what_was_measured_is_still_what_is_expected_thereafter() -> None:
    bench, rng = Bench(100.0, spread=0.2), np.random.default_rng(1)
    accounts = [bench.request() for _ in range(40)]
    for _ in range(5):
        amounts = [float(amount) for amount in rng.uniform(0.1, 1.0, 40)]
        joules = float(rng.uniform(0.9, 1.1)) * 100.0 * sum(amounts)
        bench.interval(joules, *zip(accounts, amounts, strict=True))
        explained = sum(one.watts * amount for one, amount in zip(accounts, amounts, strict=True))
        assert explained == pytest.approx(joules)
        assert min(one.variance for one in accounts) >= 0.0


def test_covariances_are_kept_for_sixteen_and_given_up_with_the_next() -> None:
    bench = Bench(100.0)
    accounts = [bench.request() for _ in range(16)]
    bench.interval(1600.0, *[(one, 1.0) for one in accounts])
    rows = bench.individuals._covariance
    assert rows is not None
    assert ({len(rows)}, {len(row) for row in rows}) == ({16}, {16})
    bench.interval(100.0, (bench.request(), 1.0))
    assert bench.individuals._covariance is None


def test_covariances_come_back_when_few_are_left() -> None:
    bench = Bench(100.0)
    accounts = [bench.request() for _ in range(40)]
    bench.interval(4000.0, *[(one, 1.0) for one in accounts])
    bench.leave(*accounts[7:])
    bench.interval(400.0, *[(one, 1.0) for one in accounts[:4]])
    rows = bench.individuals._covariance
    assert rows is not None
    assert [len(row) for row in rows] == [7] * 7


def test_those_that_leave_do_not_change_what_is_known_of_the_others() -> None:
    def run(*, leaving: bool) -> list[float]:
        bench = Bench(100.0, spread=0.3)
        a, b, c, d = (bench.request() for _ in range(4))
        bench.interval(390.0, (a, 1.0), (b, 0.5), (c, 1.0), (d, 1.0), noise=1.0)
        bench.interval(170.0, (b, 1.0), (d, 0.5), noise=1.0)
        if leaving:
            bench.leave(a, c)
        bench.interval(150.0, (b, 0.5), (d, 1.0), noise=1.0)
        assert [one.row for one in (b, d)] == ([0, 1] if leaving else [1, 3])
        return [b.watts, d.watts, bench.deviation(b), bench.deviation(d)]

    assert run(leaving=True) == pytest.approx(run(leaving=False))


def test_places_stay_right_while_requests_come_and_go() -> None:
    bench, rng = Bench(100.0, spread=0.2), np.random.default_rng(8)
    present: list[Account] = []
    for _ in range(200):
        present += [bench.request() for _ in range(int(rng.integers(0, 3)))]
        if not present:
            continue
        bench.interval(100.0 * len(present), *[(one, 1.0) for one in present], noise=1.0)
        kept = bench.individuals._kept
        assert all(kept[one.row] is one for one in present)
        rows = bench.individuals._covariance
        if rows is not None:
            table = np.array(rows)
            assert table.shape == (len(kept), len(kept))
            assert np.allclose(table, table.T)
            assert np.linalg.eigvalsh(table).min() > -1e-6
        gone = [one for one in present if rng.uniform() < 0.3]
        bench.leave(*gone)
        present = [one for one in present if not one.settled]


def test_a_request_within_one_interval_is_not_kept() -> None:
    bench = Bench(100.0)
    a, b = bench.request(), bench.request()
    bench.interval(100.0, (a, 0.5), (b, 0.5), ending=(a,))
    assert (a.row, b.row) == (-1, 0)


# How wrong it was.


def test_a_filter_whose_errors_are_as_large_as_it_expects_stays_as_sure_as_it_is() -> None:
    bench = Bench(100.0, spread=0.2)
    rng = np.random.default_rng(4)
    for _ in range(2000):
        one = bench.request()
        bench.interval(100.0 + 20.0 * float(rng.standard_normal()), (one, 1.0), ending=(one,))
    assert bench.individuals.misfit == pytest.approx(1.0, abs=0.4)


def test_a_filter_that_is_more_wrong_than_it_expects_says_so_in_what_it_expects() -> None:
    bench, rng = Bench(100.0, spread=0.1), np.random.default_rng(4)
    for _ in range(1000):
        one = bench.request()
        bench.interval(100.0 + 30.0 * float(rng.standard_normal()), (one, 1.0), ending=(one,))
    # Errors of 30 W where 10 are expected; those beyond four times that are cut.
    assert bench.individuals.misfit > 4.0
    unsure = bench.request()
    bench.interval(200.0, (unsure, 1.0), (bench.request(), 1.0), ending=(unsure,))
    assert bench.individuals.expected_variance(unsure) > 4.0 * unsure.variance
