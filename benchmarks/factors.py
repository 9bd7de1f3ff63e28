"""Our grams and litres compared with those of codecarbon and EcoLogits, for the same joules at the same place.

    python benchmarks/factors.py                  # the tables of docs/factors.md, in a second
    python benchmarks/factors.py --joules 1440 --pue 1.4 --wue 1.8
    python benchmarks/factors.py --countries      # every country; lists those outside 0.67 to 1.5
    python benchmarks/factors.py --json

The peers' figures come from their own code, so they must be installed, best in a separate environment because they
depend on pandas and others; the columns of missing peers are left out:

    python -m venv peers && peers/bin/pip install . codecarbon ecologits

Called are codecarbon's ``Emissions`` (private infrastructure or cloud) without a live API, and the method of its
tracker that applies PUE and WUE; EcoLogits' electricity mixes, and its formulas from IT energy to energy, GWP and
water. All are offline and linear in the joules. Every difference is explained in ``docs/factors.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from types import SimpleNamespace
from typing import Any

from ecolyzer_otel.impact.impact import compute_impact
from ecolyzer_otel.impact.place import Place, SiteSettings, resolve_place
from ecolyzer_otel.impact.tables import grid_table

KWH = 3.6e6
#: Ratios outside of these are outliers of ``--countries``.
LOW, HIGH = 0.67, 1.5


@dataclass(frozen=True)
class Site:
    """One place: our name, ISO 3166 alpha-3, and codecarbon's name of the part of the country."""

    place: str
    country: str
    part: str | None = None

    @property
    def cloud(self) -> tuple[str, str] | None:
        """Provider and region, where the place is a cloud region."""
        provider, colon, region = self.place.partition(":")
        return (provider, region) if colon else None


SITES = (
    Site("FR", "FRA"),
    Site("DE", "DEU"),
    Site("GB", "GBR"),
    Site("PL", "POL"),
    Site("SE", "SWE"),
    Site("NO", "NOR"),
    Site("US", "USA"),
    Site("CN", "CHN"),
    Site("IN", "IND"),
    Site("BR", "BRA"),
    Site("WORLD", "WOR"),
    Site("US-CA", "USA", "california"),
    Site("US-TX", "USA", "texas"),
    Site("CA-QC", "CAN", "quebec"),
    Site("aws:eu-central-1", "DEU"),
    Site("aws:us-east-1", "USA", "virginia"),
    Site("gcp:europe-west1", "BEL"),
    Site("azure:westeurope", "NLD"),
)


@dataclass(frozen=True)
class Result:
    """The result of one tool: grams, litres, and the row of its data that was used."""

    grams: float
    liters: float
    row: str


class Codecarbon:
    """codecarbon without a token for a live API, called as its tracker does."""

    def __init__(self) -> None:
        emissions = import_module("codecarbon.core.emissions")
        self._tracker = import_module("codecarbon.emissions_tracker").BaseEmissionsTracker
        self._units = import_module("codecarbon.core.units")
        self._geography = import_module("codecarbon.external.geography")
        self._source = import_module("codecarbon.input").DataSource()
        self._emissions = emissions.Emissions(self._source)
        # It logs an error per fallback, and per unsupported hardware (the stand-in below).
        logging.getLogger("codecarbon").disabled = True

    def result(self, site: Site, joules: float, place: Place) -> Result:
        """Its figures at our PUE and WUE."""
        energy, liters = self._site_energy(joules / KWH, place.pue, place.wue)
        geo = self._geography.GeoMetadata(country_iso_code=site.country, region=site.part)
        # Its tracker treats AWS and Azure as private infrastructure (external/geography.py).
        if site.cloud and site.cloud[0] == "gcp":
            cloud = self._geography.CloudMetadata(*site.cloud)
            return Result(self._emissions.get_cloud_emissions(energy, cloud, geo) * 1e3, liters, "gcp region")
        kilograms = self._emissions.get_private_infra_emissions(energy, geo)
        return Result(kilograms * 1e3, liters, self._row(site))

    def _site_energy(self, kwh: float, pue: float, wue: float) -> tuple[Any, float]:
        """Site energy and litres that its tracker computes from IT energy."""
        units = self._units
        hardware = SimpleNamespace(
            measure_power_and_energy=lambda last_duration: (
                units.Power.from_watts(0.0),
                units.Energy.from_energy(kwh),
            )
        )
        tracker = SimpleNamespace(
            _hardware=[hardware],
            _last_measured_time=time.perf_counter(),
            _pue=pue,
            _wue=wue,
            _total_energy=units.Energy.from_energy(0.0),
            _total_water=units.Water.from_litres(0.0),
            _power_measurement_count=0,
        )
        self._tracker._do_measurements(tracker)
        return tracker._total_energy, tracker._total_water.litres

    def _row(self, site: Site) -> str:
        if site.part:
            return f"{site.country}/{site.part}"
        mix = self._source.get_global_energy_mix_data().get(site.country)
        return f"{site.country} {mix['year']}" if mix else "world 2019"


