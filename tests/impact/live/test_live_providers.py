"""Each provider, answering as documented: what is asked, and what becomes of the answer."""

from __future__ import annotations

import time

import pytest
from live_server import AREA, CASES, Answer, electricitymaps, neso
from support.waiting import until

from ecolyzer_otel.impact.live import open_live

BY_NAME = {case.name: case for case in CASES}


def test_an_answer_becomes_the_figure_that_stands(case, server, run):
    server.answer = case.respond(123.0)
    grid, said = run(case)
    figure = until(lambda: grid.at(time.time()))
    assert figure.grams_per_kwh == pytest.approx(123.0)
    assert figure.source == case.label == grid.source
    assert figure.from_s <= time.time()
    assert figure.uncertainty is None
    assert (grid.problem, said) == (None, [])
    assert set(grid.outcomes) == {"ok"}
    assert server.asked[-1].headers["user-agent"].startswith("ecolyzer-otel/")


def test_nothing_is_asked_before_the_start(case, server):
    grid = case.open(server.url)
    time.sleep(0.05)
    assert server.asked == []
    assert grid.at(time.time()) is None
    assert grid.problem is None
    grid.close()


def asked_by(name, server, run, **options):
    case = BY_NAME[name]
    server.answer = options.pop("answer", case.respond(50.0))
    grid, _ = run(case, refresh=60.0, **options)
    figure = until(lambda: grid.at(time.time()))
    return server.asked, figure


def test_electricity_maps(server, run):
    asked, figure = asked_by("electricitymaps", server, run)
    assert asked[0].path == "/v3/carbon-intensity/latest"
    assert asked[0].query == {
        "zone": "DE",
        "emissionFactorType": "lifecycle",
        "shouldUseFallbackCallerLookup": "false",
        "disableCallerLookup": "true",
    }
    assert asked[0].headers["auth-token"] == "em-s3cret/+token=="
    assert (figure.zone, figure.basis, figure.estimated) == ("DE", "lifecycle_consumption", True)
    assert (figure.from_s % 3600, figure.until_s) == (0.0, None)
    assert time.time() - figure.from_s < 3660


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"zone": "US-CA", "em_zone": "US-CAL-CISO"}, "US-CAL-CISO"),
        ({"zone": "US-CA", "em_zone": "US-CAL-CISO", "region": "US-CAL-LDWP"}, "US-CAL-LDWP"),
        ({"zone": "NO-NO1"}, "NO-NO1"),
        ({"zone": "CN-SH"}, "CN"),
        ({"zone": "FR", "cloud": ("gcp", "europe-west9"), "em_zone": "FR"}, "FR"),
    ],
)
def test_electricity_maps_is_asked_by_its_own_name_of_the_zone(server, run, options, sent):
    asked, figure = asked_by(
        "electricitymaps",
        server,
        run,
        answer=lambda asked: Answer(electricitymaps(50, time.time(), sent)),
        **options,
    )
    assert asked[0].query["zone"] == figure.zone == sent


def test_electricity_maps_is_asked_by_cloud_region_where_its_zone_is_unknown(server, run):
    asked, figure = asked_by(
        "electricitymaps",
        server,
        run,
        answer=lambda asked: Answer(electricitymaps(50, time.time(), "US-SE-SOCO")),
        zone="US-GA",
        cloud=("azure", "southeastus"),
    )
    assert asked[0].query["dataCenterProvider"] == "azure"
    assert asked[0].query["dataCenterRegion"] == "southeastus"
    assert "zone" not in asked[0].query
    assert figure.zone == "US-SE-SOCO"


def test_electricity_maps_must_stay_in_the_cloud_regions_country(server, run):
    server.answer = lambda asked: Answer(electricitymaps(50, time.time(), "FR"))
    grid, _ = run(BY_NAME["electricitymaps"], zone="US-GA", cloud=("azure", "southeastus"))
    until(lambda: grid.outcomes.get("wrong_zone"))
    assert grid.at(time.time()) is None


