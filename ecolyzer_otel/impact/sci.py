"""SCI, the software carbon intensity: (E x I + M) / R (ISO/IEC 21031:2024, of the Green Software Foundation)."""

from __future__ import annotations

import math
from typing import Final, Literal

from ecolyzer_otel.impact.window import TrailingSums

__all__ = ["SCI_UNITS", "SciUnit", "SciWindow", "sci"]

SciUnit = Literal["request", "item", "million_tokens", "million_output_tokens"]
#: The functional units R, and the divisor of each count.
SCI_UNITS: Final[tuple[tuple[SciUnit, float], ...]] = (
    ("request", 1.0),
    ("item", 1.0),
    ("million_tokens", 1e6),
    ("million_output_tokens", 1e6),
)


def sci(operational_grams: float, embodied_grams: float, units: float) -> float:
    """(E x I + M) / R in gCO2e per functional unit.

    Args:
        operational_grams: E x I; location-based, with PUE in E, as the standard requires.
        embodied_grams: M.
        units: R, the number of functional units.

    Raises:
        ValueError: ``units`` is 0, or an amount is negative or not finite.
    """
    for name, amount in (("operational_grams", operational_grams), ("embodied_grams", embodied_grams)):
        if not 0.0 <= amount < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, not {amount!r}")
    if not 0.0 < units < math.inf:
        raise ValueError(f"units must be finite and above 0, not {units!r}")
    return (operational_grams + embodied_grams) / units


class SciWindow:
    """SCI over the trailing 300 s: grams of all requests with a known M, divided by their units."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        #: Grams, requests, items, tokens, output tokens; grams of those that have tokens.
        self._sums = TrailingSums(6)

    def add(self, t_seconds: float, grams: float, items: int, tokens: tuple[int, int] | None) -> None:
        """Count a settled request.

        Args:
            t_seconds: its end, on the same clock as :meth:`values`.
            grams: operational and embodied gCO2e.
            items: batch elements.
            tokens: of input and output, where available.
        """
        read, written = tokens or (0, 0)
        self._sums.add(t_seconds, grams, 1.0, items, read + written, written, grams if tokens else 0.0)

    def values(self, now: float) -> dict[SciUnit, float | None]:
        """SCI at ``now`` by functional unit; None for a unit that did not occur."""
        grams, *counts, generated = self._sums.totals(now)
        found: dict[SciUnit, float | None] = {}
        for (unit, size), count in zip(SCI_UNITS, counts, strict=True):
            amount = generated if size > 1.0 else grams
            found[unit] = sci(amount, 0.0, count / size) if count > 0.0 else None
        return found
