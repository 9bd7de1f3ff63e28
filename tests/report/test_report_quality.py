"""What a report says against its own figures, and how far it dares to look ahead."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.report.projection import Projection
from ecolyzer_otel.report.sections import Findings

from .conftest import CHAT, findings, hour, kept
from .made import DAY, HOUR, OCTOBER, drawn, keep, line, place, served


def texts(found: Findings) -> str:
    return "\n".join(f"{note.severity}: {note.text}" for note in found.quality.notes)


def one_hour(folder: Path, growth: dict[Any, Any], gauges: dict[Any, Any] | None = None) -> Findings:
    folder.mkdir(exist_ok=True)
    text = line(0, OCTOBER, OCTOBER + HOUR, growth, place() if gauges is None else gauges)
    return findings(keep(folder / "j", [(OCTOBER + HOUR, text)]), until=OCTOBER + HOUR)


def test_a_clean_period_has_nothing_to_say_but_the_age_of_water(found: Findings) -> None:
    assert texts(found) == "warning: The water factor of DE is from 2020: 6 years old."
    assert found.quality.covered == 1.0
    assert found.quality.modelled == 0.0
    assert not found.quality.gaps


def test_gaps_are_found_and_told(tmp_path: Path) -> None:
    starts = [OCTOBER + n * HOUR for n in (0, 1, 2, 5, 6, 9)]
    folder = keep(tmp_path / "j", [(start + HOUR, hour(start, n)) for n, start in enumerate(starts)])
    found = findings(folder, until=OCTOBER + 10 * HOUR)
    assert found.quality.gaps == (
        (OCTOBER + 3 * HOUR, OCTOBER + 5 * HOUR),
        (OCTOBER + 7 * HOUR, OCTOBER + 9 * HOUR),
    )
    assert found.quality.covered == pytest.approx(0.6)
    assert "Only 60.0\u00a0% of the period is covered" in texts(found)


def test_several_meters_cover_for_each_other(tmp_path: Path) -> None:
    for life, hours in (("a" * 16, (0, 1)), ("b" * 16, (1, 2, 3))):
        for n in hours:
            start = OCTOBER + n * HOUR
            keep(tmp_path / "j", [(start + HOUR, line(n, start, start + HOUR, {}, place(), life=life))], life)
    assert findings(tmp_path / "j", until=OCTOBER + 4 * HOUR).quality.covered == 1.0


def test_lines_passed_over_are_told(tmp_path: Path) -> None:
    folder = kept(tmp_path / "j", 3)
    with next(iter(folder.iterdir())).open("ab") as file:
        file.write(b'{"crc":"00000000","v":1}\n{"crc"')
    assert "2 lines of the journal were skipped (1 damaged, 1 torn)" in texts(findings(folder))


@pytest.mark.parametrize(
    ("growth", "gauges", "told"),
    [
        (drawn("gpu0", "gpu", "modelled", requests=1.0, idle=1.0), None, "warning: 100\u00a0% of the energy is"),
        ({(Metric.UNSETTLED_REQUESTS, ("s", "late")): 9.0, **served(CHAT, requests=91, active=1.0)}, None,
         "warning: 9 requests (9.0\u00a0%) were served but have no energy"),
        ({(Metric.LABEL_OVERFLOW, ()): 12.0}, None, "warning: 12 label sets were over the limit"),
        ({}, {(Metric.HOST_METERS, ()): 3.0}, "warning: Up to 3 meters ran on one host"),
        ({(Metric.GRID_FETCHES, ("rte", "timeout")): 4.0, (Metric.GRID_FETCHES, ("rte", "ok")): 90.0}, None,
         "remark: Some fetches of live grid figures failed (rte timeout: 4)"),
        ({}, place("XK", year="2009", basis="derived_lifecycle_mix, estimated"),
         "warning: The carbon factor of XK is from 2009: 17 years old."),
        ({}, place("XK", basis="derived_lifecycle_mix, estimated"),
         "remark: The carbon factor of XK is estimated, derived or a fallback"),
        ({}, place() | place("US", basis="direct_generation"), "warning: Carbon intensities of different bases"),
        (served(CHAT, requests=1, active=100.0) | drawn("gpu0", "gpu", requests=50.0), None,
         "warning: A cross-check differs by 50.0\u00a0%: active energy"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(tmp_path: Path, growth: Any, gauges: Any, told: str) -> None:
    assert told in texts(one_hour(tmp_path, growth, gauges))


def test_what_was_configured_for_a_part_of_the_time_is_told(tmp_path: Path) -> None:
    lines = [
        (OCTOBER + HOUR * (n + 1), hour(OCTOBER + HOUR * n, n, market=n >= 5, embodied=n >= 5)) for n in range(10)
    ]
    told = texts(findings(keep(tmp_path / "j", lines), until=OCTOBER + 10 * HOUR))
    assert "A market-based factor was configured for 50.0\u00a0% of the meters' time only" in told
    assert "Embodied emissions were configured for 50.0\u00a0% of the meters' time only" in told


def test_a_site_that_is_not_known_is_told_and_its_water_unknown(tmp_path: Path) -> None:
    gauges: dict[Any, Any] = {
        key: value for key, value in place().items() if key[0] not in (Metric.PUE, Metric.WUE)
    }
    gauges |= {
        (Metric.PUE, ("FR", "default: machine only")): 1.0,
        (Metric.WUE, ("FR", "default: machine only")): 0.0,
    }
    found = one_hour(tmp_path, served(CHAT, requests=1, active=9.0, offsite=0.5), gauges)
    assert (
        "warning: The overhead of the site (cooling, power distribution) is not included in the figures: PUE"
        in texts(found)
    )
    assert "warning: Water for cooling is not included in the figures: WUE is neither configured" in texts(found)
    assert found.tables.total.amounts["water_onsite"].value is None
    assert found.tables.total.amounts["water"].value == 0.5
    dry: dict[Any, Any] = place(wue=0.0)
    told = one_hour(tmp_path / "dry", served(CHAT, requests=1, active=9.0, offsite=0.5), dry)
    assert told.tables.total.amounts["water_onsite"].value == 0.0, "a WUE of 0 that was configured is a figure"


def test_a_contract_without_a_name_is_told(tmp_path: Path) -> None:
    gauges: dict[Any, Any] = place() | {
        (Metric.GRID_FACTOR, ("market", "FR", "12", "gCO2e/kWh", "contractual", "configured", "")): 1.0
    }
    assert "names no contract or certificate" in texts(one_hour(tmp_path, {}, gauges))


def test_a_live_factor_shows_its_range(tmp_path: Path) -> None:
    lines = []
    for n, carbon in enumerate((30.0, 50.0, 70.0)):
        gauges: dict[Any, Any] = place("FR", carbon)
        gauges = {key: value for key, value in gauges.items() if key[1][:1] != ("carbon",)}
        gauges[Metric.GRID_FACTOR, ("carbon", "FR", "", "gCO2e/kWh", "direct", "RTE eCO2mix", "live")] = 1.0
        start = OCTOBER + n * HOUR
        lines.append((start + HOUR, line(n, start, start + HOUR, {}, gauges)))
    (carbon_factor,) = [one for one in findings(keep(tmp_path / "j", lines)).factors if one.kind == "carbon"]
    assert carbon_factor.value == "mean 50.0 (30.0 to 70.0)"
    assert (carbon_factor.year, carbon_factor.used) == ("live", "2026-10-01")


def test_factors_of_a_meter_that_does_not_list_them(tmp_path: Path) -> None:
    gauges: dict[Any, Any] = {key: value for key, value in place().items() if key[0] is not Metric.GRID_FACTOR}
    factors = one_hour(tmp_path, {}, gauges).factors
    assert [(one.kind, one.value, one.source) for one in factors] == [
        ("carbon", "44.2", "owid-ember"), ("pue", "1.20", "owid-ember"), ("water", "3.67", "owid-ember"),
        ("wue", "0.300", "owid-ember"),
    ]  # fmt: skip


def projection(folder: Path, days: float, **options: Any) -> Projection:
    return findings(folder, until=OCTOBER + days * DAY, **options).projection


def test_a_year_of_equal_days_is_the_day_times_365(tmp_path: Path) -> None:
    told = projection(kept(tmp_path / "j", 4 * 24), 4)
    energy = told.amounts["energy"]
    assert energy.value == pytest.approx(365.25 * 24 * 43_200.0)
    assert told.variation == 0.0
    gain = (36.0 * 0.02 + 7.2 * 0.01) / 43.2
    assert energy.high == pytest.approx((energy.value or 0.0) * math.exp(2 * gain))
    assert told.amounts["co2e_embodied"].low is None, "its own uncertainty is not known"
    assert "Fewer than 14 days" in told.assumptions[-1]


def test_days_that_differ_widen_the_range(tmp_path: Path) -> None:
    """Three days of 24, 12 and 0 busy hours: mean 12, deviation 12, t(2) = 4.30."""
    lines = []
    for n in range(72):
        start = OCTOBER + n * HOUR
        busy = n < 24 or 24 <= n < 36
        lines.append((start + HOUR, hour(start, n) if busy else line(n, start, start + HOUR, {}, place())))
    told = projection(keep(tmp_path / "j", lines), 3)
    assert told.days == 3
    assert told.variation == pytest.approx(4.30 * 12 / math.sqrt(3) / 12)
    energy = told.amounts["energy"]
    assert energy.value == pytest.approx(365.25 * 12 * 43_200.0)
    assert energy.low is not None
    assert 0.0 < energy.low < (energy.value or 0.0) / 3


def test_less_than_two_days_is_a_rate_without_range(tmp_path: Path) -> None:
    told = projection(kept(tmp_path / "j", 20), 20 / 24)
    assert told.amounts["energy"].value == pytest.approx(365.25 * 24 * 43_200.0)
    assert told.amounts["energy"].low is None
    assert "this is a rate, not a forecast" in " ".join(told.assumptions)


def test_minutes_are_no_basis_for_a_year(tmp_path: Path) -> None:
    text = line(0, OCTOBER, OCTOBER + 300, served(CHAT, requests=1, active=1.0), place())
    told = projection(keep(tmp_path / "j", [(OCTOBER + 300, text)]), 1)
    assert told.refused.startswith("only 300 s were observed")
    assert not told.amounts


def test_gaps_widen_the_upper_end(tmp_path: Path) -> None:
    lines = [(OCTOBER + (n + 1) * HOUR, hour(OCTOBER + n * HOUR, n)) for n in range(96) if n % 24 < 12 or n > 90]
    told = projection(keep(tmp_path / "j", lines), 4)
    assert "of the observed time is covered" in told.assumptions[-1]
    energy = told.amounts["energy"]
    assert energy.high is not None
    assert energy.high > 1.7 * (energy.value or 0.0)
