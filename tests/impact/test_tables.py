"""The packaged tables: rows that cannot be true are refused, and everything shipped is attributed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from ecolyzer_otel.impact.tables import (
    FactorTableError,
    cloud_table,
    grid_table,
    parse_cloud,
    parse_grid,
    parse_water,
    read_rows,
)

GRID = {
    "zone": "FR",
    "name": "France",
    "gco2e_per_kwh": "44.18",
    "year": "2024",
    "basis": "lifecycle_production",
    "source": "Ember",
}
WATER = {"zone": "FR", "litres_per_kwh": "3.67", "method": "published", "year": "2020", "source": "WRI Guidance"}
CLOUD = {"provider": "aws", "region": "eu-west-3", "zone": "FR", "source": "WRI Guidance for Calculating Water Use"}


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("gco2e_per_kwh", "-1"),
        ("gco2e_per_kwh", "2000.1"),
        ("gco2e_per_kwh", "nan"),
        ("gco2e_per_kwh", "inf"),
        ("gco2e_per_kwh", "much"),
        ("gco2e_per_kwh", ""),
        ("year", "24"),
        ("basis", ""),
        ("source", "someone"),
    ],
)
def test_a_carbon_row_that_cannot_be_true_is_refused(column, text):
    with pytest.raises(FactorTableError, match=r"^FR: "):
        parse_grid([{**GRID, column: text}])


@pytest.mark.parametrize(("column", "text"), [("litres_per_kwh", "-1"), ("litres_per_kwh", "1e3"), ("method", "?")])
def test_a_water_row_that_cannot_be_true_is_refused(column, text):
    with pytest.raises(FactorTableError, match=r"^FR: "):
        parse_water([{**WATER, column: text}])


@pytest.mark.parametrize(
    ("column", "text"), [("pue", "0.9"), ("pue", "nan"), ("wue_l_per_kwh", "-1"), ("zone", "")]
)
def test_a_cloud_row_that_cannot_be_true_is_refused(column, text):
    with pytest.raises(FactorTableError, match=r"^aws:eu-west-3: "):
        parse_cloud([{**CLOUD, column: text}])


def test_a_row_may_not_occur_twice():
    for parse, row in ((parse_grid, GRID), (parse_water, WATER), (parse_cloud, CLOUD)):
        parse([row])
        with pytest.raises(FactorTableError, match="occurs twice"):
            parse([row, row])


def test_a_missing_table_is_reported():
    with pytest.raises(FactorTableError, match=r"nothing\.csv cannot be read"):
        read_rows("nothing")


def test_no_two_places_are_spelled_alike():
    def key(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).casefold()

    for codes in (list(grid_table()), [":".join(pair) for pair in cloud_table()]):
        assert len({key(code) for code in codes}) == len(codes)


def test_the_notice_names_every_table():
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    tables = [file.name for file in (resources.files("ecolyzer_otel.impact") / "data").iterdir()]
    assert len(tables) == 7
    assert [name for name in tables if name not in notice] == []


def test_embodied_figures_are_positive_and_sourced():
    rows = read_rows("embodied")
    assert {row["item"]: float(row["embodied_kgco2e"]) for row in rows}["NVIDIA H100 SXM 80GB"] == 164.0  # 1312 / 8
    assert all(float(row["embodied_kgco2e"]) > 0 and row["source"] and row["license"] for row in rows)


def test_import_reads_no_table():
    code = (
        "import ecolyzer_otel.impact, ecolyzer_otel.impact.tables as t; "
        "print([f.cache_info().currsize for f in (t.grid_table, t.water_table, t.cloud_table)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 0, 0]"