def test_neso_national(server, run):
    asked, figure = asked_by("neso", server, run)
    assert (asked[0].path, asked[0].query) == ("/intensity", {})
    assert (figure.zone, figure.basis, figure.estimated) == ("GB", "direct_consumption", False)
    assert figure.until_s == figure.from_s + 1800


def test_neso_without_an_actual_value_gives_the_forecast_and_says_so(server, run):
    def answer(asked):
        body = neso(50, time.time())
        body["data"][0]["intensity"]["actual"] = None
        return Answer(body)

    _, figure = asked_by("neso", server, run, answer=answer)
    assert (figure.grams_per_kwh, figure.estimated) == (57.0, True)


def test_neso_regional_is_a_forecast(server, run):
    asked, figure = asked_by("neso-regional", server, run)
    assert asked[0].path == "/regional/postcode/RG10"
    assert (figure.zone, figure.estimated) == ("GB RG10", True)


def test_neso_by_region_number(server, run):
    asked, figure = asked_by("neso-regional", server, run, region="12")
    assert asked[0].path == "/regional/regionid/12"
    assert figure.zone == "GB 12"


def test_rte(server, run):
    asked, figure = asked_by("rte", server, run)
    assert asked[0].path == "/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"
    assert asked[0].query["where"] == "taux_co2 is not null"
    assert asked[0].query["order_by"] == "date_heure desc"
    assert (figure.zone, figure.basis, figure.estimated) == ("FR", "direct_generation", True)


def test_each_time_has_its_own_figure(server, run):
    case = BY_NAME["rte"]
    now = time.time()
    server.answer = case.respond(50.0, now)
    grid, _ = run(case, refresh=60.0)
    newest = until(lambda: grid.at(now))
    before = grid.at(newest.from_s - 1)
    assert (newest.grams_per_kwh, before.grams_per_kwh, before.until_s) == (50.0, 51.0, newest.from_s)
    assert grid.at(newest.from_s - 1801) is None
    assert grid.next_change(newest.from_s - 1) == newest.from_s


def test_entsoe(server, run):
    asked, figure = asked_by("entsoe", server, run)
    query = asked[0].query
    assert asked[0].path == "/api"
    assert query["securityToken"] == "entsoe-s3cret/+token"
    assert (query["documentType"], query["processType"], query["in_Domain"]) == ("A75", "A16", AREA)
    assert len(query["periodStart"]) == len(query["periodEnd"]) == 12
    assert (figure.zone, figure.basis, figure.estimated) == ("FR", "derived_lifecycle_mix", True)
    assert AREA in figure.source_detail


def test_watttime_logs_in_and_gives_marginal_grams(server, run):
    asked, figure = asked_by("watttime", server, run)
    assert [one.path for one in asked] == ["/login", "/v3/historical"]
    assert asked[0].headers["authorization"] == "Basic d2F0dC11c2VyOndhdHQtczNjcmV0"
    assert asked[1].headers["authorization"] == "Bearer session-token-of-watttime"
    assert asked[1].query["region"] == "CAISO_NORTH"
    assert asked[1].query["signal_type"] == "co2_moer"
    assert (figure.zone, figure.basis) == ("CAISO_NORTH", "marginal")


def test_pounds_per_megawatt_hour_are_turned_into_grams(server, run):
    # By hand: 1000 lb/MWh x 453.59237 g/lb / 1000 kWh/MWh = 453.59237 g/kWh.
    case = BY_NAME["watttime"]
    _, figure = asked_by("watttime", server, run, answer=case.respond(453.59237))
    assert figure.grams_per_kwh == pytest.approx(453.59237)


