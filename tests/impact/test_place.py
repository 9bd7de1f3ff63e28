"""Places: every row of the tables resolves, every factor says where it is from, a mistake gets a remedy."""

from __future__ import annotations

import math

import pytest

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.place import Place, SiteSettings, resolve_place
from ecolyzer_otel.impact.tables import cloud_table, grid_table, read_rows, water_table

LEVELS = {row["zone"]: row["level"] for row in read_rows("grid_carbon_intensity")}
CLOUDS = [f"{provider}:{region}" for provider, region in cloud_table()]


def sound(place: Place) -> bool:
    return (
        0.0 < place.grams_per_kwh <= 2000.0
        and 1.0 <= place.pue <= 2.0
        and 0.0 <= place.wue <= 3.0
        and 0.0 <= place.ewif <= 20.0
        and 2009 <= place.year <= 2025
        and place.water_zone in water_table()
        and all((place.zone_name, place.basis, place.source, place.pue_source, place.wue_source))
        and len(place.source) <= 16
    )


def test_the_tables_hold_what_they_promise():
    levels = list(LEVELS.values())
    assert levels.count("country") == 214
    assert sum(zone.startswith("US-") and level == "subdivision" for zone, level in LEVELS.items()) == 51
    assert {zone.partition("-")[0] for zone, level in LEVELS.items() if level == "subdivision"} == {
        "AU",
        "CA",
        "CN",
        "US",
    }
    assert len(CLOUDS) == 186


@pytest.mark.parametrize("zone", LEVELS)
def test_every_grid_zone_resolves(zone):
    for spelling in (zone, zone.lower(), f" {zone.replace('-', '_')} "):
        place = resolve_place(spelling)
        assert place.zone == zone
    assert sound(place)
    assert (place.region, place.defaulted) == (None, False)
    assert (place.pue, place.pue_source) == (1.0, "default: machine only")
    assert (place.wue, place.wue_source) == (0.0, "default: machine only")


@pytest.mark.parametrize("region", CLOUDS)
def test_every_cloud_region_resolves(region):
    place = resolve_place(region)
    assert place.region == region
    assert place.zone in grid_table()
    assert sound(place)
    assert resolve_place(region.upper()) == place


# Published values: OWID/Ember 2024, eGRID 2023, Canada derived, Australia NGA 2024.
@pytest.mark.parametrize(
    ("zone", "grams"),
    [
        ("FR", 44.2),
        ("PL", 615.0),
        ("US", 383.6),
        ("SE", 35.8),
        ("DE", 344.1),
        ("GB", 210.9),
        ("IN", 708.3),
        ("CN", 559.6),
        ("ZA", 708.9),
        ("WORLD", 473.0),
        ("EU", 213.0),
        ("US-CA", 179.1),
        ("US-WV", 893.0),
        ("CA-QC", 27.6),
        ("CA-AB", 434.5),
        ("AU-VIC", 770.0),
    ],
)
def test_known_intensities(zone, grams):
    assert resolve_place(zone).grams_per_kwh == pytest.approx(grams, abs=0.51 if zone == "US-WV" else 0.06)


def test_namibia_is_a_country_and_not_a_missing_value():
    place = resolve_place("NA")
    assert (place.zone_name, place.grams_per_kwh) == ("Namibia", 47.62)


def test_bases_are_told_apart():
    assert resolve_place("US").basis == "lifecycle_production"
    assert (resolve_place("US-CA").basis, resolve_place("US-CA").source) == ("direct_generation", "EPA eGRID")
    assert resolve_place("CA-QC").estimated
    assert resolve_place("CF").estimated
    assert "replaced by IPCC" in resolve_place("CF").source_detail
    assert not resolve_place("FR").estimated


@pytest.mark.parametrize(
    ("zone", "water_zone", "litres", "method"),
    [
        ("US", "US", 3.1321, "published"),
        ("US-TX", "US-TX", 1.287, "published"),
        ("US-CA", "US", 3.1321, "fallback"),
        ("US-EGRID-CAMX", "US", 3.1321, "fallback"),
        ("AU-WA-NWIS", "AU", 4.7293, "fallback"),
        ("NO-NO1", "NO", 6.6633, "fallback"),
        ("EU", "WORLD", 3.908, "fallback"),
        ("XK", "WORLD", 3.908, "fallback"),
        ("AE", "AE", 0.822, "derived"),
    ],
)
def test_water_falls_back_to_the_zone_that_holds_it(zone, water_zone, litres, method):
    place = resolve_place(zone)
    assert (place.water_zone, place.ewif, place.water_method) == (water_zone, litres, method)


