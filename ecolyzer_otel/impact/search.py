"""Searches grid zones and cloud regions by code or by the name of a place, for people and for suggestions.

A search only suggests. The place of a figure is spelled out by the user and found by
:mod:`ecolyzer_otel.impact.lookup`. Names of places: ``data/cloud_places.csv``, from the providers' public lists.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from ecolyzer_otel.impact.tables import FactorTableError, cloud_table, grid_table, read_rows

__all__ = ["Kind", "Match", "place_names", "plain", "search_places"]

Kind = Literal["code", "name", "area", "prefix", "word", "part", "close"]

#: Other names of countries and providers, which the tables do not contain.
_OTHER_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "GB": ("UK", "Great Britain", "Britain", "England", "Scotland", "Wales"),
    "US": ("USA", "America", "United States of America"),
    "GR": ("EL",),
    "NL": ("Holland",),
    "AE": ("UAE",),
    "CZ": ("Czech Republic",),
    "TR": ("Turkiye",),
    "CI": ("Ivory Coast",),
    "KR": ("Korea",),
    "CD": ("DRC", "Congo-Kinshasa"),
    "CG": ("Congo-Brazzaville",),
    "MM": ("Burma",),
    "SZ": ("Swaziland",),
    "CV": ("Cabo Verde",),
    "TL": ("Timor-Leste",),
    "US-DC": ("Washington DC",),
    "CN-NM": ("Nei Mongol",),
    "aws": ("Amazon",),
    "gcp": ("Google",),
    "azure": ("Microsoft",),
    "ovhcloud": ("OVH",),
}
#: Best first. A term of the place itself comes before one of the area that contains it.
_RANKS: Final[tuple[tuple[Kind, Kind], ...]] = (
    ("code", "area"),
    ("name", "area"),
    ("prefix", "prefix"),
    ("word", "word"),
    ("part", "part"),
)
_ORDER: Final[tuple[Kind, ...]] = ("code", "name", "area", "prefix", "word", "part", "close")
#: Shorter texts are part of too many names: "us" of Austria.
_SHORTEST_PART: Final = 3
_CLOSE_ENOUGH: Final = 0.75
_CLOSE_WORDS: Final = 3


@dataclass(frozen=True, slots=True)
class Match:
    """A place that matches a text.

    ``code`` is the value for ``--zone`` (``FR``, ``aws:eu-central-1``), ``name`` the name of the place, ``zone``
    the grid zone that supplies it, ``kind`` how the text matches: the complete code or name, the complete name of
    the country, state or provider (``area``), the start of any of these, one of their words, a part of one;
    ``close`` is a guess at a mistyped one.
    """

    code: str
    name: str
    zone: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Term:
    """A text that identifies a place in a search."""

    text: str  #: without accents and case
    squeezed: str  #: letters and digits only
    words: str  #: with a space around each word
    is_code: bool
    is_area: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    code: str
    name: str
    zone: str
    terms: tuple[_Term, ...]


def search_places(text: str) -> list[Match]:
    """The places that match ``text``, best first; every place, in the tables' order, for a blank text.

    Case, accents and punctuation do not matter. Several words are matched as one phrase first, then one by one
    (``aws germany``). Parts of names count only without a better match, guesses only without any match.

    Raises:
        FactorTableError: a packaged table is damaged.
    """
    if not text.strip():
        return [Match(entry.code, entry.name, entry.zone, "name") for entry in _entries()]
    wanted = _term(text)
    if not wanted.squeezed:
        return []
    words = [_term(word) for word in wanted.words.split()]
    found: list[tuple[int, bool, int, Match]] = []
    for index, entry in enumerate(_entries()):
        rank = _rank(wanted, entry)
        if rank is None and len(words) > 1:
            ranks = [_rank(word, entry) for word in words]
            rank = None if None in ranks else max(one for one in ranks if one is not None)
        if rank is not None:
            # us-east-1 and us-east1 of different providers match the same text; the exact spelling comes first.
            as_written = any(term.text == wanted.text for term in entry.terms)
            found.append((rank, not as_written, index, Match(entry.code, entry.name, entry.zone, _ORDER[rank])))
    if not found:
        return _close(wanted)
    best = min(rank for rank, _, _, _ in found)
    last = _worst_shown(best, len(wanted.squeezed))
    return [match for rank, _, _, match in sorted(found, key=lambda one: one[:3]) if rank <= last]


@cache
def place_names() -> Mapping[tuple[str, str], str]:
    """The name of each cloud region's place, by (provider, region). Raises FactorTableError."""
    rows = read_rows("cloud_places")
    try:
        return {(row["provider"], row["region"]): row["place"] for row in rows}
    except KeyError as error:
        raise FactorTableError(f"cloud_places.csv: column {error} is missing; reinstall ecolyzer-otel") from None


