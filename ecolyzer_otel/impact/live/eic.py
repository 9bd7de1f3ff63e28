"""ENTSO-E's names of places: Energy Identification Codes of areas that publish generation per type.

Codes: ENTSO-E, Transparency Platform RESTful API guide, annex A (areas); each ends in a check character (EIC
reference manual), which is tested for all of them. Great Britain has not published there since 2021.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ecolyzer_otel.impact.live.provider import same_name

__all__ = ["AREAS", "find_area", "is_eic"]

#: By our grid zone, and by the names of bidding zones that people use.
AREAS: Final[Mapping[str, str]] = {
    "AT": "10YAT-APG------L",
    "BA": "10YBA-JPCC-----D",
    "BE": "10YBE----------2",
    "BG": "10YCA-BULGARIA-R",
    "CH": "10YCH-SWISSGRIDZ",
    "CY": "10YCY-1001A0003J",
    "CZ": "10YCZ-CEPS-----N",
    "DE": "10Y1001A1001A83F",
    "DE-LU": "10Y1001A1001A82H",
    "DK": "10Y1001A1001A65H",
    "DK1": "10YDK-1--------W",
    "DK2": "10YDK-2--------M",
    "EE": "10Y1001A1001A39I",
    "ES": "10YES-REE------0",
    "FI": "10YFI-1--------U",
    "FR": "10YFR-RTE------C",
    "GE": "10Y1001A1001B012",
    "GR": "10YGR-HTSO-----Y",
    "HR": "10YHR-HEP------M",
    "HU": "10YHU-MAVIR----U",
    "IE": "10YIE-1001A00010",
    "IE-SEM": "10Y1001A1001A59C",
    "IT": "10YIT-GRTN-----B",
    "IT-CALA": "10Y1001C--00096J",
    "IT-CNOR": "10Y1001A1001A70O",
    "IT-CSUD": "10Y1001A1001A71M",
    "IT-NORD": "10Y1001A1001A73I",
    "IT-SARD": "10Y1001A1001A74G",
    "IT-SICI": "10Y1001A1001A75E",
    "IT-SUD": "10Y1001A1001A788",
    "LT": "10YLT-1001A0008Q",
    "LU": "10YLU-CEGEDEL-NQ",
    "LV": "10YLV-1001A00074",
    "MD": "10Y1001A1001A990",
    "ME": "10YCS-CG-TSO---S",
    "MK": "10YMK-MEPSO----8",
    "NL": "10YNL----------L",
    "NO": "10YNO-0--------C",
    "NO-NO1": "10YNO-1--------2",
    "NO-NO2": "10YNO-2--------T",
    "NO-NO3": "10YNO-3--------J",
    "NO-NO4": "10YNO-4--------9",
    "NO-NO5": "10Y1001A1001A48H",
    "PL": "10YPL-AREA-----S",
    "PT": "10YPT-REN------W",
    "RO": "10YRO-TEL------P",
    "RS": "10YCS-SERBIATSOV",
    "SE": "10YSE-1--------K",
    "SE-SE1": "10Y1001A1001A44P",
    "SE-SE2": "10Y1001A1001A45N",
    "SE-SE3": "10Y1001A1001A46L",
    "SE-SE4": "10Y1001A1001A47J",
    "SI": "10YSI-ELES-----O",
    "SK": "10YSK-SEPS-----K",
    "XK": "10Y1001C--00100H",
}
_SHAPE: Final = re.compile(r"[0-9]{2}[A-Z][0-9A-Z-]{12}[0-9A-Z]")
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"


def find_area(text: str) -> str | None:
    """The code of a place by our zone, a bidding zone's name (``DE_LU``, ``SE3``), or the code itself."""
    text = text.strip()
    if is_eic(text.upper()):
        return text.upper()
    for name, code in AREAS.items():
        country, _, part = name.partition("-")
        if same_name(text, name) or (part.startswith(country) and same_name(text, part)):
            return code
    return None


def is_eic(text: str) -> bool:
    """Whether ``text`` is an EIC with a valid check character: 36 - (sum of value x weight - 1) mod 37."""
    if not _SHAPE.fullmatch(text):
        return False
    total = sum(_ALPHABET.index(letter) * (16 - place) for place, letter in enumerate(text[:15]))
    return _ALPHABET[36 - (total - 1) % 37] == text[15]
