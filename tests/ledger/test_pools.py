"""Native pool threads: their time goes by overlap until it is known which kinds of request use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulated import MS, Run, S, record

from ecolyzer_otel.ledger import Activity
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.pools import Pools
from ecolyzer_otel.ledger.replay import replay

#: Pool seconds per second in flight, and own thread's.
USES = {"tree": (0.0, 1.0), "forest": (1.0, 0.5), "conv": (3.0, 0.1)}
WATTS = 20.0


def trace(seed: int, seconds: int, pids: int = 1) -> list[Run]:
    """Two streams of requests of all kinds in each process, which overlap; ``watts`` numbers the process."""
    rng = np.random.default_rng(seed)
    found = []
    for pid in range(1, pids + 1):
        for stream in range(2):
            at = 0
            while at < (seconds - 1) * S:
                long = int(rng.integers(30, 400)) * MS
                kind = sorted(USES)[int(rng.integers(3))]
                found.append(Run(f"{pid}-{stream}-{len(found)}", kind, at, at + long, pid))
                at += long + int(rng.integers(0, 100)) * MS
    return sorted(found, key=lambda one: one.start_ns)


def grown(runs: list[Run], at_ns: int, part: int) -> float:
    """Pool (0) or own (1) seconds that ``runs`` used by a time."""
    return sum(USES[one.kind][part] * max(0, min(at_ns, one.end_ns) - one.start_ns) / S for one in runs)


def document(runs: list[Run], seconds: int, step_ns: int = 100 * MS) -> dict[str, Any]:
    times = range(0, seconds * S + 1, step_ns)
    pids = sorted({round(one.watts) for one in runs})
    processes = {}
    host = [0.0] * len(times)
    for pid in pids:
        own = [one for one in runs if one.watts == pid]
        pool = [grown(own, t, 0) for t in times]
        cpu = [pooled + grown(own, t, 1) for t, pooled in zip(times, pool, strict=True)]
        host = [a + b for a, b in zip(host, cpu, strict=True)]
        processes[str(pid)] = {
            "pool": [list(one) for one in zip(times, pool, strict=True)],
            "cpu": [list(one) for one in zip(times, cpu, strict=True)],
        }
    samples = [[t, WATTS * busy] for t, busy in zip(times, host, strict=True)]
    return {
        "version": 1,
        "sensors": [{"id": "cpu0", "component": "cpu", "idle_watts": 0.0, "samples": samples}],
        "activity": {"host_cpu": [[t, busy] for t, busy in zip(times, host, strict=True)], "processes": processes},
        "requests": [
            {
                "id": one.id,
                "pid": round(one.watts),
                "model": one.kind,
                "start_ns": one.start_ns,
                "end_ns": one.end_ns,
                "cpu_ns": round(USES[one.kind][1] * (one.end_ns - one.start_ns)),
            }
            for one in runs
        ],
    }


def charged(runs: list[Run], result: dict[str, Any], kind: str) -> tuple[float, float]:
    """Joules of the requests of a kind, and those that they drew."""
    own = [one for one in runs if one.kind == kind]
    drawn = [WATTS * sum(USES[kind]) * (one.end_ns - one.start_ns) / S for one in own]
    return sum(result["requests"][one.id]["active_joules"] for one in own), sum(drawn)


@pytest.mark.parametrize("pids", [1, 2])
def test_pool_time_goes_to_the_kinds_that_use_it_once_that_is_learned(pids: int) -> None:
    runs = trace(1, 60, pids)
    result = replay(document(runs, 60))
    late = [one for one in runs if one.start_ns > 30 * S]
    for kind in USES:
        found, true = charged(late, result, kind)
        assert found == pytest.approx(true, rel=0.15), kind


def test_what_is_measured_is_divided_whatever_was_learned() -> None:
    runs = trace(2, 30)
    result = replay(document(runs, 30))
    shares = result["sensors"]["cpu0"]
    assert shares["requests"] == pytest.approx(WATTS * (grown(runs, 30 * S, 0) + grown(runs, 30 * S, 1)))
    assert (shares["process"], shares["host"]) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_it_goes_by_overlap_before() -> None:
    # One second, 2 pool seconds, 3 CPU seconds, 60 J. By overlap 1 : 0.5 whatever the kind.
    runs = [Run("a", "tree", 0, S, 1), Run("b", "conv", S // 2, S, 1)]
    made = document(runs, 2, S)
    made["activity"] = {
        "host_cpu": [[0, 0.0], [S, 3.0]],
        "processes": {"1": {"pool": [[0, 0.0], [S, 2.1]], "cpu": [[0, 0.0], [S, 3.0]]}},
    }
    made["requests"][0]["cpu_ns"], made["requests"][1]["cpu_ns"] = 6 * S // 10, 3 * S // 10
    made["sensors"][0]["samples"] = [[0, 0.0], [S, 60.0]]
    result = replay(made)["requests"]
    # a: 0.6 + 2.1 x 2/3 = 2 s; b: 0.3 + 2.1 / 3 = 1 s.
    assert [result[name]["active_joules"] for name in "ab"] == pytest.approx([40.0, 20.0])


# The rates alone.


def learn(pools: Pools, runs: list[Run], seconds: int) -> None:
    book = Activity()
    for t in range(0, seconds * S + 1, 100 * MS):
        book.add_process(1, "pool", t, grown(runs, t, 0))
        if t:
            live = [Live(record(one, "")) for one in runs if one.start_ns < t and one.end_ns > t - 100 * MS]
            pools.learn(1, book.curve(1, "pool"), live, t - 100 * MS, t)


def live_of(*kinds: str) -> list[Live]:
    return [Live(record(Run(kind, kind, 0, S, 0.0), "")) for kind in kinds]


def test_pool_seconds_per_second_in_flight_are_learned_by_kind() -> None:
    pools = Pools()
    assert pools.weights(live_of("tree")) is None
    learn(pools, trace(3, 60), 60)
    weights = pools.weights(live_of("tree", "forest", "conv"))
    # None uses the pool not at all, so the least is a small part of the mean.
    assert weights == pytest.approx([USES[kind][0] for kind in ("tree", "forest", "conv")], abs=0.15)


def test_a_kind_that_was_never_seen_is_taken_for_the_mean() -> None:
    pools = Pools()
    learn(pools, trace(3, 60), 60)
    (weight,) = pools.weights(live_of("new"))
    runs = trace(3, 60)
    mean = grown(runs, 60 * S, 0) / sum((one.end_ns - one.start_ns) / S for one in runs)
    assert weight == pytest.approx(mean, rel=0.3)


def test_a_pool_whose_clock_is_read_less_often_than_the_sensor_is_compared_over_whole_reads() -> None:
    book, pools = Activity(), Pools()
    runs = trace(4, 120)
    for t in range(0, 120 * S, S):  # once a second, with intervals ten times as often
        book.add_process(1, "pool", t, grown(runs, t, 0))
        for low in range(t - S, t, 100 * MS) if t else ():
            high = low + 100 * MS
            live = [Live(record(one, "")) for one in runs if one.start_ns < high and one.end_ns > low]
            pools.learn(1, book.curve(1, "pool"), live, low, high)
    weights = pools.weights(live_of("tree", "forest", "conv"))
    assert weights == pytest.approx([USES[kind][0] for kind in ("tree", "forest", "conv")], abs=0.4)


# Two kinds of one window may have to share a column.
@pytest.mark.parametrize(("kinds", "at_once"), [(100, 2), (100, 80)], ids=["rare-and-new", "many-at-once"])
def test_more_kinds_than_can_be_held_do_no_harm(kinds: int, at_once: int) -> None:
    book, pools, rng = Activity(), Pools(), np.random.default_rng(1)
    for t in range(300):
        book.add_process(1, "pool", t * S, 2.0 * t)
        chosen = rng.choice(kinds, at_once, replace=False)
        runs = [Run(str(kind), str(kind), (t - 1) * S, t * S, 0.0) for kind in chosen]
        pools.learn(1, book.curve(1, "pool"), [Live(record(one, "")) for one in runs], (t - 1) * S, t * S)
    weights = pools.weights(live_of("1", "2"))
    assert weights is None or min(weights) >= 0.0


def test_a_process_that_is_gone_leaves_nothing_behind() -> None:
    book, pools = Activity(), Pools()
    book.add_process(7, "pool", 0, 0.0)
    pools.learn(7, book.curve(7, "pool"), live_of("tree"), 0, S)
    assert pools._open
    pools.forget(7)
    assert not pools._open