def plain(text: str) -> str:
    """``text`` without accents: São Paulo as Sao Paulo."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(one for one in parts if not unicodedata.combining(one))


def _worst_shown(best: int, length: int) -> int:
    if best <= _ORDER.index("area") and length < _SHORTEST_PART:
        return _ORDER.index("area")
    return _ORDER.index("word") if best <= _ORDER.index("word") else _ORDER.index("part")


def _rank(wanted: _Term, entry: _Entry) -> int | None:
    """The best match of an entry as an index of _ORDER, or None."""
    ranks = [rank for rank in (_rank_term(wanted, term) for term in entry.terms) if rank is not None]
    return min(ranks, default=None)


def _rank_term(wanted: _Term, term: _Term) -> int | None:
    text = wanted.squeezed
    if text == term.squeezed:
        kinds = _RANKS[0] if term.is_code else _RANKS[1]
    elif term.squeezed.startswith(text):
        kinds = _RANKS[2]
    elif wanted.words in term.words:
        kinds = _RANKS[3]
    elif len(text) >= _SHORTEST_PART and text in term.squeezed:
        kinds = _RANKS[4]
    else:
        return None
    return _ORDER.index(kinds[term.is_area])


def _close(wanted: _Term) -> list[Match]:
    """Places whose code or name resembles the text, the closest first."""
    by_text: dict[str, list[_Entry]] = {}
    for entry in _entries():
        for term in entry.terms:
            if not term.is_area:
                by_text.setdefault(term.text, []).append(entry)
    near = difflib.get_close_matches(wanted.text, by_text, n=_CLOSE_WORDS, cutoff=_CLOSE_ENOUGH)
    entries = dict.fromkeys(entry for text in near for entry in by_text[text])
    return [Match(entry.code, entry.name, entry.zone, "close") for entry in entries]


def _term(text: str, *, is_code: bool = False, is_area: bool = False) -> _Term:
    folded = plain(text).casefold().strip()
    words = re.findall(r"[^\W_]+", folded)
    return _Term(folded, "".join(words), f" {' '.join(words)} ", is_code, is_area)


@cache
def _entries() -> tuple[_Entry, ...]:
    """Every grid zone and cloud region with its search terms."""
    entries: list[_Entry] = []
    for zone, row in grid_table().items():
        terms = [_term(zone, is_code=True), _term(row.name), *(_term(name) for name in _OTHER_NAMES.get(zone, ()))]
        country = zone.partition("-")[0]
        if country != zone:
            terms += _area(country)
        entries.append(_Entry(zone, row.name, zone, tuple(terms)))
    places = place_names()
    for (provider, region), cloud in cloud_table().items():
        name = places.get((provider, region), "")
        average = region == "*"
        terms = [_term(f"{provider}:{region}", is_code=True)]
        terms += [_term(one, is_area=not average) for one in (provider, *_OTHER_NAMES.get(provider, ()))]
        terms += [_term(places.get((provider, "*"), ""), is_area=True)]
        terms += [_term(one) for one in (name, *name.split(", ")) if one]
        if not average:
            terms += [_term(region, is_code=True), *_area(cloud.zone), *_area(cloud.zone.partition("-")[0])]
        entries.append(_Entry(f"{provider}:{region}", name, cloud.zone, tuple(terms)))
    return tuple(entries)


def _area(zone: str) -> list[_Term]:
    """The terms of the zone that contains a place."""
    names = (zone, grid_table()[zone].name, *_OTHER_NAMES.get(zone, ()))
    return [_term(name, is_area=True) for name in names]
