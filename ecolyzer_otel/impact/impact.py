"""Energy to emissions and water.

Symbols, units and worked examples: ``docs/methodology.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.impact.place import Place

__all__ = ["Impact", "compute_impact"]

_JOULES_PER_KWH: Final = 3.6e6


@dataclass(frozen=True, slots=True)
class Impact:
    """What some joules cost the world: grams of CO2e and litres of water.

    ``embodied_grams`` is None when no embodied emissions are configured: unknown, not zero.
    """

    operational_grams: float
    embodied_grams: float | None
    onsite_liters: float
    offsite_liters: float

    @property
    def grams(self) -> float:
        """Operational plus embodied gCO2e; operational alone where embodied is unknown."""
        return self.operational_grams + (self.embodied_grams or 0.0)

    @property
    def liters(self) -> float:
        """On-site plus off-site water consumption in litres."""
        return self.onsite_liters + self.offsite_liters


def compute_impact(joules: float, place: Place, *, embodied_grams: float | None = None) -> Impact:
    """The impact of ``joules`` of IT energy used at ``place``.

    Operational gCO2e, location-based (GHG Protocol Scope 2 Guidance 2015; SCI, ISO/IEC 21031:2024, O = E x I)::

        grams = joules x PUE x grams_per_kwh / 3.6e6

    Water consumption (Li et al., "Making AI Less Thirsty", arXiv 2304.03271)::

        onsite  = joules / 3.6e6 x WUE
        offsite = joules / 3.6e6 x PUE x EWIF

    WUE is litres per kWh of *IT* energy (The Green Grid, white paper 35), so that PUE must not multiply it.

    Args:
        joules: IT energy as the sensors see it, active and idle together.
        place: where it was used.
        embodied_grams: the share of the hardware's embodied gCO2e, when configured; passed through.

    Raises:
        ValueError: an amount is negative or not finite.
    """
    for name, amount in (("joules", joules), ("embodied_grams", embodied_grams)):
        if amount is not None and not 0.0 <= amount < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, not {amount!r}")
    it_kwh = joules / _JOULES_PER_KWH
    site_kwh = it_kwh * place.pue
    return Impact(
        operational_grams=site_kwh * place.grams_per_kwh,
        embodied_grams=embodied_grams,
        onsite_liters=it_kwh * place.wue,
        offsite_liters=site_kwh * place.ewif,
    )
