"""Embodied emissions by time share, and SCI. The public worked examples: test_public_examples.py."""

from __future__ import annotations

import math

import pytest

from ecolyzer_otel.impact.embodied import SECONDS_PER_YEAR, Embodied, embodied_of, time_share_grams
from ecolyzer_otel.impact.sci import SciWindow, sci
from ecolyzer_otel.impact.tables import FactorTableError, embodied_table, parse_embodied
from ecolyzer_otel.sensors import SensorInfo


def sensor(name: str, component: str = "cpu", description: str = "") -> SensorInfo:
    return SensorInfo(
        id=name, component=component, method="measured", description=description or name,
        update_period_seconds=0.1, relative_uncertainty=0.02,
    )  # fmt: skip


CPU0, CPU1, DRAM = sensor("package-0"), sensor("package-1"), sensor("dram-0", "dram")
H100 = sensor("gpu0", "gpu", "NVML NVIDIA H100 80GB HBM3")
STRANGE = sensor("gpu1", "gpu", "NVML Quadro Z9")
HOST = (CPU0, CPU1, DRAM, H100)


def problem_of(*arguments) -> str:
    found = embodied_of(*arguments)
    (problem,) = found.problems
    return str(problem)


def test_a_server_is_spread_over_its_lifetime_and_its_packages():
    found = embodied_of((("server", "1000"),), (("", "4"),), 0.5, HOST)
    rate = 1000e3 * 0.5 / (4 * 365 * 86400)
    assert found.by_sensor == {"package-0": pytest.approx(rate / 2), "package-1": pytest.approx(rate / 2)}
    assert sum(part.grams_per_second for part in found.parts) == pytest.approx(rate)
    assert found.problems == ()


def test_a_host_of_which_only_gpus_are_measured_has_its_server_there():
    found = embodied_of((("server", "1000"),), (("", "4"),), 1.0, (H100, STRANGE))
    assert found.by_sensor.keys() == {"gpu0", "gpu1"}


def test_reserved_is_of_the_server_and_not_of_its_gpus():
    found = embodied_of((("server", "1000"), ("gpu", "100")), (("server", "5"), ("gpu", "4")), 0.25, HOST)
    assert {part.name: (part.reserved, part.lifetime_years) for part in found.parts} == {
        "server": (0.25, 5.0),
        "gpu": (1.0, 4.0),
    }
    assert found.by_sensor["gpu0"] == pytest.approx(time_share_grams(100, 4, 1))


def test_a_row_of_the_table_brings_its_own_lifetime_source_and_confidence():
    (part,) = embodied_of((("server", "powerEdge r740"),), (), 1.0, HOST).parts
    row = embodied_table()["Dell PowerEdge R740"]
    assert (part.kilograms, part.lifetime_years) == (row.kilograms, row.lifetime_years)
    assert "Dell product carbon footprint" in part.source
    assert part.uncertainty == pytest.approx(math.log(1.5) / 2)


def test_gpu_auto_finds_the_row_by_the_name_that_nvml_gives():
    found = embodied_of((("gpu", "auto"),), (("gpu", "4"),), 1.0, HOST)
    assert found.by_sensor == {"gpu0": pytest.approx(time_share_grams(164, 4, 1))}


def test_one_gpu_by_its_id():
    found = embodied_of((("gpu1", "60"),), (("", "3"),), 1.0, (*HOST, STRANGE))
    assert found.by_sensor == {"gpu1": pytest.approx(time_share_grams(60, 3, 1))}


@pytest.mark.parametrize(
    ("pairs", "lifetimes", "said"),
    [
        ((("server", "1000"),), (), "server=1000: the lifetime is missing; give --lifetime"),
        ((("gpu", "NVIDIA B200 SXM"),), (), "the lifetime is missing"),
        ((("server", "-1"),), (("", "4"),), "server=-1 is out of range; give kgCO2e from 0 to 100000"),
        ((("server", "nan"),), (("", "4"),), "server=nan is out of range"),
        ((("server", "1e9"),), (("", "4"),), "server=1e9 is out of range"),
        ((("server", "PowerEdge R7"),), (), "matches 7 rows; give the full name of one"),
        ((("server", "abacus"),), (), "the table has no row named 'abacus'; give kgCO2e as a number"),
        ((("tpu", "5"),), (("", "4"),), "'tpu' is not a part of this host; give one of server, gpu, package-0"),
    ],
)
def test_what_cannot_be_used_is_one_problem_that_names_key_and_remedy(pairs, lifetimes, said):
    problem = problem_of(pairs, lifetimes, 1.0, HOST)
    assert problem.startswith("--embodied (ECOLYZER_EMBODIED): ")
    assert said in problem


def test_a_gpu_that_the_table_does_not_have_is_named_and_the_others_stay():
    found = embodied_of((("gpu", "auto"),), (("", "4"),), 1.0, (H100, STRANGE))
    assert found.by_sensor.keys() == {"gpu0"}
    assert str(found.problems[0]).endswith("the table has no figure for NVML Quadro Z9 (gpu1); give gpu1=KG")


def test_unknown_is_not_zero():
    found = embodied_of((("gpu", "100"),), (("", "4"),), 1.0, HOST)
    assert found.grams([("package-0", 5.0)]) is None
    assert found.grams([("package-0", 5.0), ("gpu0", 0.0)]) == 0.0
    assert Embodied().grams([("package-0", 5.0)]) is None


def test_time_share():
    assert time_share_grams(1000.0, 1.0, SECONDS_PER_YEAR) == pytest.approx(1e6)
    assert time_share_grams(1000.0, 4.0, 3600.0, 0.5) == pytest.approx(14.269406)


def test_a_table_with_a_row_that_cannot_be_is_refused():
    row = {
        "kind": "gpu", "item": "G", "embodied_kgco2e": "-3", "boundary": "b", "confidence": "low", "source": "s"
    }  # fmt: skip
    with pytest.raises(FactorTableError, match="G: embodied_kgco2e '-3' is not a number from 0 to"):
        parse_embodied([row])
    good = row | {"embodied_kgco2e": "3"}
    with pytest.raises(FactorTableError, match="occurs twice"):
        parse_embodied([good, good])


# SCI.


def test_sci_is_operational_and_embodied_by_units():
    assert sci(30.0, 10.0, 4.0) == 10.0
    for amounts in ((-1.0, 0.0, 1.0), (0.0, math.nan, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, math.inf)):
        with pytest.raises(ValueError, match="must be finite"):
            sci(*amounts)


def test_the_window_gives_sci_per_request_item_and_million_tokens():
    window = SciWindow()
    window.add(100.0, 2.0, 3, None)
    window.add(101.0, 4.0, 1, (900, 100))
    assert window.values(102.0) == {
        "request": pytest.approx(3.0),
        "item": pytest.approx(1.5),
        "million_tokens": pytest.approx(4000.0),
        "million_output_tokens": pytest.approx(40000.0),
    }
    assert set(window.values(1000.0).values()) == {None}


def test_a_unit_that_never_occurred_has_no_sci():
    window = SciWindow()
    window.add(100.0, 2.0, 3, None)
    values = window.values(100.0)
    assert values["million_tokens"] is None
    assert values["request"] == pytest.approx(2.0)
