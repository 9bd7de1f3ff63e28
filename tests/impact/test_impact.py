"""Joules to grams and litres, against numbers computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecolyzer_otel.impact.impact import Impact, compute_impact
from ecolyzer_otel.impact.place import resolve_place

FRANCE = resolve_place("FR")
amounts = st.floats(0.0, 1e12)
places = st.builds(
    lambda grams, pue, wue, ewif: replace(FRANCE, grams_per_kwh=grams, pue=pue, wue=wue, ewif=ewif),
    st.floats(0.0, 2000.0),
    st.floats(1.0, 10.0),
    st.floats(0.0, 100.0),
    st.floats(0.0, 100.0),
)


def test_one_kilowatt_hour_is_the_grids_figure():
    assert compute_impact(3.6e6, FRANCE).operational_grams == pytest.approx(44.18)


def test_pue_multiplies_carbon():
    # 900 J = 0.25 Wh; x 1.35 = 0.3375 Wh; x 344.14 g/kWh = 0.11614725 g
    assert compute_impact(900.0, resolve_place("aws:eu-central-1")).operational_grams == pytest.approx(0.11614725)


def test_water_of_li_et_al():
    # arXiv 2304.03271: 4 Wh x (0.55 + 1.17 x 3.142) L/kWh = 2.2 mL + 14.70456 mL = 16.9 mL
    place = replace(FRANCE, pue=1.17, wue=0.55, ewif=3.142)
    impact = compute_impact(4 * 3600.0, place)
    assert impact.onsite_liters == pytest.approx(0.0022)
    assert impact.offsite_liters == pytest.approx(0.01470456)
    assert impact.liters == pytest.approx(0.0169, abs=5e-6)


def test_pue_does_not_multiply_wue():
    low, high = (compute_impact(1000.0, replace(FRANCE, pue=pue, wue=1.0)) for pue in (1.0, 2.0))
    assert low.onsite_liters == high.onsite_liters
    assert high.offsite_liters == pytest.approx(2 * low.offsite_liters)


def test_embodied_is_a_scope_of_its_own_and_unknown_is_not_zero():
    assert compute_impact(3.6e6, FRANCE).embodied_grams is None
    impact = compute_impact(3.6e6, FRANCE, embodied_grams=2.0)
    assert (impact.operational_grams, impact.embodied_grams) == (pytest.approx(44.18), 2.0)
    assert impact.grams == pytest.approx(46.18)
    assert Impact(3.0, None, 0.0, 0.0).grams == 3.0


@pytest.mark.parametrize("joules", [-1e-9, math.nan, math.inf])
def test_impossible_joules_are_refused(joules):
    with pytest.raises(ValueError, match="joules must be finite"):
        compute_impact(joules, FRANCE)
    with pytest.raises(ValueError, match="embodied_grams must be finite"):
        compute_impact(1.0, FRANCE, embodied_grams=joules)


@given(amounts, places)
def test_never_negative_never_infinite(joules, place):
    impact = compute_impact(joules, place)
    for value in (impact.grams, impact.liters, impact.onsite_liters, impact.offsite_liters):
        assert 0.0 <= value < math.inf


@given(amounts, amounts, places)
def test_more_joules_never_cost_less(one, other, place):
    low, high = (compute_impact(joules, place) for joules in sorted((one, other)))
    assert low.grams <= high.grams
    assert low.liters <= high.liters


@given(amounts, amounts, places)
def test_parts_add_up(one, other, place):
    parts, whole = (compute_impact(one, place), compute_impact(other, place)), compute_impact(one + other, place)
    assert sum(part.grams for part in parts) == pytest.approx(whole.grams)
    assert sum(part.liters for part in parts) == pytest.approx(whole.liters)