def test_watttime_logs_in_again_once_when_its_token_has_run_out(server, run):
    case = BY_NAME["watttime"]
    valid = case.respond(50.0)
    logins = []

    def answer(asked):
        if asked.path == "/login":
            logins.append(asked)
            return Answer({"token": f"token-{len(logins)}"})
        if asked.headers["authorization"] == "Bearer token-1" and len(server.asked) > 3:
            return Answer(status=401)
        return valid(asked)

    server.answer = answer
    grid, said = run(case)
    until(lambda: len(logins) == 2 and grid.outcomes.get("ok", 0) >= 3)
    assert (set(grid.outcomes), said) == ({"ok"}, [])


def test_watttime_refusing_a_new_token_is_final(server, run):
    def answer(asked):
        return Answer({"token": "t"}) if asked.path == "/login" else Answer(status=403)

    server.answer = answer
    _, said = run(BY_NAME["watttime"])
    until(lambda: said)
    time.sleep(0.3)
    assert [one.path for one in server.asked] == ["/login", "/v3/historical"]
    assert "CAISO_NORTH" in said[0]


@pytest.mark.parametrize("change", [{"units": "percentile"}, {"units": None}])
def test_a_watttime_index_is_no_intensity(server, run, change):
    case = BY_NAME["watttime"]

    def answer(asked):
        found = case.respond(50.0)(asked)
        if asked.path != "/login":
            found.body["meta"].update(change)
        return found

    server.answer = answer
    grid, _ = run(case)
    until(lambda: grid.outcomes.get("bad_value"))
    assert grid.at(time.time()) is None


def test_an_endpoint_needs_to_answer_one_number(server, run):
    server.answer = lambda asked: Answer({"grams_per_kwh": 77})
    grid, _ = run(BY_NAME["endpoint"], refresh=60.0)
    figure = until(lambda: grid.at(time.time()))
    assert (figure.grams_per_kwh, figure.zone, figure.basis) == (77.0, "FR", "unspecified")
    assert time.time() - figure.from_s < 10
    assert server.asked[0].headers["authorization"] == "Bearer own-s3cret"
    assert server.asked[0].query == {"code": "1"}


def test_an_endpoint_may_say_more(server, run):
    now = time.time()
    server.answer = lambda asked: Answer(
        {
            "grams_per_kwh": 77,
            "zone": "fr",
            "time": now - 5,
            "until": now + 60,
            "source": "our meter",
            "estimated": True,
        }
    )
    grid, _ = run(BY_NAME["endpoint"], refresh=60.0)
    figure = until(lambda: grid.at(time.time()))
    assert (figure.from_s, figure.until_s, figure.estimated) == (now - 5, now + 60, True)
    assert figure.source_detail == "127.0.0.1: our meter"


@pytest.mark.parametrize(
    ("marginal", "basis", "taken"),
    [(True, "marginal", True), (True, None, False), (True, "lifecycle", False), (False, "marginal", False)],
)
def test_marginal_and_average_are_never_mixed(server, run, marginal, basis, taken):
    server.answer = lambda asked: Answer({"grams_per_kwh": 77, "basis": basis})
    grid, _ = run(BY_NAME["endpoint"], marginal=marginal, environ={"ECOLYZER_MARGINAL_TOKEN": "m"})
    until(lambda: grid.outcomes)
    assert set(grid.outcomes) == {"ok" if taken else "bad_value"}
    if marginal:
        assert server.asked[0].headers["authorization"] == "Bearer m"


def test_a_token_may_come_from_a_file(server, run, tmp_path):
    (tmp_path / "token").write_text("from-a-file\n")
    asked, _ = asked_by(
        "electricitymaps", server, run, environ={"ECOLYZER_ELECTRICITYMAPS_TOKEN_FILE": str(tmp_path / "token")}
    )
    assert asked[0].headers["auth-token"] == "from-a-file"


def test_an_address_is_opened_as_the_option_gives_it(server):
    grid = open_live(f"{server.url}/x", key="k", zone="FR", refresh=60, max_age=60, cache="none", environ={})
    assert grid.source == "127.0.0.1"
