"""``ecolyzer zones [TEXT]``: grid zones and cloud regions, with the factors that apply to requests there."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ecolyzer_otel.common.errors import EcolyzerError
from ecolyzer_otel.impact.place import Place, resolve_place
from ecolyzer_otel.impact.search import Match, plain, search_places

__all__ = ["add_parser", "run"]

_WIDTH: Final = 100
_NARROWEST_NAME: Final = 12
_FIGURES: Final = ("g/kWh", "basis", "source", "water L/kWh")
#: Short words for the bases of the tables; the JSON has the long ones.
_BASES: Final[Mapping[str, str]] = {
    "lifecycle_production": "lifecycle",
    "derived_lifecycle_mix": "lifecycle",
    "direct_generation": "direct",
    "direct_scope2": "scope 2",
    "direct_co2_only": "CO2 only",
}
_MARKS: Final[Mapping[str, str]] = {
    "~": "computed from a mix of generation, not published",
    "^": "of the country or the world that the place lies in",
}
_EXAMPLES: Final = """\
examples:
  ecolyzer zones frankfurt            the cloud regions there
  ecolyzer zones california           a state's grid, and the regions in it
  ecolyzer zones aws | less           every region of a provider
The first column is what --zone and ECOLYZER_ZONE take.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``zones`` to the commands of ``ecolyzer``."""
    parser = commands.add_parser(
        "zones",
        help="list or search grid zones and cloud regions, with their factors",
        description="Grid zones and cloud regions by code or name, with the factors that apply to requests there.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="code, country, state, city or provider; none: all")
    parser.add_argument("--json", action="store_true", help="print all data of each place as JSON")
    parser.add_argument("--limit", type=_positive, metavar="N", help="print at most the N best matches")


def run(options: argparse.Namespace) -> int:
    """Print the places that ``options.text`` may mean.

    Returns:
        0, or 1 with one line on stderr: nothing fits, or a packaged table is damaged.
    """
    text = " ".join(options.text)
    try:
        found = search_places(text)
        places = [(match, resolve_place(match.code)) for match in found[: options.limit]]
    except EcolyzerError as error:
        print(f"ecolyzer: zones: {error}", file=sys.stderr)
        return 1
    if not found:
        remedy = "try a country, a state, a city with a cloud region, or a provider; without TEXT all are listed"
        _write(sys.stderr, f"ecolyzer: zones: nothing is called {text!r}; {remedy}\n")
        return 1
    if options.json:
        output = json.dumps([_facts(match, place) for match, place in places], indent=2)
    else:
        output = "\n".join(_page(text, places, len(found) - len(places)))
    try:
        _write(sys.stdout, f"{output}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The pager was closed. Python would report that again when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _page(text: str, places: Sequence[tuple[Match, Place]], left_off: int) -> list[str]:
    """Returns the lines of the text output: a table of grid zones and one of cloud regions, best match first."""
    lines: list[str] = []
    if places[0][0].kind == "close":
        lines += [f"Nothing is called {text!r}. Did you mean:", ""]
    regions = [":" in match.code for match, _ in places]
    for is_region in dict.fromkeys(regions):
        rows = [one for one, of_region in zip(places, regions, strict=True) if of_region == is_region]
        lines += [*_table(rows, is_region), ""]
    text_of_all = "\n".join(lines)
    lines += [f"{mark} {meaning}" for mark, meaning in _MARKS.items() if mark in text_of_all]
    if left_off:
        lines.append(f"{left_off} more: a larger --limit shows them")
    return lines if lines[-1] else lines[:-1]


def _table(places: Sequence[tuple[Match, Place]], is_region: bool) -> list[str]:
    header = (
        ("CLOUD REGION", "PLACE", "zone", *_FIGURES, "PUE", "WUE")
        if is_region
        else ("GRID ZONE", "PLACE", *_FIGURES)
    )
    table = [header, *(_row(match, place, is_region) for match, place in places)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    room = max(_WIDTH, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)
    others = sum(widths) - widths[1]
    gap = 2 if others + min(widths[1], _NARROWEST_NAME) + 2 * (len(widths) - 1) <= room else 1
    widths[1] = min(widths[1], max(_NARROWEST_NAME, room - others - gap * (len(widths) - 1)))
    to_the_right = [name in ("g/kWh", "PUE", "WUE") for name in header]
    return [_line(row, widths, to_the_right, " " * gap) for row in table]


def _row(match: Match, place: Place, is_region: bool) -> tuple[str, ...]:
    mark = {"derived": "~", "fallback": "^"}.get(place.water_method, "")
    figures = (
        ("~" if place.estimated else "") + f"{place.grams_per_kwh:.0f}",
        _BASES.get(place.basis, place.basis),
        f"{place.source} {place.year}",
        f"{mark}{_litres(place.ewif)} ({_litres(place.water_low)}-{_litres(place.water_high)})",
    )
    if not is_region:
        return match.code, match.name, *figures
    pue = f"{place.pue:.2f}" if _is_published(place.pue_source) else ""
    wue = f"{place.wue:.2f}" if _is_published(place.wue_source) else ""
    return match.code, match.name, place.zone, *figures, pue, wue


def _line(row: Sequence[str], widths: Sequence[int], to_the_right: Sequence[bool], gap: str) -> str:
    """One line of a table; a name that is too long ends in two dots."""
    cells = []
    for text, width, right in zip(row, widths, to_the_right, strict=True):
        fitting = text if len(text) <= width else f"{text[: width - 2]}.."
        cells.append(fitting.rjust(width) if right else fitting.ljust(width))
    return gap.join(cells).rstrip()


def _litres(value: float) -> str:
    """Returns about two digits: water factors are uncertain by a factor of two."""
    return f"{value:.0f}" if value >= 10.0 else f"{value:.1f}" if value >= 1.0 else f"{value:.2f}"


def _is_published(source: str) -> bool:
    """Whether a PUE or WUE has a source, and is not the default for the machine alone."""
    return not source.startswith("default")


def _facts(match: Match, place: Place) -> dict[str, Any]:
    """Returns all data of a place, with units in the names; null for data that is missing."""
    return {
        "code": match.code,
        "name": match.name,
        "match": match.kind,
        "grid_zone": place.zone,
        "grid_zone_name": place.zone_name,
        "grams_per_kwh": place.grams_per_kwh,
        "basis": place.basis,
        "year": place.year,
        "source": place.source,
        "source_detail": place.source_detail,
        "estimated": place.estimated,
        "uncertainty_ratio": place.uncertainty,
        "water_liters_per_kwh": place.ewif,
        "water_low_liters_per_kwh": place.water_low,
        "water_high_liters_per_kwh": place.water_high,
        "water_method": place.water_method,
        "water_zone": place.water_zone,
        "water_source": place.water_source,
        "water_year": place.water_year,
        "pue": place.pue if _is_published(place.pue_source) else None,
        "pue_source": place.pue_source,
        "wue_liters_per_kwh": place.wue if _is_published(place.wue_source) else None,
        "wue_source": place.wue_source,
    }


def _write(stream: Any, text: str) -> None:
    """Write text; where the stream's encoding lacks a character, without accents and with ? for the rest."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = plain(text).encode(encoding, "replace").decode(encoding)
    stream.write(text)


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return value
