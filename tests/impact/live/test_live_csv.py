"""A user's own CSV file: both layouts, every mistake with its line and column, and changes while it runs."""

from __future__ import annotations

import os
import time

import pytest
from live_server import KEY
from support.waiting import until

from ecolyzer_otel.errors import ConfigError
from ecolyzer_otel.impact.live import open_live

BY_ZONE = """\
zone,gco2e_per_kwh,year,basis,source
FR,52.5,2023,lifecycle_production,Our auditor
FR,44.5,2024,lifecycle_production,Our auditor
DE,344,2024,,
"""
BY_TIME = """\
time,gco2e_per_kwh,zone,until,basis,source,estimated
2026-01-01T00:00:00Z,100,FR,,lifecycle,DSO,false
2026-01-01T02:00:00+01:00,200,FR,2026-01-01T02:00:00Z,lifecycle,DSO,TRUE
1767240000,300,FR,,lifecycle,DSO,
2026-01-01T01:00:00Z,999,BE,,lifecycle,DSO,
"""
MIDNIGHT = 1767225600.0  # 2026-01-01T00:00:00Z
HOUR = 3600.0


@pytest.fixture
def opened(tmp_path):
    grids = []

    def begin(text, **options):
        file = tmp_path / "grid.csv"
        if text is not None:
            file.write_text(text)
        given = {"key": KEY, "zone": "FR", "refresh": 900.0, "max_age": 6 * HOUR, "cache": "none", "environ": {}}
        grid = open_live(f"csv:{file}", **{**given, **options})
        grid.said = []
        grid.on_problem = grid.said.append
        grids.append(grid)
        return grid

    yield begin
    for grid in grids:
        grid.close()


def test_a_figure_per_zone_stands_always(opened):
    grid = opened(BY_ZONE)
    figure = grid.at(time.time())
    assert figure is grid.at(0.0) is grid.at(1e12)
    assert (figure.grams_per_kwh, figure.zone, figure.basis) == (44.5, "FR", "lifecycle_production")
    assert (figure.source, figure.source_detail) == ("csv:grid.csv", "csv:grid.csv: Our auditor")
    assert (figure.from_s, figure.until_s) == (1704067200.0, None)  # 2024-01-01, the latest year
    assert grid.next_change(0.0) is None
    assert grid.problem is None


def test_without_a_year_it_is_as_old_as_the_file(opened, tmp_path):
    figure = opened("zone,gco2e_per_kwh\nFR,9\n").at(5.0)
    assert figure.from_s == os.stat(tmp_path / "grid.csv").st_mtime
    assert figure.basis == "unspecified"


def test_another_name_of_the_zone_in_the_file(opened):
    assert opened(BY_ZONE, zone="US-CA", region="de").at(0.0).grams_per_kwh == 344.0


def test_figures_by_time(opened):
    grid = opened(BY_TIME)
    assert grid.at(MIDNIGHT - 1) is None
    assert grid.at(MIDNIGHT).grams_per_kwh == 100.0
    assert grid.at(MIDNIGHT + HOUR - 1).grams_per_kwh == 100.0
    second = grid.at(MIDNIGHT + HOUR)
    assert (second.grams_per_kwh, second.until_s, second.estimated) == (200.0, MIDNIGHT + 2 * HOUR, True)
    assert grid.at(MIDNIGHT + 3 * HOUR).grams_per_kwh == 200.0  # ended, and nothing newer: stands for max_age
    assert grid.at(MIDNIGHT + 4 * HOUR).grams_per_kwh == 300.0
    assert grid.at(MIDNIGHT + 10 * HOUR).grams_per_kwh == 300.0
    assert grid.at(MIDNIGHT + 10 * HOUR + 1) is None


def test_changes_are_known_ahead(opened):
    grid = opened(BY_TIME)
    times, now = [], 0.0
    while (now := grid.next_change(now)) is not None:
        times.append(now - MIDNIGHT)
        assert (grid.at(now), len(times)) != (grid.at(now - 1e-3), 1)
    assert times == pytest.approx([0.0, HOUR, 2 * HOUR, 4 * HOUR, 10 * HOUR], abs=1e-3)