class Ecologits:
    """EcoLogits from the IT energy of a request; its estimate of that energy is not compared."""

    def __init__(self) -> None:
        self._formulas = import_module("ecologits.impacts.llm")
        self._mixes = import_module("ecologits.electricity_mix_repository").electricity_mixes

    def result(self, site: Site, joules: float, place: Place) -> Result | None:
        """Its figures at our PUE and WUE; None for a country that it lacks."""
        mix = self._mixes.find_electricity_mix(site.country)
        if mix is None:
            return None
        kwh = joules / KWH
        energy = self._formulas.request_energy(datacenter_pue=place.pue, request_it_energy=kwh)
        kilograms = self._formulas.request_usage_gwp(request_energy=energy, if_electricity_mix_gwp=mix.gwp)
        liters = self._formulas.request_usage_wcf(
            request_it_energy=kwh,
            if_electricity_mix_wue=mix.wue,
            datacenter_wue=place.wue,
            datacenter_pue=place.pue,
        )
        return Result(kilograms * 1e3, liters, site.country)


Peer = Codecarbon | Ecologits


def installed() -> dict[str, tuple[str, Peer]]:
    """Version and adapter of each peer that is installed."""
    found: dict[str, tuple[str, Peer]] = {}
    for name, adapter in (("codecarbon", Codecarbon), ("ecologits", Ecologits)):
        try:
            found[name] = metadata.version(name), adapter()
        except ImportError as error:  # also the absence of the distribution
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


@dataclass(frozen=True)
class Row:
    """One place: ours, and each peer's result."""

    place: Place
    name: str
    grams: float
    liters: float
    peers: dict[str, Result]

    @property
    def basis(self) -> str:
        """The basis of our carbon factor, and its year."""
        return f"{self.place.basis} {self.place.year}"


def compare(
    sites: Sequence[Site], joules: float, pue: float | None, wue: float | None, peers: dict[str, tuple[str, Peer]]
) -> Iterator[Row]:
    """Our and the peers' results for each site; PUE and WUE apply to places that are not cloud regions."""
    for site in sites:
        place = (
            resolve_place(site.place) if site.cloud else resolve_place(site.place, SiteSettings(pue=pue, wue=wue))
        )
        impact = compute_impact(joules, place)
        results = {name: peer.result(site, joules, place) for name, (_, peer) in peers.items()}
        yield Row(
            place=place,
            name=site.place,
            grams=impact.operational_grams,
            liters=impact.liters,
            peers={name: result for name, result in results.items() if result is not None},
        )


def countries() -> list[Site]:
    """Every country of our table with its alpha-3 code, from codecarbon's dependency pycountry."""
    pycountry = import_module("pycountry")
    codes = {country.alpha_2: country.alpha_3 for country in pycountry.countries}
    return [Site(zone, codes[zone]) for zone in grid_table() if zone in codes]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, the first to the left."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def shown(line: Sequence[str]) -> str:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([shown(header), shown(ruler), *(shown(row) for row in rows)])


