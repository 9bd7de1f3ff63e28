"""From ENTSO-E's generation per type to grams per kWh, by hand-computed documents."""

from __future__ import annotations

import io
import time
import zipfile

import pytest
from live_server import AREA, CASES, Answer, document, entsoe, series
from support.waiting import until

from ecolyzer_otel.impact.live.eic import AREAS, find_area, is_eic
from ecolyzer_otel.impact.live.figure import Problem
from ecolyzer_otel.impact.live.mix import latest_mix, technology_factors
from ecolyzer_otel.impact.tables import grid_table, read_rows

T = 1_800_000_000.0 // 3600 * 3600
QUARTER = 900.0


def mix(*all_series):
    return latest_mix(document(*all_series).encode(), AREA)


def outcome(text, area=AREA):
    with pytest.raises(Problem) as caught:
        latest_mix(text if isinstance(text, bytes) else text.encode(), area)
    return caught.value.outcome


def test_the_table_has_a_factor_with_its_source_for_every_type_of_production():
    rows = read_rows("technology_carbon")
    assert [row["psr_type"] for row in rows] == [*(f"B{n:02}" for n in range(1, 21)), "B25"]
    assert all(row["source"] for row in rows)
    # IPCC AR5 WGIII Annex III Table A.III.2, medians.
    ar5 = {"B05": 820, "B04": 490, "B01": 230, "B09": 38, "B12": 24, "B14": 12, "B16": 48, "B19": 11, "B18": 12}
    assert {code: technology_factors()[code] for code in ar5} == ar5


def test_a_mix_is_weighed_by_power():
    # By hand: (600 x 12 + 300 x 490 + 100 x 820) / 1000 = (7200 + 147000 + 82000) / 1000 = 236.2 g/kWh.
    found = mix(series("B14", T, [600.0]), series("B04", T, [300.0]), series("B05", T, [100.0]))
    assert found.grams_per_kwh == pytest.approx(236.2)
    assert (found.from_s, found.until_s) == (T, T + QUARTER)
    assert found.shares == pytest.approx({"B14": 0.6, "B04": 0.3, "B05": 0.1})


def test_the_latest_time_that_all_types_share_counts():
    found = mix(series("B14", T, [100, 100, 300, 900]), series("B05", T, [100, 100, 100]))
    # By hand: (300 x 12 + 100 x 820) / 400 = 214 g/kWh, of the third quarter.
    assert found.grams_per_kwh == pytest.approx(214.0)
    assert found.from_s == T + 2 * QUARTER


def test_a_point_missing_from_a_curve_of_type_a03_repeats_the_one_before():
    found = mix(series("B14", T, [100, None, None, None], curve="A03"), series("B05", T, [300, 200, 200, 100]))
    assert found.grams_per_kwh == pytest.approx(416.0)  # (100 x 12 + 100 x 820) / 200
    assert found.from_s == T + 3 * QUARTER


def test_a_point_missing_from_another_curve_is_missing():
    found = mix(series("B14", T, [100, 100, None, None]), series("B05", T, [300, 100, 200, 100]))
    assert found.from_s == T + QUARTER


def test_a_gap_within_a_series_is_not_bridged():
    found = mix(
        series("B14", T, [100]), series("B14", T + 2 * QUARTER, [100]), series("B05", T, [100, 100, None, None])
    )
    assert found.from_s == T


def test_several_resolutions_meet():
    found = mix(series("B14", T, [100, 400], step=60), series("B05", T, [1, 2, 3, 4, 100, 200]))
    assert (found.from_s, found.until_s) == (T + 5 * QUARTER, T + 6 * QUARTER)
    assert found.grams_per_kwh == pytest.approx((400 * 12 + 200 * 820) / 600)


def test_what_storage_takes_is_skipped_and_what_it_gives_back_left_out():
    found = mix(
        series("B14", T, [100.0]),
        series("B10", T, [500.0], side="out"),
        series("B10", T - 7200, [500.0]),  # hours behind all others, too
        series("B25", T, [50.0]),
    )
    assert found.grams_per_kwh == 12.0
    assert set(found.shares) == {"B14"}


def test_wind_that_draws_a_little_is_nothing():
    assert mix(series("B19", T, [-3.0]), series("B14", T, [50.0])).grams_per_kwh == 12.0


