"""Finds the row of a place that a user or a cloud's metadata spelled, or suggests similar places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.search import search_places
from ecolyzer_otel.impact.tables import CloudRow, GridRow, cloud_table, grid_table

__all__ = ["find_cloud", "find_zone", "unknown_place"]

_SUGGESTIONS: Final = 3
#: How providers write an availability zone: its region and a suffix. A local zone (us-west-2-lax-1a) is elsewhere
#: than its region and does not match.
_ZONE_OF_REGION: Final[Mapping[str, str]] = {
    "aws": r"([a-z]+(?:-[a-z]+)+-\d+)[a-z]",
    "gcp": r"([a-z]+-[a-z]+\d+)-[a-z]",
    # GRA11 and RBX-A are parts of the sites GRA and RBX; EU-WEST-PAR and its zones are handled below.
    "ovhcloud": r"([a-z]{3})(?:\d+|-[a-z])",
}
#: OVHcloud's longer names of regions, and their sites in the table.
_OVH_REGIONS: Final[Mapping[str, str]] = {
    "eu-west-par": "PAR",
    "us-east-va": "VIN",
    "us-west-or": "HIL",
    "ca-east-tor": "TOR",
    "ap-south-mum": "MUM",
}


def find_zone(text: str) -> GridRow | None:
    """The grid zone that ``text`` spells (``fr``, ``us_ca``, ``US-CA``), or None."""
    zone = _zones_by_key().get(_key(text))
    return grid_table()[zone] if zone else None


def find_cloud(text: str) -> CloudRow | None:
    """The cloud region that ``text`` spells (``aws:eu-central-1``, ``azure:West Europe``), or None.

    An availability zone (``gcp:europe-west1-b``), a part of a site (``ovhcloud:GRA11``) and a region whose zones
    are in the table (``scaleway:fr-par``) are accepted as well.
    """
    provider, colon, region = text.partition(":")
    if not colon:
        return None
    found = _clouds_by_key().get((_key(provider), _key(region)))
    return cloud_table()[found] if found else _enclosing(_key(provider), region)


def unknown_place(text: str) -> ConfigError:
    """The error for a place that is in no table, with at most three suggestions."""
    shown = text.strip()[:60]
    near = search_places(shown)[:_SUGGESTIONS] if shown else []
    remedy = "give a grid zone such as FR or US-CA, or a cloud region such as aws:eu-central-1"
    if near:
        remedy = f"did you mean {' or '.join(f'{match.code} ({match.name})' for match in near)}?"
    return ConfigError("zone", f"{shown!r} is not a known grid zone or cloud region", remedy)


def _enclosing(provider: str, text: str) -> CloudRow | None:
    """The row of the region that contains a zone, or of a region whose zones are in the table."""
    name = text.strip().casefold().replace("_", "-")
    if provider == "ovhcloud":
        region = re.sub(r"-(?:\d+|[a-z])$", "", name)
        if region in _OVH_REGIONS:
            return cloud_table()[provider, _OVH_REGIONS[region]]
    if provider == "scaleway":
        return _of_zones(provider, name)
    match = re.fullmatch(_ZONE_OF_REGION.get(provider, "(?!)"), name)
    found = _clouds_by_key().get((provider, _key(match[1]))) if match else None
    return cloud_table()[found] if found else None


def _of_zones(provider: str, region: str) -> CloudRow | None:
    """A region by the rows of its zones where these agree; a zone without a row gets that of its region."""
    stem = re.sub(r"-\d+$", "", region)
    rows = [
        row for (owner, zone), row in cloud_table().items() if owner == provider and zone.startswith(f"{stem}-")
    ]
    if len({(row.zone, row.pue, row.wue) for row in rows}) != 1:
        return None
    return replace(rows[0], region=region)


def _key(text: str) -> str:
    """One spelling for all: case, spaces, ``_`` and ``-`` distinguish no two codes (tested)."""
    return re.sub(r"[\s_-]+", "", text).casefold()


@cache
def _zones_by_key() -> dict[str, str]:
    return {_key(zone): zone for zone in grid_table()}


@cache
def _clouds_by_key() -> dict[tuple[str, str], tuple[str, str]]:
    return {(_key(provider), _key(region)): (provider, region) for provider, region in cloud_table()}
