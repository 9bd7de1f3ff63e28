"""What a batch costs those whose work it was: the Shapley value of a fixed part and a part by weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import S

from ecolyzer_otel.ledger import Ledger, Record, SensorSpec, kind_of
from ecolyzer_otel.ledger.batches import BatchCosts, batch_shares
from ecolyzer_otel.ledger.replay import replay


def shapley(fixed: float, own: Sequence[float]) -> list[float]:
    """By definition: what each adds in the mean over all orders of arrival, v(S) = fixed + sum of own."""

    def value(members: Sequence[int]) -> float:
        return fixed + sum(own[one] for one in members) if members else 0.0

    orders = list(permutations(range(len(own))))
    added = [0.0] * len(own)
    for order in orders:
        for place, one in enumerate(order):
            added[one] += value(order[: place + 1]) - value(order[:place])
    return [one / len(orders) for one in added]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("fixed", [0.0, 7.0, 100.0])
def test_the_share_of_each_is_its_shapley_value(number: int, fixed: float) -> None:
    own = [float(joules) for joules in np.random.default_rng(number).uniform(0.5, 20.0, number)]
    joules = fixed + sum(own)
    assert batch_shares(joules, fixed / joules, own) == pytest.approx(shapley(fixed, own))


def test_the_fixed_part_goes_equally_and_the_rest_by_weight() -> None:
    # 40 of 100 J are fixed: 20 each; 60 J go 1 : 3.
    assert batch_shares(100.0, 0.4, [1.0, 3.0]) == pytest.approx([35.0, 65.0])


def test_one_alone_gets_all() -> None:
    assert batch_shares(12.0, 0.3, [5.0]) == pytest.approx([12.0])


def test_without_any_weight_all_goes_equally() -> None:
    assert batch_shares(12.0, 0.3, [0.0, 0.0, 0.0]) == pytest.approx([4.0, 4.0, 4.0])


def test_one_without_weight_pays_its_part_of_what_is_fixed() -> None:
    assert batch_shares(10.0, 0.5, [0.0, 2.0]) == pytest.approx([2.5, 7.5])


def test_a_batch_of_nobody_has_no_shares() -> None:
    assert batch_shares(10.0, 0.5, []) == []


weights = st.lists(st.just(0.0) | st.floats(1e-6, 1e6), min_size=1, max_size=64)


@given(st.floats(0, 1e6), st.floats(0, 1), weights)
@settings(max_examples=100, deadline=None)
def test_the_shares_add_up_and_none_is_negative(joules: float, fixed: float, weights: list[float]) -> None:
    shares = batch_shares(joules, fixed, weights)
    assert sum(shares) == pytest.approx(joules, rel=1e-9, abs=1e-9)
    assert min(shares) >= 0.0


# Learning.


def learned(sizes: Sequence[int], joules: Sequence[float]) -> BatchCosts:
    costs = BatchCosts()
    for items, drawn in zip(sizes, joules, strict=True):
        costs.learn("family", items, drawn)
    return costs


def test_fixed_and_marginal_joules_are_learned_from_batches_of_different_sizes() -> None:
    sizes = [8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5]
    costs = learned(sizes, [10.0 + 2.5 * items for items in sizes])
    # 10 J whatever the size and 2.5 J per item: of a batch of four, 10 of 20 J; of sixteen, 10 of 50.
    assert costs.fixed("family", 4) == pytest.approx(0.5)
    assert costs.fixed("family", 16) == pytest.approx(0.2)


def test_they_are_learned_from_noisy_batches() -> None:
    rng = np.random.default_rng(1)
    sizes = [int(items) for items in rng.integers(1, 17, 500)]
    costs = learned(sizes, [(10.0 + 2.5 * items) * float(rng.uniform(0.8, 1.2)) for items in sizes])
    assert costs.fixed("family", 4) == pytest.approx(0.5, abs=0.1)


def test_a_change_is_followed() -> None:
    sizes = [1 + number % 8 for number in range(3000)]
    costs = learned(sizes, [10.0 + 2.5 * items if at < 1500 else 2.5 * items for at, items in enumerate(sizes)])
    assert costs.fixed("family", 4) < 0.02


@pytest.mark.parametrize("sizes", [[4, 8] * 4, [8] * 100], ids=["few", "all-alike"])
def test_nothing_is_fixed_before_it_is_known(sizes: list[int]) -> None:
    assert learned(sizes, [10.0 + items for items in sizes]).fixed("family", 4) == 0.0


def test_costs_that_fall_with_size_are_all_fixed_and_those_that_grow_faster_have_no_fixed_part() -> None:
    sizes = [1 + number % 8 for number in range(100)]
    assert learned(sizes, [20.0 - items for items in sizes]).fixed("family", 4) == 1.0
    assert learned(sizes, [float(items**2) for items in sizes]).fixed("family", 4) == 0.0


def test_a_family_that_was_never_seen_has_no_fixed_part() -> None:
    assert BatchCosts().fixed("family", 4) == 0.0


def test_families_are_bounded_and_those_without_batches_are_not_held() -> None:
    costs = BatchCosts()
    for number in range(10_000):
        costs.learn(("single", number), 1, 5.0)
    assert len(costs._families) == 0
    for number in range(1_000):
        costs.learn(("batched", number), 4, 5.0)
    assert len(costs._families) == 256


# Through the ledger.


def batch(name: str, start: int, items: int, members: dict[str, float] | None = None) -> dict[str, Any]:
    return {
        "id": name,
        "pid": 1,
        "model": "m",
        "items": items,
        "start_ns": start * S,
        "end_ns": start * S + S // 2,
        "cpu_ns": S // 2,
        **({"members": members} if members else {}),
    }


def run(sizes: Sequence[int], last: dict[str, float], idle: float = 20.0) -> dict[str, Any]:
    """One batch each second, 10 J and 2.5 J per item; the last one served ``last``."""
    requests = [batch(f"b{at}", at, items) for at, items in enumerate(sizes)]
    items = round(sum(last.values()))
    requests.append(batch("last", len(sizes), items, last))
    joules = np.cumsum([idle + 10.0 + 2.5 * one for one in [*sizes, items]])
    samples = [[0, 0.0], *([(at + 1) * S, float(one)] for at, one in enumerate(joules))]
    cpu = {"id": "cpu0", "component": "cpu", "idle_watts": idle, "samples": samples}
    return replay({"version": 1, "sensors": [cpu], "requests": requests})["requests"]["last"]


def test_the_members_of_a_batch_pay_what_was_learned_of_batches() -> None:
    result = run([1, 2, 3, 4, 5, 6, 7, 8] * 3, {"x": 1, "y": 3})
    # 20 J of four items: 10 fixed, 5 each, and 2.5 per item. Idle power: 0.5 s x 20 W, equally.
    assert result["members"]["x"] == pytest.approx({"active_joules": 7.5, "idle_joules": 5.0})
    assert result["members"]["y"] == pytest.approx({"active_joules": 12.5, "idle_joules": 5.0})


def test_they_pay_by_weight_before_anything_is_learned() -> None:
    result = run([], {"x": 1, "y": 3})
    assert [one["active_joules"] for one in result["members"].values()] == pytest.approx([5.0, 15.0])


@pytest.mark.parametrize("members", [{"x": 1}, {"x": 1, "y": 3}, {"x": 0, "y": 0}, {str(n): n for n in range(9)}])
def test_active_and_idle_joules_of_the_members_are_those_of_the_batch(members: dict[str, float]) -> None:
    result = run([1, 2, 3, 4, 5, 6, 7, 8] * 3, members)
    assert list(result["members"]) == list(members)
    for part in ("active_joules", "idle_joules"):
        assert sum(one[part] for one in result["members"].values()) == pytest.approx(result[part])
        assert min(one[part] for one in result["members"].values()) >= 0.0


def test_a_request_that_served_nobody_else_has_no_members() -> None:
    samples = [[0, 0.0], [S, 30.0]]
    cpu = {"id": "cpu0", "component": "cpu", "idle_watts": 0.0, "samples": samples}
    result = replay({"version": 1, "sensors": [cpu], "requests": [batch("alone", 0, 4)]})
    assert "members" not in result["requests"]["alone"]


def settled_share_of_x(*, unsettled: int) -> float:
    """Active joules of the member with weight 1 of 4, after batches and ``unsettled`` unknown ones."""
    ledger = Ledger([SensorSpec(id="cpu0", component="cpu", idle_watts=0.0)])

    def one(name: str, at: int, items: int, members: Sequence[tuple[str, float]] = ()) -> None:
        kind = kind_of("m", items=1)
        record = Record(
            id=name, pid=1, start_ns=at, end_ns=at + S, cpu_ns=S, items=items, kind=kind, members=members
        )
        assert ledger.record(record)

    for number in range(unsettled):
        one(f"unknown-{number}", number * S, 8)
    assert {request.method for request in ledger.advance(0, overdue_ns=unsettled * S)} <= {"unsettled"}
    begin, total = 1000, 0.0
    ledger.sample("cpu0", begin * S, 0.0)
    settled = []
    for number in range(24):
        items = 1 + number % 8
        one(f"b{number}", (begin + number) * S, items)
        total += 10.0 + 2.5 * items
        ledger.sample("cpu0", (begin + number + 1) * S, total)
        settled += ledger.advance((begin + number + 1) * S)
    one("last", (begin + 24) * S, 4, [("x", 1.0), ("y", 3.0)])
    ledger.sample("cpu0", (begin + 25) * S, total + 20.0)
    (last,) = ledger.advance((begin + 25) * S)
    return last.members[0][1]


def test_the_ledger_learns_from_what_it_settled() -> None:
    assert settled_share_of_x(unsettled=0) == pytest.approx(7.5)


# Unknown is not zero.
def test_a_batch_of_which_nothing_is_known_teaches_nothing() -> None:
    assert settled_share_of_x(unsettled=24) == pytest.approx(7.5)
