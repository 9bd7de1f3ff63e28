"""The figures of a journal against numbers computed by hand (conftest.py: one hour; here 48 of them)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.report.figures import SCOPES, tables
from ecolyzer_otel.report.from_journal import from_journal
from ecolyzer_otel.report.ranges import Amount, quadrature, with_range
from ecolyzer_otel.report.sections import Findings

from .conftest import CHAT, findings, kept
from .made import DAY, HOUR, OCTOBER, drawn, keep, line, place, served


def values(found: Findings, scope: str = "total", row: int = 0) -> dict[str, float | None]:
    return {name: amount.value for name, amount in found.tables.rows[scope][row].amounts.items()}


def test_totals(found: Findings) -> None:
    told = values(found)
    assert told["requests"] == 48 * 500
    assert told["errors"] == 48
    assert (told["input_tokens"], told["output_tokens"]) == (48 * 9000, 48 * 1000)
    assert told["energy"] == pytest.approx(48 * 43_200.0)
    assert told["active_energy"] == pytest.approx(48 * 39_600.0)
    assert told["idle_energy"] == pytest.approx(48 * 3_600.0)
    assert told["co2e_operational"] == pytest.approx(48 * 0.72)
    assert told["co2e_market"] == pytest.approx(48 * 0.144)
    assert told["co2e_embodied"] == pytest.approx(48 * 0.24)
    assert told["water_onsite"] == pytest.approx(48 * 0.0036)
    assert told["water_offsite"] == pytest.approx(48 * 0.0576)
    assert told["water"] == pytest.approx(48 * 0.0612)
    assert told["co2e_marginal"] is None


def test_what_a_request_costs(found: Findings) -> None:
    chat = values(found, "model")
    assert chat["energy_per_request"] == pytest.approx(360.0)
    assert chat["co2e_per_request"] == pytest.approx(0.006)
    assert chat["water_per_request"] == pytest.approx(0.00051)
    assert chat["sci_per_request"] == pytest.approx((0.6 + 0.2) / 100)
    assert chat["sci_per_million_tokens"] == pytest.approx(0.8 / 10_000 * 1e6)
    assert chat["energy_per_million_tokens"] == pytest.approx(36_000 / 10_000 * 1e6)
    assert chat["energy_share"] == pytest.approx(36.0 / 43.2)
    assert chat["ess"] == pytest.approx(8000 * 4800 / (48 * 0.6))  # P x requests / sum of g, P in millions
    score = found.tables.rows["model"][1].amounts
    assert score["ess"].value is None
    assert score["sci_per_million_tokens"].why == "no tokens"


def test_ranges_of_the_total(found: Findings) -> None:
    """Gain: 36 kJ of 2 % and 7.2 kJ of 1 %; grams: with 5 % of the grid; water: EWIF by 1.7 either way."""
    gain = (36.0 * 0.02 + 7.2 * 0.01) / 43.2
    energy = found.tables.total.amounts["energy"]
    assert energy.low == pytest.approx(48 * 43_200 * math.exp(-2 * gain))
    assert energy.high == pytest.approx(48 * 43_200 * math.exp(2 * gain))
    grams = found.tables.total.amounts["co2e_operational"]
    assert grams.high == pytest.approx(48 * 0.72 * math.exp(2 * math.hypot(gain, 0.05)))
    water = found.tables.total.amounts["water"]
    whole, low, high = 48 * 0.0612, 48 * (0.0036 + 0.0576 / 1.7), 48 * (0.0036 + 0.0576 * 1.7)
    assert water.low == pytest.approx(whole * math.exp(-math.hypot(2 * gain, math.log(whole / low))))
    assert water.high == pytest.approx(whole * math.exp(math.hypot(2 * gain, math.log(high / whole))))
    market = found.tables.total.amounts["co2e_market"]
    assert market.high == pytest.approx(48 * 0.144 * math.exp(2 * gain)), "a contract's factor is exact"


def test_ranges_of_a_model_hold_the_division_among_requests(found: Findings) -> None:
    chat = found.tables.rows["model"][0].amounts["energy"]
    assert chat.high == pytest.approx(48 * 36_000 * math.exp(2 * math.hypot(0.02, 1800 / 36_000)))
    assert "division" in chat.basis


def test_whole_devices(found: Findings) -> None:
    site = found.tables.site
    joules = 48 * (72_000 + 36_000)
    assert site["energy"].value == pytest.approx(joules)
    assert site["facility_energy"].value == pytest.approx(joules * 1.2)
    assert site["co2e_operational"].value == pytest.approx(joules / 3.6e6 * 1.2 * 50)
    assert site["co2e_market"].value == pytest.approx(joules / 3.6e6 * 1.2 * 10)
    assert site["water_onsite"].value == pytest.approx(joules / 3.6e6 * 0.3)
    assert site["water_offsite"].value == pytest.approx(joules / 3.6e6 * 1.2 * 4.0)
    assert site["co2e_embodied"].value == pytest.approx(48 * 0.5)


@pytest.mark.parametrize("scope", list(SCOPES))
@pytest.mark.parametrize("quantity", ["requests", "energy", "co2e_operational", "water", "co2e_embodied"])
def test_every_division_adds_up_to_the_total(found: Findings, scope: str, quantity: str) -> None:
    parts = [row.value(quantity) or 0.0 for row in found.tables.rows[scope]]
    assert math.fsum(parts) == pytest.approx(found.tables.total.value(quantity))


def test_the_balance_of_each_device_adds_up(found: Findings) -> None:
    gpu, cpu = found.tables.devices
    assert (gpu.device, cpu.device) == ("gpu0", "package-0")
    assert gpu.shares == {"requests": 48 * 32_400, "process": 48 * 600, "host": 0.0, "idle": 48 * 39_000}
    assert gpu.joules == pytest.approx(48 * 72_000)
    assert (gpu.uncertainty, cpu.uncertainty) == (0.02, 0.01)
    charged = math.fsum(one.shares["requests"] for one in found.tables.devices)
    assert charged == pytest.approx(found.tables.total.value("active_energy"))
    assert all(one.difference == 0.0 for one in found.quality.agreements)
    assert len(found.quality.agreements) == 3


def test_the_timeline_holds_the_same_joules(found: Findings) -> None:
    days = sorted(found.observed.bins)
    assert days == [OCTOBER + n * HOUR for n in range(48)]
    for stem in (Metric.DEVICE_ENERGY.stem, Metric.ENERGY.stem):
        over_time = math.fsum(
            v for parts in found.observed.bins.values() for key, v in parts.items() if key[0] == stem
        )
        assert over_time == pytest.approx(math.fsum(found.observed.totals[stem].values()))


def test_without_embodied_and_contract_nothing_is_made_up(tmp_path: Path) -> None:
    found = findings(kept(tmp_path / "j", 4, embodied=False, market=False))
    for amounts in (found.tables.total.amounts, found.tables.site):
        assert amounts["co2e_embodied"] == Amount(None, "g", why="not configured")
        assert amounts["co2e_market"] == Amount(None, "g", why="not configured")
    chat = found.tables.rows["model"][0].amounts
    assert chat["sci_per_request"].value is None
    assert chat["sci_per_request"].why == "not configured"


def test_a_contract_of_zero_grams_is_a_figure(tmp_path: Path) -> None:
    growth: dict[Any, Any] = served(CHAT, requests=1, active=10.0, grams=1.0, market=0.0)
    keep(tmp_path / "j", [(OCTOBER + HOUR, line(0, OCTOBER, OCTOBER + HOUR, growth, place(market=0.0)))])
    assert findings(tmp_path / "j").tables.total.amounts["co2e_market"].value == 0.0


def test_a_meter_that_tells_no_uncertainty_gives_no_range(tmp_path: Path) -> None:
    growth: dict[Any, Any] = served(CHAT, requests=1, active=10.0, grams=1.0, offsite=1.0)
    gauges: dict[Any, Any] = {(Metric.PUE, ("FR", "set")): 1.0}
    keep(tmp_path / "j", [(OCTOBER + HOUR, line(0, OCTOBER, OCTOBER + HOUR, growth, gauges))])
    found = findings(tmp_path / "j")
    for quantity in ("energy", "co2e_operational", "water"):
        assert (found.tables.total.amounts[quantity].low, found.tables.total.amounts[quantity].high) == (None, None)
    assert any("no uncertainty of their sensors" in note.text for note in found.quality.notes)


def test_a_service_alone(two_days: Path) -> None:
    found = findings(two_days, service="shop")
    assert values(found)["requests"] == 48 * 400
    assert [row.labels["model"] for row in found.tables.rows["model"]] == ["fraud"]
    assert found.tables.site["energy"].value == pytest.approx(48 * 108_000), "devices are shared"
    assert [one.what[:8] for one in found.quality.agreements] == ["requests", "energy o"]


def test_lives_of_a_meter_on_one_host_are_one_device(tmp_path: Path) -> None:
    for number, life in enumerate(("a" * 16, "b" * 16)):
        start = OCTOBER + number * HOUR
        growth: dict[Any, Any] = drawn("gpu0", "gpu", requests=5.0, process=1.0, host=0.0, idle=4.0)
        keep(
            tmp_path / "j",
            [(start + HOUR, line(0, start, start + HOUR, growth, place(), life=life, host="n1"))],
            life,
        )
    (device,) = findings(tmp_path / "j").tables.devices
    assert (device.host, device.joules) == ("n1", 20.0)


def test_a_period_is_cut_out(two_days: Path) -> None:
    seen = from_journal(str(two_days), OCTOBER + 6 * HOUR, OCTOBER + 8 * HOUR)
    assert tables(seen).total.value("requests") == 1000


def test_no_figures_for_a_time_that_the_journal_does_not_know(two_days: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has no entries from .*; it holds 2026-10-01 to 2026-10-03; give another"
    ):
        from_journal(str(two_days), OCTOBER + 9 * DAY, OCTOBER + 10 * DAY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="it holds no journal file"):
        from_journal(str(tmp_path / "empty"), 0.0, 1.0)
    with pytest.raises(ConfigError, match=r"cannot be read .No such file.*ECOLYZER_JOURNAL"):
        from_journal(str(tmp_path / "nowhere"), 0.0, 1.0)


def test_ranges_of_nothing_and_of_much() -> None:
    assert quadrature(0.03, 0.04) == pytest.approx(0.05)
    assert quadrature(0.03, None) is None
    assert with_range(0.0, "J", 0.1, "") == Amount(0.0, "J")
    assert with_range(1.0, "J", None, "") == Amount(1.0, "J")
    wide = with_range(1.0, "J", 1.5, "")
    assert wide.low is not None
    assert wide.low > 0.0, "even where the standard uncertainty is above the value"
