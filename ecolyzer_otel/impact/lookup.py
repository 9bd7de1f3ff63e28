"""What a user wrote as a place, to a row of the tables, or to the places that she may have meant."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from functools import cache
from typing import Final

from ecolyzer_otel.errors import ConfigError
from ecolyzer_otel.impact.tables import CloudRow, GridRow, cloud_table, grid_table

__all__ = ["find_cloud", "find_zone", "unknown_place"]

_SUGGESTIONS: Final = 3
#: Words that people use and the tables do not, for suggestions only: a figure must never rest on a guess.
_ALSO_CALLED: Final = {
    "uk": "GB",
    "great britain": "GB",
    "usa": "US",
    "america": "US",
    "el": "GR",
    "holland": "NL",
    "uae": "AE",
    "czech republic": "CZ",
    "turkiye": "TR",
    "ivory coast": "CI",
}


def find_zone(text: str) -> GridRow | None:
    """The grid zone that ``text`` spells (``fr``, ``us_ca``, ``US-CA``), or None."""
    zone = _zones_by_key().get(_key(text))
    return grid_table()[zone] if zone else None


def find_cloud(text: str) -> CloudRow | None:
    """The cloud region that ``text`` spells (``aws:eu-central-1``, ``azure:West Europe``), or None."""
    provider, colon, region = text.partition(":")
    found = _clouds_by_key().get((_key(provider), _key(region))) if colon else None
    return cloud_table()[found] if found else None


def unknown_place(text: str) -> ConfigError:
    """The error for a place that no table knows, with at most three that may have been meant."""
    shown = text.strip()[:60]
    near = _suggestions(shown)
    remedy = "give a grid zone such as FR or US-CA, or a cloud region such as aws:eu-central-1"
    if near:
        remedy = f"did you mean {' or '.join(near)}?"
    return ConfigError("zone", f"{shown!r} is not a known grid zone or cloud region", remedy)


def _key(text: str) -> str:
    """One spelling for all: case, spaces, ``_`` and ``-`` carry no meaning in any of the codes (tested)."""
    return re.sub(r"[\s_-]+", "", text).casefold()


@cache
def _zones_by_key() -> dict[str, str]:
    return {_key(zone): zone for zone in grid_table()}


@cache
def _clouds_by_key() -> dict[tuple[str, str], tuple[str, str]]:
    return {(_key(provider), _key(region)): (provider, region) for provider, region in cloud_table()}


@cache
def _words() -> dict[str, list[str]]:
    """Places by every word that may stand for them: codes, names, regions with and without their provider."""
    words: dict[str, list[str]] = defaultdict(list)
    for row in grid_table().values():
        words[row.zone.casefold()].append(_shown(row.zone))
        words[row.name.casefold()].append(_shown(row.zone))
    for provider, region in cloud_table():
        place = f"{provider}:{region}"
        words[place.casefold()].append(place)
        words[(provider if region == "*" else region).casefold()].append(place)
    for word, zone in _ALSO_CALLED.items():
        words[word] = [_shown(zone)]
    return dict(words)


def _shown(zone: str) -> str:
    return f"{zone} ({grid_table()[zone].name})"


def _suggestions(text: str) -> list[str]:
    """Exact names first, then names that contain the text, then those that look like it."""
    words = _words()
    word = text.casefold()
    # A right region at a provider of a wrong name (google:us-east1) still says which one is meant.
    matching = [word, word.partition(":")[2]]
    if not any(one in words for one in matching):
        matching += [known for known in words if len(word) >= 4 and word in known]
        matching += difflib.get_close_matches(word, words, n=_SUGGESTIONS)
    places = [place for one in matching for place in words.get(one, ())]
    return list(dict.fromkeys(places))[:_SUGGESTIONS]
