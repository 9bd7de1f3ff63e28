"""The phases of a request as parts in the ledger, and shares of batched calls: sums stay what they were."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecolyzer_otel.ledger import Charge, Record, SensorSpec, Settlement
from ecolyzer_otel.meter.parts import RequestParts, merge, split
from ecolyzer_otel.meter.shares import JointShares, add_shares

MS = 1_000_000
BOOK = {"cpu": SensorSpec(id="cpu", component="cpu", relative_uncertainty=0.1)}


def whole(start: int, end: int, cpu: int, **more: object) -> Record:
    return Record(id=(1, 7), pid=1, start_ns=start, end_ns=end, cpu_ns=cpu, **more)  # type: ignore[arg-type]


instants = st.integers(-50, 250)
phases = st.lists(
    st.tuples(st.sampled_from(["", "prefill", "decode", "x"]), instants, st.integers(0, 120)), max_size=6
)


@given(told=phases)
def test_parts_cover_the_request_without_gap_or_overlap_and_share_its_cpu_time(
    told: list[tuple[str, int, int]],
) -> None:
    told = sorted(((name, 1000 + at, cpu) for name, at, cpu in told), key=lambda phase: phase[1])
    parts = [part for part, _ in split(whole(1000, 1200, 100), told, RequestParts())]
    assert parts[0].start_ns == 1000
    assert parts[-1].end_ns == 1200
    for one, following in pairwise(parts):
        assert one.end_ns == following.start_ns
    assert all(part.end_ns >= part.start_ns and part.due_ns == 1200 for part in parts)
    assert len({part.id for part in parts}) == len(parts)
    assert sum(part.cpu_ns for part in parts) >= 100
    if [cpu for _, _, cpu in told] == sorted(min(cpu, 100) for _, _, cpu in told):
        assert sum(part.cpu_ns for part in parts) == 100


def test_kernels_are_cut_where_a_phase_begins() -> None:
    record = whole(0, 100, 0, device_busy={"gpu0": [(10, 60)]})
    (_, _), (prefill, name), (decode, _) = split(record, [("prefill", 5, 0), ("decode", 40, 0)], RequestParts())
    assert name == "prefill"
    assert prefill.device_busy == {"gpu0": [(10, 40)]}
    assert decode.device_busy == {"gpu0": [(40, 60)]}


def test_a_part_that_was_told_while_the_request_was_open_stays_as_it_was() -> None:
    told = RequestParts()
    running = Record(id=(1, 7), pid=1, start_ns=0, end_ns=None, cpu_ns=50, seen_ns=100)
    split(running, [("prefill", 0, 0)], told)
    # The phase is told late: it cannot begin before what the ledger has been told of the one before it.
    parts = split(whole(0, 200, 120), [("prefill", 0, 0), ("decode", 80, 40)], told)
    assert [(part.start_ns, part.end_ns, name) for part, name in parts] == [
        (0, 100, "prefill"), (100, 200, "decode"),
    ]  # fmt: skip


def settlement(active: float, idle: float, uncertainty: float) -> Settlement:
    charge = Charge("cpu", "cpu", active, idle, "measured")
    return Settlement(
        id=(1, 7), active_joules=active, idle_joules=idle, uncertainty_joules=uncertainty, method="measured",
        charges=[charge], basis="learned",
    )  # fmt: skip


def test_joules_of_parts_add_up_and_errors_of_the_sensor_with_them() -> None:
    merged, by_phase = merge([("prefill", settlement(3.0, 1.0, 0.3)), ("decode", settlement(1.0, 1.0, 0.1))], BOOK)
    assert (merged.active_joules, merged.idle_joules, merged.joules) == (4.0, 2.0, 6.0)
    assert by_phase == {"prefill": 4.0, "decode": 2.0}
    assert sum(charge.active for charge in merged.charges) == 4.0
    # Both are off by the sensor's tenth, in the same direction.
    assert merged.uncertainty_joules == pytest.approx(0.4)


def test_errors_of_the_parts_own_add_in_quadrature() -> None:
    merged, _ = merge([("a", settlement(3.0, 0.0, 0.5)), ("b", settlement(4.0, 0.0, 0.5))], BOOK)
    own = (0.5**2 - 0.3**2) + (0.5**2 - 0.4**2)
    assert merged.uncertainty_joules == pytest.approx((0.7**2 + own) ** 0.5)


joules, part = st.floats(0.01, 100), st.floats(0, 1)


@given(
    own=st.tuples(st.floats(0, 100), st.floats(0, 100)),
    shares=st.lists(st.tuples(joules, joules, part, part), max_size=4),
)
def test_a_request_has_its_own_joules_and_its_shares(
    own: tuple[float, float], shares: list[tuple[float, float, float, float]]
) -> None:
    joint = JointShares()
    active, idle = own
    for of_active, of_idle, part_active, part_idle in shares:
        joint.add(settlement(of_active, of_idle, 0.1), of_active * part_active, of_idle * part_idle)
        active, idle = active + of_active * part_active, idle + of_idle * part_idle
    found = add_shares(settlement(*own, 0.2), joint)
    assert joint.calls == len(shares)
    assert found.active_joules == pytest.approx(active)
    assert found.idle_joules == pytest.approx(idle)
    assert found.uncertainty_joules >= 0.2
