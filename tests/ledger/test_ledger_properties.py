"""What must hold for every timeline, however odd."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecolyzer_otel.ledger.replay import replay

MS = 1_000_000
Document = dict[str, Any]

instants = st.integers(0, 3_000).map(lambda ms: ms * MS)
joules = st.floats(0, 1e5, allow_nan=False) | st.sampled_from([float("nan"), float("inf"), -1.0, 1e12, 0.0])
seconds = st.floats(0, 10) | st.sampled_from([float("nan"), float("-inf"), 0.0, 1e9])


def curve(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.tuples(instants, values).map(list), max_size=12)


@st.composite
def rising(draw: st.DrawFn) -> list[list[float]]:
    """A counter as it should be."""
    times = sorted(draw(st.lists(instants, min_size=2, max_size=15, unique=True)))
    steps = draw(st.lists(st.floats(0.001, 500), min_size=len(times), max_size=len(times)))
    return [[t, value] for t, value in zip(times, accumulate(steps), strict=True)]


def sensors(samples: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[list[Document]]:
    one = st.fixed_dictionaries(
        {
            "id": st.sampled_from(["gpu0", "cpu0", "dram0", "gpu1"]),
            "component": st.sampled_from(["cpu", "gpu", "dram"]),
            "method": st.sampled_from(["measured", "modelled"]),
            "idle_watts": st.none() | st.floats(0, 1000),
            "wrap_joules": st.none() | st.floats(0, 1e6),
            "samples": samples,
        }
    )
    return st.lists(one, max_size=3, unique_by=lambda sensor: sensor["id"])


spans = st.lists(st.tuples(instants, instants).map(list), max_size=4)
processes = st.dictionaries(
    st.sampled_from(["1", "2", "3"]),
    st.dictionaries(st.sampled_from(["cpu", "pool", "gpu0", "gpu1"]), curve(seconds), max_size=4),
    max_size=3,
)
activities = st.fixed_dictionaries(
    {},
    optional={
        "host_cpu": curve(seconds),
        "devices": st.dictionaries(st.sampled_from(["gpu0", "gpu1"]), curve(seconds), max_size=2),
        "processes": processes,
    },
)


@st.composite
def requests(draw: st.DrawFn) -> list[Document]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        start, end = sorted((draw(instants), draw(instants)))
        one = {
            "id": f"r{number}",
            "pid": draw(st.integers(1, 2)),
            "start_ns": start,
            "end_ns": end,
            "cpu_ns": draw(st.integers(-MS, 5_000 * MS)),
        }
        if draw(st.booleans()):
            one["device_busy_ns"] = draw(st.dictionaries(st.sampled_from(["gpu0", "gpu1"]), spans, max_size=2))
        found.append(one)
    return found


@st.composite
def documents(draw: st.DrawFn, samples: st.SearchStrategy[list[Any]] | None = None) -> Document:
    chosen = draw(sensors(samples if samples is not None else curve(joules)))
    names = [None, *(sensor["id"] for sensor in chosen)]
    event = st.fixed_dictionaries(
        {"t_ns": instants, "kind": st.sampled_from(["reset", "lost", "suspend"]), "sensor": st.sampled_from(names)}
    )
    return {
        "version": 1,
        "sensors": chosen,
        "activity": draw(activities),
        "requests": draw(requests()),
        "events": [] if samples is not None else draw(st.lists(event, max_size=3)),
    }


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    return [value] if isinstance(value, (int, float)) else []


@given(documents())
@settings(max_examples=100, deadline=None)
def test_every_measured_joule_is_somewhere_and_only_once(document: Document) -> None:
    result = replay(document)
    for name, shares in result["sensors"].items():
        parts = sum(shares[part] for part in ("requests", "process", "host", "idle", "pending"))
        assert parts == pytest.approx(shares["measured_joules"], rel=1e-6, abs=1e-9)
        own = [one["sensors"][name] for one in result["requests"].values() if name in one["sensors"]]
        assert sum(one["active"] for one in own) == pytest.approx(shares["requests"], rel=1e-6, abs=1e-9)
        assert sum(one["idle"] for one in own) <= shares["idle"] * (1 + 1e-6) + 1e-9
        assert shares["pending"] == 0.0


@given(documents())
@settings(max_examples=100, deadline=None)
def test_no_joule_is_negative_infinite_or_no_number(document: Document) -> None:
    assert all(math.isfinite(number) and number >= 0.0 for number in numbers(replay(document)))


@given(documents())
@settings(max_examples=60, deadline=None)
def test_a_request_is_the_sum_of_its_sensors(document: Document) -> None:
    for one in replay(document)["requests"].values():
        for kind in ("active", "idle"):
            assert one[f"{kind}_joules"] == pytest.approx(sum(part[kind] for part in one["sensors"].values()))


@given(documents(rising()))
@settings(max_examples=60, deadline=None)
def test_what_is_measured_is_what_the_counter_grew(document: Document) -> None:
    result = replay(document)
    for sensor in document["sensors"]:
        grown = sensor["samples"][-1][1] - sensor["samples"][0][1]
        assert result["sensors"][sensor["id"]]["measured_joules"] == pytest.approx(grown)


@given(documents(rising()))
@settings(max_examples=60, deadline=None)
def test_a_request_is_charged_by_no_sensor_that_it_does_not_overlap(document: Document) -> None:
    result = replay(document)
    for request in document["requests"]:
        for sensor in document["sensors"]:
            first, last = sensor["samples"][0][0], sensor["samples"][-1][0]
            if request["end_ns"] <= first or request["start_ns"] >= last:
                assert sensor["id"] not in result["requests"][request["id"]]["sensors"]


@given(documents(rising()), st.sampled_from([-10_000 * MS, 10_000 * MS]))
@settings(max_examples=100, deadline=None)
def test_a_request_moved_out_of_all_intervals_is_unsettled_and_leaves_its_joules_to_others(
    document: Document, far: int
) -> None:
    for request in document["requests"]:
        request["start_ns"] += far
        request["end_ns"] += far
    result = replay(document)
    assert {one["method"] for one in result["requests"].values()} <= {"unsettled"}
    assert all(shares["requests"] == 0.0 for shares in result["sensors"].values())


@given(documents())
@settings(max_examples=20, deadline=None)
def test_the_same_timeline_gives_the_same_result(document: Document) -> None:
    assert replay(document) == replay(document)
