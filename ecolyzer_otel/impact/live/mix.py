"""Generation per type, from ENTSO-E's XML, to gCO2e per kWh by the medians of technology_carbon.csv."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final
from xml.etree import ElementTree

from ecolyzer_otel.impact.live.figure import Problem, instant
from ecolyzer_otel.impact.tables import FactorTableError, read_rows

__all__ = ["Mix", "latest_mix", "technology_factors"]

_MAX_SLOTS: Final = 3000
_RESOLUTION: Final = re.compile(r"PT(\d{1,4})([MH])")
_OTHER: Final = "B20"

#: Slots of one type: (start, end) in Unix seconds to MW.
Slots = dict[tuple[float, float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """``grams_per_kwh`` of the generation from ``from_s`` to ``until_s``, and the share of each type."""

    grams_per_kwh: float
    from_s: float
    until_s: float
    shares: Mapping[str, float]


@cache
def technology_factors() -> Mapping[str, float | None]:
    """gCO2e per kWh by ENTSO-E's type of production; None for storage, which returns earlier generation.

    Raises:
        FactorTableError: the packaged table is damaged.
    """
    factors: dict[str, float | None] = {}
    for row in read_rows("technology_carbon"):
        code, text = row.get("psr_type") or "", row.get("gco2e_per_kwh") or ""
        try:
            value = float(text) if text else None
        except ValueError:
            value = math.nan
        if not code or code in factors or not row.get("source") or not (value is None or 0.0 <= value <= 2000.0):
            raise FactorTableError(f"technology_carbon.csv: the row of {code or 'a type'} cannot be used")
        factors[code] = value
    return factors


def latest_mix(document: bytes, area: str) -> Mix:
    """The mix of the latest time for which all types in ``document`` have a value.

    grams_per_kwh = sum(MW of a type x its factor) / sum(MW), over all types except storage.

    Raises:
        Problem: another kind of document, another area, or no such time.
    """
    types = _types(_parse(document), area)
    factors = technology_factors()
    counted = {code: slots for code, slots in types.items() if factors.get(code, factors[_OTHER]) is not None}
    if not counted:
        raise Problem("no_data", "no type of generation is reported for the last hours")
    for end in sorted({end for slots in counted.values() for _, end in slots}, reverse=True):
        at_end = {code: _at(slots, end) for code, slots in counted.items()}
        if all(found is not None for found in at_end.values()):
            return _mix({code: found for code, found in at_end.items() if found is not None}, end)
    raise Problem("no_data", "the types of generation have no common time in the last hours")


def _mix(at_end: Mapping[str, tuple[float, float]], end: float) -> Mix:
    factors = technology_factors()
    total = math.fsum(power for _, power in at_end.values())
    if not total > 0.0:
        raise Problem("bad_value", "the total generation is 0")
    emitted = math.fsum(power * (factors.get(code, factors[_OTHER]) or 0.0) for code, (_, power) in at_end.items())
    return Mix(
        grams_per_kwh=emitted / total,
        from_s=max(start for start, _ in at_end.values()),
        until_s=end,
        shares={code: power / total for code, (_, power) in at_end.items()},
    )


def _at(slots: Slots, end: float) -> tuple[float, float] | None:
    """Start and MW of the slot that contains ``end``; the shortest where resolutions overlap."""
    found = [(start, power) for (start, stop), power in slots.items() if start < end <= stop]
    return max(found, default=None)


def _parse(document: bytes) -> ElementTree.Element:
    # Entities can expand without limit or fetch files; UTF-16 would hide them. ENTSO-E's documents are plain UTF-8.
    if b"\0" in document or b"<!doctype" in document.lower() or b"<!entity" in document.lower():
        raise Problem("not_xml", "the answer has a document type declaration, which ENTSO-E does not use")
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 - see above
    except (ElementTree.ParseError, ValueError, LookupError):
        raise Problem("not_xml", "the answer is not XML", "check the address") from None
    name = _local(root)
    if name.startswith("Acknowledgement"):
        raise Problem("no_data", "ENTSO-E has no generation per type for this area and time", "give --grid-region")
    if name != "GL_MarketDocument":
        raise Problem("not_xml", "the answer is not a generation document", "check the address")
    return root


def _types(root: ElementTree.Element, area: str) -> dict[str, Slots]:
    types: dict[str, Slots] = {}
    for series in _children(root, "TimeSeries"):
        into = _text(series, "inBiddingZone_Domain.mRID")
        if into is None:
            continue  # outBiddingZone_Domain: consumption of storage
        if into != area:
            raise Problem("wrong_zone", f"it answered for another area than {area}")
        code = next((_text(kind, "psrType") for kind in _children(series, "MktPSRType")), None)
        if code is None:
            raise Problem("bad_value", "a series has no type of generation")
        slots = types.setdefault(code, {})
        for period in _children(series, "Period"):
            slots.update(_slots(period, filled=_text(series, "curveType") == "A03"))
    return {code: slots for code, slots in types.items() if slots}


def _slots(period: ElementTree.Element, *, filled: bool) -> Slots:
    """The slots of one period. In a curve of type A03 a missing point repeats the previous one."""
    interval = next(_children(period, "timeInterval"), None)
    if interval is None:
        raise Problem("bad_value", "a period has no time interval")
    start, end = (instant(_text(interval, name), f"{name} of a period") for name in ("start", "end"))
    match = _RESOLUTION.fullmatch(_text(period, "resolution") or "")
    step = int(match[1]) * (60.0 if match[2] == "M" else 3600.0) if match else 0.0
    count = int((end - start) // step) if step > 0.0 else 0
    if not 0 < count <= _MAX_SLOTS:
        raise Problem("bad_value", "a period has no resolution, or one that does not fit its length")
    points: dict[int, float] = {}
    for point in _children(period, "Point"):
        position = _text(point, "position") or ""
        if not position.isdecimal() or not 1 <= int(position[:6]) <= count:
            raise Problem("bad_value", "a point lies outside its period")
        points[int(position)] = _power(_text(point, "quantity"))
    slots: Slots = {}
    power: float | None = None
    for index in range(count):
        power = points.get(index + 1, power if filled else None)
        if power is not None:
            slots[start + index * step, start + (index + 1) * step] = power
    return slots


def _power(text: str | None) -> float:
    """MW, at least 0: idle wind and solar plants draw a little."""
    try:
        power = float(text or "")
    except ValueError:
        power = math.nan
    if not abs(power) < 1e6:  # also refuses NaN
        raise Problem("bad_value", "a quantity is not a number of megawatts")
    return max(power, 0.0)


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _local(child) == name)


def _text(element: ElementTree.Element, name: str) -> str | None:
    child = next(_children(element, name), None)
    text = "" if child is None else (child.text or "").strip()
    return text or None