def ratio(peer: float, ours: float) -> str:
    """A peer's figure divided by ours."""
    return f"{peer / ours:.3f}" if ours else "-"


def carbon(rows: Sequence[Row], peers: Sequence[str]) -> str:
    """The table of grams."""
    header = ["place", "PUE", "ours, g", "basis of ours"]
    header += [title for peer in peers for title in (f"{peer}, g", "ratio", "its row")]
    lines = []
    for row in rows:
        line = [row.name, f"{row.place.pue:g}", f"{row.grams:.5g}", row.basis]
        for peer in peers:
            result = row.peers.get(peer)
            line += [f"{result.grams:.5g}", ratio(result.grams, row.grams), result.row] if result else ["-"] * 3
        lines.append(line)
    return table(header, lines)


def water(rows: Sequence[Row], peers: Sequence[str]) -> str:
    """The table of litres."""
    header = ["place", "PUE", "WUE", "ours, L", "off-site factor"]
    header += [title for peer in peers for title in (f"{peer}, L", "ratio")]
    lines = []
    for row in rows:
        place = row.place
        factor = f"{place.ewif:g} {place.water_zone} {place.water_source}"
        line = [row.name, f"{place.pue:g}", f"{place.wue:g}", f"{row.liters:.4g}", factor]
        for peer in peers:
            result = row.peers.get(peer)
            line += [f"{result.liters:.4g}", ratio(result.liters, row.liters)] if result else ["-"] * 2
        lines.append(line)
    return table(header, lines)


def outliers(rows: Sequence[Row], peer: str) -> str:
    """The countries where a peer's grams are far from ours, and the number where they are near."""
    results = [(row, row.peers[peer]) for row in rows if peer in row.peers]
    ratios = [result.grams / row.grams for row, result in results]
    near = sum(0.9 <= value <= 1.1 for value in ratios)
    far = [
        [row.name, f"{row.grams:.5g}", row.basis, f"{result.grams:.5g}", f"{value:.2f}", result.row]
        for (row, result), value in zip(results, ratios, strict=True)
        if not LOW <= value <= HIGH
    ]
    text = table(["country", "ours, g", "basis of ours", f"{peer}, g", "ratio", "its row"], far)
    return f"{peer}: {len(ratios)} countries, {near} within 10 %, {len(far)} beyond {LOW} to {HIGH}\n\n{text}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--joules", type=float, default=KWH, help="IT energy (default: 3.6e6, 1 kWh)")
    parser.add_argument("--pue", type=float, default=1.2, help="PUE of zones in the table of litres (default: 1.2)")
    parser.add_argument("--wue", type=float, default=0.5, help="WUE of zones, litres per IT kWh (default: 0.5)")
    parser.add_argument(
        "--countries", action="store_true", help="compare all countries, list the outliers (needs codecarbon)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args()
    peers = installed()
    sites = countries() if options.countries else SITES
    plain = list(compare(sites, options.joules, None, None, peers))
    sited = list(compare(sites, options.joules, options.pue, options.wue, peers))
    versions = {name: version for name, (version, _) in peers.items()}
    if options.json:
        rows = {"machine_only": [asdict(row) for row in plain], "with_site": [asdict(row) for row in sited]}
        print(json.dumps({"joules": options.joules, "versions": versions, **rows}, indent=1))
        return
    print(", ".join([f"{options.joules:g} J", *(f"{name} {version}" for name, version in versions.items())]) + "\n")
    if options.countries:
        print("\n\n".join(outliers(plain, peer) for peer in peers))
        return
    print(f"{carbon(plain, list(peers))}\n\n{water(sited, list(peers))}")


if __name__ == "__main__":
    main()
