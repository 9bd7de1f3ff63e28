"""Uncertainty of factors, and what it does to grams and litres."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ecolyzer_otel.impact.impact import Impact, compute_impact, sum_impacts
from ecolyzer_otel.impact.place import SiteSettings, resolve_place
from ecolyzer_otel.impact.tables import grid_table, water_table
from ecolyzer_otel.impact.uncertainty import (
    carbon_uncertainty,
    live_uncertainty,
    pedigree,
    water_range,
    world_spread,
)


def test_factors_combine_on_the_scale_of_logarithms():
    assert pedigree(1.0) == 0.0
    assert pedigree(1.2) == pytest.approx(math.log(1.2) / 2)
    assert pedigree(1.05, 1.2, 1.1) == pytest.approx(
        0.5 * math.sqrt(math.log(1.05) ** 2 + math.log(1.2) ** 2 + math.log(1.1) ** 2)
    )


def test_a_figure_grows_less_certain_with_age():
    row = grid_table()["FR"]
    found = [carbon_uncertainty(row, row.year + age) for age in (0, 2, 3, 6, 10, 30)]
    assert found == sorted(found)
    assert found[0] == pedigree(1.05)
    assert found[0] == found[1] < found[2] < found[3] < found[4] == found[5]
    assert carbon_uncertainty(row, row.year - 5) == found[0], "a table of the future is not older"


def test_derived_figures_and_larger_areas_are_less_certain():
    table = grid_table()
    assert carbon_uncertainty(table["CA-QC"], 2024) > carbon_uncertainty(table["CA"], 2024)
    assert carbon_uncertainty(table["EU"], 2024) > carbon_uncertainty(table["FR"], 2024)


def test_a_place_that_is_not_known_is_as_uncertain_as_countries_differ():
    # Root mean square of ln(country / world): computed by hand from the table with a spreadsheet, 0.979.
    assert world_spread() == pytest.approx(0.979, abs=0.001)
    assert resolve_place(None).uncertainty == world_spread()


def test_live_figures():
    assert live_uncertainty(estimated=False) < live_uncertainty(estimated=True)


def test_the_water_factors_are_the_spread_between_both_methods():
    both = [row for row in water_table().values() if row.method == "published" and row.derived]
    ratios = sorted(math.exp(abs(math.log(row.derived / row.litres_per_kwh))) for row in both)
    assert len(ratios) == 50
    assert ratios[len(ratios) // 2] == pytest.approx(1.7, abs=0.05)
    assert ratios[int(0.9 * len(ratios))] == pytest.approx(3.1, abs=0.1)


def test_a_published_figure_reaches_to_the_derived_one():
    row = water_table()["NO"]  # 6.66 by WRI, 15.1 by mix
    low, high = water_range(row, row.litres_per_kwh, fallback=False)
    assert low == pytest.approx(row.litres_per_kwh / 1.7)
    assert high == row.derived > 1.7 * row.litres_per_kwh
    wide = water_range(row, row.litres_per_kwh, fallback=True)
    assert wide == (pytest.approx(row.litres_per_kwh / 3.1), pytest.approx(row.litres_per_kwh * 3.1))


@pytest.mark.parametrize("zone", sorted(grid_table()))
def test_every_zone_has_a_range_around_its_figure(zone):
    for reservoirs in (True, False):
        place = resolve_place(zone, SiteSettings(reservoir_evaporation=reservoirs))
        assert place.water_low <= place.ewif <= place.water_high
        assert 0.0 < place.uncertainty < 1.0


def test_grams_have_the_uncertainty_of_all_that_they_are_made_of():
    impact = Impact(100.0, 50.0, 0.0, 0.0)
    # by hand: sqrt((100 sqrt(0.1^2 + 0.2^2))^2 + (50 x 0.4)^2) = sqrt(500 + 400) = 30
    assert impact.uncertainty_grams(0.1, 0.2, 0.4) == pytest.approx(30.0)
    assert Impact(100.0, None, 0.0, 0.0).uncertainty_grams(0.1, 0.0, 0.4) == pytest.approx(10.0)


def test_litres_have_the_range_of_the_factor_widened_by_the_joules():
    place = replace(resolve_place("DE"), wue=1.0, ewif=2.0, water_low=1.0, water_high=8.0)
    impact = compute_impact(3.6e6, place)  # 1 L on site, 2 L off site
    assert impact.range_liters(0.0, place) == (pytest.approx(1.0 + 1.0), pytest.approx(1.0 + 8.0))
    low, high = impact.range_liters(0.5, place)
    assert low == pytest.approx(math.exp(-1) + 2 * math.exp(-math.hypot(1, math.log(2))))
    assert high == pytest.approx(math.exp(1) + 2 * math.exp(math.hypot(1, math.log(4))))


def test_no_water_has_no_range():
    place = resolve_place("FR", SiteSettings(ewif=0.0, wue=0.0))
    assert compute_impact(3.6e6, place).range_liters(0.3, place) == (0.0, 0.0)


def test_parts_of_a_request_add_up_and_an_unknown_part_is_not_zero():
    parts = [Impact(1.0, None, 2.0, 3.0, None, 4.0), Impact(10.0, 5.0, 20.0, 30.0, None, None)]
    assert sum_impacts(parts) == Impact(11.0, 5.0, 22.0, 33.0, None, 4.0)


def test_market_based_grams_are_a_second_figure_and_in_no_sum():
    place = resolve_place("DE", SiteSettings(pue=1.5, market=20.0, market_source="GO 2026"))
    impact = compute_impact(3.6e6, place)
    assert impact.market_grams == pytest.approx(30.0)
    assert impact.grams == impact.operational_grams == pytest.approx(1.5 * place.grams_per_kwh)
    assert compute_impact(3.6e6, resolve_place("DE")).market_grams is None