def test_a_region_has_its_own_figures():
    place = resolve_place("AWS:eu_central_1")
    assert (place.region, place.zone, place.pue, place.wue) == ("aws:eu-central-1", "DE", 1.35, 0.01)
    assert place.pue_source.startswith("aws:eu-central-1 region_disclosed 2024 (AWS regional PUE")


def test_a_region_without_figures_takes_its_providers():
    place = resolve_place("aws:eu-west-3")
    assert (place.zone, place.pue, place.wue) == ("FR", 1.14, 0.15)
    assert place.pue_source.startswith("aws:* provider_average 2025 (")
    assert place.wue_source.startswith("aws:* provider_average 2024 (")


def test_a_provider_without_figures_leaves_the_machine_and_says_so():
    place = resolve_place("ovhcloud:gra")
    assert (place.region, place.pue, place.wue) == ("ovhcloud:GRA", 1.0, 0.0)
    assert place.pue_source == "default: machine only (no sourced PUE for ovhcloud:GRA)"
    google = resolve_place("gcp:europe-west9")
    assert (google.pue, google.wue) == (1.09, 0.0)
    assert google.wue_source == "default: machine only (no sourced WUE for gcp:europe-west9)"


def test_names_as_the_provider_shows_them_are_understood():
    assert resolve_place("azure:West Europe").region == "azure:westeurope"


def test_what_is_configured_wins():
    place = resolve_place("aws:eu-central-1", SiteSettings(pue=1.5, wue=0.0))
    assert (place.pue, place.pue_source, place.wue, place.wue_source) == (1.5, "configured", 0.0, "configured")


@pytest.mark.parametrize("zone", [None, "", "  "])
def test_without_a_zone_the_world_is_taken_and_said(zone):
    place = resolve_place(zone)
    assert (place.zone, place.defaulted) == ("WORLD", True)
    assert place.describe() == (
        "WORLD average (no zone set: --zone or ECOLYZER_ZONE), 473 g/kWh lifecycle_production, OWID/Ember 2024"
    )
    assert not resolve_place("world").defaulted


def test_describe_is_one_phrase():
    assert resolve_place("FR").describe() == "FR (France), 44 g/kWh lifecycle_production, OWID/Ember 2024"
    assert resolve_place("aws:eu-central-1").describe() == (
        "aws:eu-central-1 in DE (Germany), 344 g/kWh lifecycle_production, OWID/Ember 2024, PUE 1.35"
    )
    assert resolve_place("CA-QC").describe().endswith("CER mix x IPCC 2023, estimated")


def test_the_timestamp_is_the_last_second_of_the_year():
    assert resolve_place("FR").data_timestamp_seconds == 1735689599.0  # 2024-12-31T23:59:59Z


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("france", "FR (France)"),
        ("Frnace", "FR (France)"),
        ("FRA", "FR (France)"),
        ("uk", "GB (United Kingdom)"),
        ("calfornia", "US-CA (California)"),
        ("georgia", "GE (Georgia) or US-GA (Georgia)"),
        ("congo", "CG (Congo)"),
        ("us-east-1", "aws:us-east-1"),
        ("google:us-east1", "gcp:us-east1"),
        ("aws:eu-centrl-1", "aws:eu-central-1"),
        ("onprem", "onprem:*"),
    ],
)
def test_an_unknown_place_gets_a_remedy(wrong, meant):
    with pytest.raises(ConfigError) as caught:
        resolve_place(wrong)
    assert caught.value.key == "zone"
    assert caught.value.remedy.startswith(f"did you mean {meant}")
    assert caught.value.remedy.count(" or ") <= 2


@pytest.mark.parametrize("wrong", ["XX", "::", "aws:", "*", "zzzz" * 1000, "\x00", "-"])
def test_nonsense_is_refused_with_an_example(wrong):
    with pytest.raises(ConfigError, match=r"^zone: ") as caught:
        resolve_place(wrong)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("key", ["pue", "wue"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1000.0])
def test_impossible_site_figures_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        resolve_place("FR", SiteSettings(**{key: value}))


def test_a_pue_below_one_is_refused():
    with pytest.raises(ConfigError, match=r"^pue: 0\.9 cannot be used; give a number from 1 to 10"):
        resolve_place("FR", SiteSettings(pue=0.9))