def test_a_type_that_is_not_known_counts_as_other():
    assert mix(series("B77", T, [50.0])).grams_per_kwh == technology_factors()["B20"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (document(), "no_data"),
        (document(series("B10", T, [5.0])), "no_data"),
        (document(series("B14", T, [5.0]), series("B05", T + 3600, [5.0])), "no_data"),
        (
            "<Acknowledgement_MarketDocument><Reason><code>999</code></Reason></Acknowledgement_MarketDocument>",
            "no_data",
        ),
        (document(series("B14", T, [0.0])), "bad_value"),
        (document(series("B14", T, ["NaN"])), "bad_value"),
        (document(series("B14", T, ["x"])), "bad_value"),
        (document(series("B14", T, ["1e9"])), "bad_value"),
        (document(series("B14", T, [5.0])).replace("PT15M", "P1Y"), "bad_value"),
        (document(series("B14", T, [5.0])).replace("PT15M", "PT0M"), "bad_value"),
        (document(series("B14", T, [5.0])).replace(">1</position>", ">2</position>"), "bad_value"),
        (document(series("B14", T, [5.0])).replace(">1</position>", ">²</position>"), "bad_value"),
        (document(series("B14", T, [5.0])).replace("<psrType>B14</psrType>", ""), "bad_value"),
        (document(series("B14", T, [5.0])).replace("timeInterval", "elsewhere"), "bad_value"),
        (document(series("B14", T, [5.0], area="10YBE----------2")), "wrong_zone"),
        ("<html><body>Sign in</body></html>", "not_xml"),
        ("{}", "not_xml"),
        ("", "not_xml"),
        (document(series("B14", T, [5.0]))[:-9], "not_xml"),
    ],
)
def test_a_document_that_cannot_be_used(text, kind):
    assert outcome(text) == kind


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-32"])
def test_entities_are_refused_before_they_are_parsed(codec):
    bomb = (
        '<!DOCTYPE a [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><GL_MarketDocument>&b;</GL_MarketDocument>'
    )
    assert outcome(bomb.encode(codec)) == "not_xml"


def packed(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (lambda: packed(("mix.xml", entsoe(100.0, time.time()).encode())), "ok"),
        (lambda: packed(("bomb.xml", b"<" + b" " * (50 << 20))), "too_large"),
        (lambda: packed(("a.txt", b"x")), "not_xml"),
        (lambda: packed(("a.xml", b"x"), ("b.xml", b"y")), "not_xml"),
        (lambda: packed(("mix.xml", b"<x/>" * 100))[:-40], "not_xml"),
        (lambda: b"PK\x03\x04" + b"\0" * 100, "not_xml"),
    ],
    ids=["good", "bomb", "no XML", "two", "cut", "no ZIP"],
)
def test_a_zip(server, run, body, kind):
    case = next(case for case in CASES if case.name == "entsoe")
    content = body()
    server.answer = lambda asked: Answer(content, headers={"Content-Type": "application/zip"})
    grid, _ = run(case)
    until(lambda: grid.outcomes)
    assert set(grid.outcomes) == {kind}


def test_every_area_code_has_its_check_character():
    assert [name for name, code in AREAS.items() if not is_eic(code)] == []
    assert not is_eic("10Y1001A1001A83G")
    assert not is_eic("10Y1001A1001A83")


def test_every_area_is_one_of_our_zones_or_a_bidding_zone():
    bidding = {"DE-LU", "DK1", "DK2", "IE-SEM"}
    assert {name for name in AREAS if name not in grid_table()} - bidding == {
        name for name in AREAS if name.startswith("IT-")
    }


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("FR", "10YFR-RTE------C"),
        ("de_lu", "10Y1001A1001A82H"),
        ("SE3", "10Y1001A1001A46L"),
        ("NO_1", "10YNO-1--------2"),
        ("no-no1", "10YNO-1--------2"),
        ("10y1001a1001a46l", "10Y1001A1001A46L"),
        ("US-CA", None),
        ("GB", None),
        ("", None),
        ("SE9", None),
        ("10Y1001A1001A46J", None),
    ],
)
def test_areas_by_the_names_people_use(text, code):
    assert find_area(text) == code
