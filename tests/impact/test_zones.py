"""Every place of the tables is found by its code and its name; ``ecolyzer zones`` shows what would be charged."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import subprocess
import sys

import pytest

from ecolyzer_otel.cli import zones
from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.place import resolve_place
from ecolyzer_otel.impact.search import place_names, search_places
from ecolyzer_otel.impact.tables import cloud_table, grid_table, read_rows

LEVELS = {row["zone"]: row["level"] for row in read_rows("grid_carbon_intensity")}
COUNTRIES = [zone for zone, level in LEVELS.items() if level == "country"]
STATES = [zone for zone, level in LEVELS.items() if zone.startswith("US-") and level == "subdivision"]
REGIONS = [f"{provider}:{region}" for provider, region in cloud_table()]


def codes(text: str) -> list[str]:
    return [match.code for match in search_places(text)]


def test_the_tables_hold_all_that_is_promised():
    assert (len(COUNTRIES), len(STATES), len(REGIONS)) == (214, 51, 186)


@pytest.mark.parametrize("code", [*COUNTRIES, *STATES, *REGIONS])
def test_every_place_resolves_and_is_found_by_its_code(code):
    place = resolve_place(code)
    assert 0.0 < place.grams_per_kwh < math.inf
    assert 0.0 < place.ewif < math.inf
    assert 1.0 <= place.pue < math.inf
    assert 0.0 <= place.wue < math.inf
    assert place.source
    best = search_places(code)[0]
    assert (best.code, best.kind, best.zone) == (code, "code", place.zone)


@pytest.mark.parametrize("zone", LEVELS)
def test_every_zone_is_found_by_its_name(zone):
    name = grid_table()[zone].name
    found = {match.code: match.kind for match in search_places(name)}
    assert found[zone] == ("code" if name.upper() == zone else "name")
    assert zone in codes(name.upper())


@pytest.mark.parametrize("region", REGIONS)
def test_every_cloud_region_is_found_by_its_region_and_by_each_name_of_its_place(region):
    provider, _, name = region.partition(":")
    place = place_names()[provider, name]
    for text in (name, place, *place.split(", ")):
        if text != "*":
            assert region in codes(text), text
    assert region in codes(provider)


def test_the_names_of_places_are_of_the_regions_of_the_table_and_say_their_source():
    rows = read_rows("cloud_places")
    assert [(row["provider"], row["region"]) for row in rows] == list(cloud_table())
    for row in rows:
        zone = cloud_table()[row["provider"], row["region"]].zone
        assert row["country"] == ("" if row["region"] == "*" else zone.partition("-")[0])
        assert row["place"]
        assert row["source"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frankfurt", ["aws:eu-central-1", "gcp:europe-west3", "azure:germanywestcentral"]),
        ("  FRANKFURT ", ["aws:eu-central-1", "gcp:europe-west3", "azure:germanywestcentral"]),
        ("ireland", ["IE", "aws:eu-west-1", "azure:northeurope"]),
        (
            "paris",
            ["aws:eu-west-3", "gcp:europe-west9", "azure:francecentral", "ovhcloud:PAR", "scaleway:fr-par-1"],
        ),
        ("virginia", ["US-VA", "gcp:us-east4", "azure:eastus", "aws:us-east-1", "US-WV"]),
        ("tokyo", ["aws:ap-northeast-1", "gcp:asia-northeast1", "azure:japaneast"]),
        ("são paulo", ["aws:sa-east-1", "gcp:southamerica-east1", "azure:brazilsouth"]),
        ("sao paulo", ["aws:sa-east-1", "gcp:southamerica-east1", "azure:brazilsouth"]),
        ("california", ["US-CA", "gcp:us-west2", "azure:westus", "aws:us-west-1"]),
        ("uk", ["GB", "aws:eu-west-2", "gcp:europe-west2", "azure:uksouth", "ovhcloud:UK1"]),
        ("usa", ["US", "US-AK", "aws:us-east-1"]),
        ("Cote d’Ivoire", ["CI"]),
        ("côte d'ivoire", ["CI"]),
        ("aws germany", ["aws:eu-central-1"]),
        ("google frankfurt", ["gcp:europe-west3"]),
        ("West Europe", ["azure:westeurope"]),
        ("us-east1", ["gcp:us-east1", "aws:us-east-1"]),
        ("us-east-1", ["aws:us-east-1", "gcp:us-east1"]),
        ("laptop", ["workstation:*"]),
        ("na", ["NA"]),
    ],
)
def test_what_a_text_finds_best_first(text, expected):
    found = codes(text)
    assert [code for code in found if code in expected] == expected
    assert found[0] == expected[0]


def test_better_fits_come_first_and_parts_of_names_only_where_nothing_fits_better():
    assert [match.kind for match in search_places("oman")] == ["name"]  # not Romania
    assert {match.kind for match in search_places("ermany")} == {"part"}
    assert codes("congo") == ["CG", "CD"]
    assert codes("georgia") == ["GE", "US-GA", "gcp:us-east2"]
    kinds = [match.kind for match in search_places("guinea")]
    order = ["code", "name", "area", "prefix", "word", "part", "close"]
    assert kinds == sorted(kinds, key=order.index)
    assert codes("us")[0] == "US"
    assert "AU" not in codes("us")


def test_a_mistyped_name_finds_what_it_looks_like_and_says_so():
    found = search_places("frankfrut")
    assert found[0].code == "aws:eu-central-1"
    assert {match.kind for match in found} == {"close"}


@pytest.mark.parametrize("text", ["xyzzy", "*", "-", "::", "\x00", "z" * 100_000, "🦎"])
def test_nonsense_finds_nothing(text):
    assert search_places(text) == []


def test_a_blank_text_finds_every_place():
    assert codes(" ") == [*LEVELS, *REGIONS]


@pytest.mark.parametrize(
    ("written", "region", "zone"),
    [
        ("aws:eu-central-1a", "aws:eu-central-1", "DE"),
        ("aws:us-gov-west-1b", "aws:us-gov-west-1", "US-OR"),
        ("gcp:europe-west1-b", "gcp:europe-west1", "BE"),
        ("ovhcloud:GRA11", "ovhcloud:GRA", "FR"),
        ("ovhcloud:RBX-A", "ovhcloud:RBX", "FR"),
        ("ovhcloud:EU-WEST-PAR", "ovhcloud:PAR", "FR"),
        ("ovhcloud:us-west-or-1", "ovhcloud:HIL", "US-OR"),
        ("scaleway:fr-par", "scaleway:fr-par", "FR"),
        ("scaleway:it-mil-2", "scaleway:it-mil-2", "IT"),
    ],
)
def test_a_zone_of_a_region_is_its_region(written, region, zone):
    place = resolve_place(written)
    assert (place.region, place.zone) == (region, zone)


@pytest.mark.parametrize(
    "written",
    ["aws:us-west-2-lax-1a", "aws:eu-central-1aa", "gcp:europe-west1-bc", "ovhcloud:EU-WEST-LZ-LUX-A", "a:b"],
)
def test_what_stands_elsewhere_or_nowhere_is_not_guessed(written):
    with pytest.raises(ConfigError, match="is not a known grid zone or cloud region"):
        resolve_place(written)


def test_an_unknown_zone_is_answered_by_the_same_search():
    with pytest.raises(ConfigError) as caught:
        resolve_place("frankfurt")
    assert str(caught.value) == (
        "zone: 'frankfurt' is not a known grid zone or cloud region; did you mean aws:eu-central-1 (Frankfurt) "
        "or gcp:europe-west3 (Frankfurt) or azure:germanywestcentral (Frankfurt)?"
    )


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ecolyzer")
    zones.add_parser(parser.add_subparsers(dest="command", required=True))
    return parser.parse_args(["zones", *arguments])


def test_the_command_prints_what_would_be_charged(capsys):
    assert zones.run(parse("aws", "frankfurt")) == 0
    printed = capsys.readouterr()
    header, row = printed.out.splitlines()
    assert " ".join(header.split()) == "CLOUD REGION PLACE zone g/kWh basis source water L/kWh PUE WUE"
    place = resolve_place("aws:eu-central-1")
    assert row.split() == [
        "aws:eu-central-1",
        "Frankfurt",
        "DE",
        f"{place.grams_per_kwh:.0f}",
        "lifecycle",
        "OWID/Ember",
        "2024",
        "1.9",
        f"({place.water_low:.1f}-{place.water_high:.1f})",
        "1.35",
        "0.01",
    ]
    assert printed.err == ""


def test_marks_tell_estimates_and_figures_of_a_larger_area(capsys):
    zones.run(parse("quebec"))
    assert "~28" in capsys.readouterr().out
    zones.run(parse("US-CA", "--limit", "1"))
    lines = capsys.readouterr().out.splitlines()
    assert "^3.1 (" in lines[1]
    assert lines[-1] == "^ of the country or the world that the place lies in" or lines[-1].endswith("shows them")
    zones.run(parse("ovhcloud:GRA"))
    assert capsys.readouterr().out.splitlines()[1].endswith(")")  # PUE and WUE stay blank: nobody published any


@pytest.mark.parametrize(("text", "width"), [("germany", 100), ("france", 100), ("uk", 100), ("", 111)])
def test_tables_fit_100_columns_where_the_codes_are_not_too_long(text, width, capsys):
    zones.run(parse(text))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_guesses_are_marked_as_such(capsys):
    assert zones.run(parse("frankfrut")) == 0
    assert capsys.readouterr().out.startswith("Nothing is called 'frankfrut'. Did you mean:\n\nCLOUD REGION ")


def test_without_a_text_everything_is_listed(capsys):
    assert zones.run(parse()) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines if line}
    assert listed >= {*LEVELS, *REGIONS}


def test_the_limit_leaves_off_the_rest_and_says_so(capsys):
    assert zones.run(parse("usa", "--limit", "2")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["US", "US-AK"]
    assert lines[-1].endswith(" more: a larger --limit shows them")


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "²"])
def test_a_wrong_limit_is_refused(limit, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(f"--limit={limit}")
    assert caught.value.code == 2
    assert "is not a number of at least 1" in capsys.readouterr().err


def test_json_holds_the_whole_figures(capsys):
    assert zones.run(parse("--json", "frankfurt")) == 0
    facts = json.loads(capsys.readouterr().out)
    place = resolve_place("gcp:europe-west3")
    (google,) = [fact for fact in facts if fact["code"] == "gcp:europe-west3"]
    assert google["grams_per_kwh"] == place.grams_per_kwh
    assert (google["name"], google["match"], google["grid_zone"]) == ("Frankfurt", "name", "DE")
    assert (google["pue"], google["wue_liters_per_kwh"]) == (1.09, None)
    assert google["water_low_liters_per_kwh"] == place.water_low
    assert zones.run(parse("--json")) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(LEVELS) + len(REGIONS)


def test_nothing_found_is_one_line_with_a_remedy(capsys):
    assert zones.run(parse("xyzzy", "plugh")) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ecolyzer: zones: nothing is called 'xyzzy plugh'; try a country, ")
    assert printed.err.count("\n") == 1


def test_an_output_that_knows_ascii_alone_gets_no_accents(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert zones.run(parse("são", "paulo")) == 0
    sys.stdout.flush()
    assert b"Sao Paulo" in raw.getvalue()


COMMAND = (
    "import argparse, sys; from ecolyzer_otel.cli import zones; parser = argparse.ArgumentParser(); "
    "zones.add_parser(parser.add_subparsers()); sys.exit(zones.run(parser.parse_args(sys.argv[1:])))"
)


def test_a_pager_that_is_closed_is_no_failure():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "zones"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_of_the_package():
    done = subprocess.run(
        [sys.executable, "-m", "ecolyzer_otel.cli.main", "zones", "frankfurt"],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    if "invalid choice: 'zones'" in done.stderr:
        pytest.skip("ecolyzer does not have the command yet")
    assert done.returncode == 0, done.stderr
    assert "aws:eu-central-1" in done.stdout