def test_times_without_a_zone_are_ours(opened):
    assert opened(f"gco2e_per_kwh,time\n1,{MIDNIGHT:.0f}\n").at(MIDNIGHT).zone == "FR"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["gco2e_per_kwh", "missing"]),
        ("zone,grams\nFR,1\n", ["column gco2e_per_kwh is missing"]),
        ("gco2e_per_kwh,year\n1,2024\n", ["column time or zone is missing"]),
        ("zone,gco2e_per_kwh\nFR,1\nFR,-3\n", ["line 3", "column gco2e_per_kwh"]),
        ("zone,gco2e_per_kwh\nFR,4000\n", ["line 2", "column gco2e_per_kwh", "0 to 2000"]),
        ("zone,gco2e_per_kwh\nFR,nan\n", ["line 2", "column gco2e_per_kwh"]),
        ("zone,gco2e_per_kwh\nDE,x\nFR,5\n", ["line 2", "column gco2e_per_kwh"]),
        ("zone,gco2e_per_kwh\nFR,\n", ["line 2", "column gco2e_per_kwh", "empty"]),
        ("zone,gco2e_per_kwh\nFR\n", ["line 2", "column gco2e_per_kwh", "empty"]),
        ("zone,gco2e_per_kwh\n,5\n", ["line 2", "column zone"]),
        ("zone,gco2e_per_kwh\nFR,5,6\n", ["line 2", "more cells"]),
        ("zone,gco2e_per_kwh\nDE,5\nBE,6\n", ["no row for zone FR", "BE, DE"]),
        ("zone,gco2e_per_kwh\n", ["no row for zone FR", "no row at all"]),
        ("zone,gco2e_per_kwh\nFR,5\nfr,6\n", ["line 3", "occurs twice"]),
        ("zone,gco2e_per_kwh,zone\nFR,5,FR\n", ["column occurs twice"]),
        ("zone,gco2e_per_kwh,year\nFR,5,24x\n", ["line 2", "column year"]),
        ("zone,gco2e_per_kwh,year\nFR,5,99999999999\n", ["line 2", "column year"]),
        ("zone,gco2e_per_kwh,basis\nFR,5,marginal\n", ["line 2", "column basis", "--marginal"]),
        ("time,gco2e_per_kwh\n2026-01-01T00:00:00,5\n", ["line 2", "column time", "no offset"]),
        ("time,gco2e_per_kwh\n2026-01-01,5\n", ["line 2", "column time", "no offset"]),
        ("time,gco2e_per_kwh\nyesterday,5\n", ["line 2", "column time"]),
        ("time,gco2e_per_kwh\n1767225600000,5\n", ["line 2", "column time", "seconds"]),
        ("time,gco2e_per_kwh,until\n1767225600,5,1767225000\n", ["line 2", "column until"]),
        ("time,gco2e_per_kwh,estimated\n1767225600,5,perhaps\n", ["line 2", "column estimated"]),
        ('zone,gco2e_per_kwh\nFR,"5\n', ["not CSV"]),
        ("zone,gco2e_per_kwh\nFR,5\n" + "x" * 200_000 + ",1\n", ["not CSV"]),
    ],
)
def test_a_mistake_is_named_with_line_column_and_remedy(opened, text, words):
    with pytest.raises(ConfigError) as caught:
        opened(text)
    assert caught.value.key == KEY
    assert caught.value.remedy
    for word in (*words, "grid.csv"):
        assert word in str(caught.value)


def test_a_file_that_is_not_text(opened, tmp_path):
    (tmp_path / "grid.csv").write_bytes(b"zone,gco2e_per_kwh\n\xff\xfe,1\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        opened(None)


def test_a_file_that_is_not_there(opened):
    with pytest.raises(ConfigError, match="No such file"):
        opened(None)


def test_a_byte_order_mark_and_spaces_do_no_harm(opened):
    assert opened("\ufeffzone , gco2e_per_kwh\n FR , 5 \n").at(0.0).grams_per_kwh == 5.0


def test_marginal_files_say_so_in_every_row(opened):
    text = "zone,gco2e_per_kwh,basis\nFR,500,marginal\n"
    assert opened(text, marginal=True).at(0.0).basis == "marginal"
    with pytest.raises(ConfigError, match="line 3, column basis"):
        opened(text + "DE,400,\n", marginal=True)


def watched(opened, text):
    from ecolyzer_otel.impact.live.refresh import Pace

    grid = opened(text)
    grid._provider.floor_s = 0.0
    grid._pace = Pace(refresh=0.02, backoff_first=0.02, backoff_most=0.05)
    grid.start()
    return grid


def replace(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_a_new_version_is_read_and_a_broken_one_is_not_taken(opened, tmp_path):
    file = tmp_path / "grid.csv"
    grid = watched(opened, BY_ZONE)
    replace(file, "zone,gco2e_per_kwh\nFR,7\n")
    until(lambda: grid.at(0.0).grams_per_kwh == 7.0)
    replace(file, "zone,gco2e_per_kwh\nFR,-7\n")
    until(lambda: grid.outcomes.get("bad_file", 0) >= 2)
    assert grid.at(0.0).grams_per_kwh == 7.0
    assert "line 2, column gco2e_per_kwh" in grid.problem
    assert "7 g/kWh stand" in grid.problem
    file.unlink()
    until(lambda: "cannot be read" in (grid.problem or ""))
    assert grid.at(0.0).grams_per_kwh == 7.0
    replace(file, BY_TIME)
    until(lambda: grid.at(MIDNIGHT) and grid.at(MIDNIGHT).grams_per_kwh == 100.0)
    until(lambda: len(grid.said) >= 2)
    assert len([line for line in grid.said if "column gco2e_per_kwh" in line]) == 1


def test_what_it_had_at_the_start_is_a_reading_but_of_a_figure_that_stands_always(opened):
    assert opened(BY_TIME).outcomes == {"ok": 1}
    assert opened(BY_ZONE).outcomes == {}


def test_a_file_that_ended_is_said_once(opened):
    grid = watched(opened, BY_TIME)
    until(lambda: grid.said)
    time.sleep(0.1)
    assert len(grid.said) == 1
    assert grid.said[0].startswith(f"{KEY}: csv:grid.csv has no figure for this time")
    assert grid.at(time.time()) is None


@pytest.mark.slow
def test_a_year_of_five_minutes_is_read(opened):
    rows = "".join(f"{MIDNIGHT + 300 * n:.0f},{n % 1000}\n" for n in range(105_120))
    grid = opened("time,gco2e_per_kwh\n" + rows)
    assert grid.at(MIDNIGHT + 300 * 50_000 + 1).grams_per_kwh == 0.0
    with pytest.raises(ConfigError, match="more than 120000 rows"):
        opened("time,gco2e_per_kwh\n" + "".join(f"{n},1\n" for n in range(120_001)))
