"""Formatting of numbers: three significant digits, a fitting unit, thin spaces between thousands."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Final

__all__ = ["amount", "clean", "count", "day", "digits", "moment", "percent", "scaled"]

_SPACE: Final = "\u202f"  # between groups of digits (ISO 80000-1), no line break
_GAP: Final = "\u00a0"  # between number and unit

#: By unit: sizes and names of its steps, ascending. ``Wh`` shows totals of joules as an electricity bill does.
_SCALES: Final[dict[str, tuple[tuple[float, str], ...]]] = {
    "J": ((1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J"), (1e3, "kJ"), (1e6, "MJ"), (1e9, "GJ")),
    "Wh": (
        (1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J"), (3.6e3, "Wh"), (3.6e6, "kWh"), (3.6e9, "MWh"), (3.6e12, "GWh"),
    ),
    "g": ((1e-9, "ng"), (1e-6, "µg"), (1e-3, "mg"), (1.0, "g"), (1e3, "kg"), (1e6, "t"), (1e9, "kt")),
    "L": ((1e-9, "nL"), (1e-6, "µL"), (1e-3, "mL"), (1.0, "L"), (1e3, "m³")),
    "s": ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d")),
}  # fmt: skip


def digits(value: float, significant: int = 3) -> str:
    """``value`` with so many significant digits; with an exponent only if it is very large or small."""
    if value == 0.0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -6 <= magnitude < 15:
        return f"{value:.{significant - 1}e}"
    rounded = round(value, significant - 1 - magnitude)
    if rounded and math.floor(math.log10(abs(rounded))) > magnitude:
        magnitude += 1
    return f"{rounded:,.{max(0, significant - 1 - magnitude)}f}".replace(",", _SPACE)


def scaled(value: float, unit: str) -> tuple[float, str]:
    """Size and name of the step of ``unit`` in which to show ``value``; (1, unit) for a unit without steps."""
    steps = _SCALES.get(unit)
    if steps is None:
        return 1.0, unit
    chosen = steps[0] if value else next(step for step in steps if step[0] == 1.0)
    for step in steps:
        # After rounding: 999.6 g is 1.00 kg, not 1 000 g.
        if float(f"{abs(value) / step[0]:.3g}") >= 1.0:
            chosen = step
    return chosen


def amount(value: float, unit: str) -> str:
    """``1.23 kWh`` for joules with unit ``Wh``; values of other units are in that unit."""
    size, name = scaled(value, unit)
    return f"{digits(value / size)}{_GAP}{name}".rstrip(_GAP)


def count(value: float) -> str:
    """A whole number in full."""
    return f"{round(value):,}".replace(",", _SPACE)


def percent(ratio: float) -> str:
    """``12.3 %``; a value above 0 is never shown as 0."""
    if 0.0 < ratio < 0.0005:
        return f"<{_SPACE}0.1{_GAP}%"
    return f"{ratio * 100:.{0 if ratio >= 0.9995 else 1}f}{_GAP}%"


def moment(unix_seconds: float) -> str:
    """``2026-10-01 00:00 UTC``."""
    return _utc(unix_seconds).strftime("%Y-%m-%d %H:%M UTC")


def day(unix_seconds: float) -> str:
    """``2026-10-01``."""
    return _utc(unix_seconds).strftime("%Y-%m-%d")


def _utc(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(unix_seconds, timezone.utc)


#: Characters that would reorder, hide or break the text around them: controls, bidirectional marks, separators.
_HIDDEN: Final = dict.fromkeys(
    (
        *range(0x20), *range(0x7F, 0xA0), 0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F),
        *range(0x2066, 0x206A), 0xFEFF, *range(0xD800, 0xE000), 0xFFFE, 0xFFFF,
    ),
    "\ufffd",
)  # fmt: skip


def clean(text: str, longest: int = 120) -> str:
    """A name from an external source, without characters that change the text around it, cut to ``longest``."""
    text = text.translate(_HIDDEN)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
