"""Factors over time."""

from __future__ import annotations

import pytest

from ecolyzer_otel.impact.embodied import Embodied
from ecolyzer_otel.impact.live.figure import Figure
from ecolyzer_otel.impact.place import resolve_place
from ecolyzer_otel.impact.timeline import Timeline
from ecolyzer_otel.ledger import Charge, Settlement
from ecolyzer_otel.meter.impacts import assess
from ecolyzer_otel.meter.shares import JointShares


def figure(grams: float, since: float, **more) -> Figure:
    return Figure(
        grams_per_kwh=grams, zone="DE", basis="direct", source="test", source_detail="a test", from_s=since,
        until_s=None, estimated=False, uncertainty=None, **more,
    )  # fmt: skip


class Source:
    """Figures by the time that they are known at."""

    problem, source = None, "test"

    def __init__(self, *known: tuple[float, Figure | None]) -> None:
        self.known = known
        self.outcomes: dict[str, int] = {}

    def at(self, unix_s: float) -> Figure | None:
        return next((figure for since, figure in reversed(self.known) if since <= unix_s), None)

    def start(self) -> None: ...

    def close(self, timeout: float = 1.0) -> None: ...


TABLE = resolve_place("DE")


def test_without_live_sources_nothing_ever_changes():
    timeline = Timeline(TABLE)
    assert not timeline.can_change
    assert timeline.poll(5.0) is None
    assert timeline.place_of(0) is timeline.place_of(7) is TABLE


def test_what_is_known_at_the_start_holds_from_the_start():
    timeline = Timeline(TABLE, Source((0.0, figure(99.0, 1.0))))
    timeline.begin(10.0)
    assert timeline.place_of(0).grams_per_kwh == 99.0
    assert timeline.poll(11.0) is None


def test_a_figure_known_before_holds_from_its_own_time_and_one_that_comes_late_from_now():
    early, late = figure(1.0, 12.0), figure(2.0, 12.5)
    timeline = Timeline(TABLE, Source((12.0, early), (20.0, late)))
    timeline.begin(10.0)
    assert timeline.poll(12.3) == 12.0, "a row of a file: it was known when it would begin"
    timeline.begin_period(1)
    assert timeline.poll(19.9) is None
    assert timeline.poll(20.1) == 20.1, "what is told of 12.5 at 20 must not change what was charged meanwhile"
    timeline.begin_period(2)
    assert [timeline.place_of(period).grams_per_kwh for period in range(3)] == [TABLE.grams_per_kwh, 1.0, 2.0]


def test_the_table_holds_again_when_the_live_figure_is_too_old():
    timeline = Timeline(TABLE, Source((0.0, figure(5.0, 1.0)), (50.0, None)))
    timeline.begin(10.0)
    assert timeline.place.source == "test"
    assert timeline.poll(50.0) == 50.0
    assert timeline.place == TABLE


def test_marginal_figures_leave_the_average_alone():
    timeline = Timeline(TABLE, None, Source((0.0, figure(700.0, 1.0))))
    timeline.begin(10.0)
    place = timeline.place
    assert (place.marginal, place.marginal_source) == (700.0, "test")
    assert (place.grams_per_kwh, place.source) == (TABLE.grams_per_kwh, TABLE.source)


def test_old_periods_are_forgotten():
    timeline = Timeline(TABLE)
    for period in range(1000):
        timeline.begin_period(period)
    assert len(timeline._places) <= 300
    assert timeline.place_of(3) is TABLE


# Bills.


def charge(joules: float, period: int = 0, earlier=(), seconds: float = 0.0, sensor: str = "cpu0") -> Charge:
    return Charge(sensor, "cpu", joules, 0.0, "measured", seconds, period, earlier)


PLACES = {0: resolve_place("FR"), 1: resolve_place("PL"), 2: resolve_place("SE")}


def test_each_joule_at_the_intensity_of_its_own_time():
    bill = assess([charge(3.6e6, 1, ((0, 1.2e6),))], PLACES.__getitem__, Embodied())
    # by hand: a third of a kWh at 44.18 g, two thirds at 614.98 g
    low, high = PLACES[0].grams_per_kwh, PLACES[1].grams_per_kwh
    assert bill.impact.operational_grams == pytest.approx(low / 3 + 2 * high / 3)
    assert bill.grams_per_kwh == pytest.approx(low / 3 + 2 * high / 3)
    assert bill.place is PLACES[1]


def test_within_one_period_there_is_no_mean():
    bill = assess([charge(1.8e6, 1), charge(1.8e6, 1)], PLACES.__getitem__, Embodied())
    assert bill.grams_per_kwh is None
    assert bill.impact.operational_grams == pytest.approx(PLACES[1].grams_per_kwh)


def test_embodied_grams_are_by_time_and_counted_once():
    embodied = Embodied((), {"cpu0": 0.5})
    charges = [charge(10.0, 2, ((0, 3.0), (1, 4.0)), seconds=4.0), charge(1.0, sensor="dram0", seconds=4.0)]
    assert assess(charges, PLACES.__getitem__, embodied).impact.embodied_grams == pytest.approx(2.0)
    assert assess([charge(1.0, sensor="gpu0")], PLACES.__getitem__, embodied).impact.embodied_grams is None


def test_nothing_charged_costs_nothing():
    assert assess([], PLACES.__getitem__, Embodied()).impact.operational_grams == 0.0


def test_charges_of_parts_keep_their_periods_when_put_together():
    both = charge(10.0, 0, seconds=1.0).plus(charge(5.0, 2, ((0, 1.0), (1, 2.0)), seconds=2.0))
    assert (both.joules, both.period, both.seconds) == (15.0, 2, 3.0)
    assert sorted(both.earlier) == [(0, 1.0), (0, 10.0), (1, 2.0)]
    assert charge(10.0, 2).plus(charge(5.0, 0)).earlier == ((0, 5.0),)


def test_members_of_a_batched_call_share_its_time_equally_and_its_periods_by_their_joules():
    one = Charge("cpu0", "cpu", 8.0, 2.0, "measured", 6.0, 1, ((0, 5.0),))
    settlement = Settlement("b", 8.0, 2.0, 0.0, "measured", [one], members=[("x", 6.0, 1.0), ("y", 2.0, 1.0)])
    joint = JointShares()
    joint.add(settlement, 6.0, 1.0)
    (share,) = joint.charges
    assert (share.joules, share.seconds) == (pytest.approx(7.0), pytest.approx(3.0))
    assert share.earlier == ((0, pytest.approx(3.5)),)
