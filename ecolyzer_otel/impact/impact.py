"""Energy to emissions and water.

Symbols, units and worked examples: ``docs/methodology.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.impact.place import Place

__all__ = ["Impact", "compute_impact", "sum_impacts"]

_JOULES_PER_KWH: Final = 3.6e6


@dataclass(frozen=True, slots=True)
class Impact:
    """The impact of some joules: grams of CO2e and litres of water.

    ``embodied_grams`` is None when no embodied emissions are configured: unknown, not zero. ``market_grams`` are
    the operational ones by the contractual factor, ``marginal_grams`` by the marginal intensity; None without one.
    They are separate figures and part of no sum.
    """

    operational_grams: float
    embodied_grams: float | None
    onsite_liters: float
    offsite_liters: float
    market_grams: float | None = None
    marginal_grams: float | None = None

    @property
    def grams(self) -> float:
        """Operational plus embodied gCO2e; operational alone where embodied is unknown."""
        return self.operational_grams + (self.embodied_grams or 0.0)

    @property
    def liters(self) -> float:
        """On-site plus off-site water consumption in litres."""
        return self.onsite_liters + self.offsite_liters

    def uncertainty_grams(self, energy: float, factor: float, embodied: float = 0.0) -> float:
        """One standard uncertainty of :attr:`grams`.

        The product of independent factors has the relative variances of all of them, a sum the absolute ones (GUM,
        JCGM 100:2008, 5.1)::

            u^2 = operational^2 (energy^2 + factor^2) + embodied_grams^2 embodied^2

        Args:
            energy: relative standard uncertainty of the joules.
            factor: relative standard uncertainty of the carbon intensity.
            embodied: relative standard uncertainty of the embodied emissions.
        """
        hardware = (self.embodied_grams or 0.0) * embodied
        return math.hypot(self.operational_grams * math.hypot(energy, factor), hardware)

    def range_liters(self, energy: float, place: Place) -> tuple[float, float]:
        """The range of the water in litres, at about 95 % confidence.

        Off-site water has the range of its factor and, in quadrature on a logarithmic scale, two standard
        uncertainties of the joules (``energy``, relative); on-site water only the latter.
        """
        low = high = self.onsite_liters
        low, high = low * math.exp(-2.0 * energy), high * math.exp(2.0 * energy)
        if place.ewif > 0.0 and self.offsite_liters > 0.0:
            down = math.log(place.ewif / place.water_low) if place.water_low > 0.0 else math.inf
            up = math.log(place.water_high / place.ewif)
            low += self.offsite_liters * math.exp(-math.hypot(2.0 * energy, down))
            high += self.offsite_liters * math.exp(math.hypot(2.0 * energy, up))
        return low, high


def compute_impact(joules: float, place: Place, *, embodied_grams: float | None = None) -> Impact:
    """The impact of ``joules`` of IT energy used at ``place``.

    Operational gCO2e, location-based (GHG Protocol Scope 2 Guidance 2015; SCI, ISO/IEC 21031:2024, O = E x I)::

        grams = joules x PUE x grams_per_kwh / 3.6e6

    and the same with the contractual factor (market-based) and the marginal intensity where available.

    Water consumption (Li et al., "Making AI Less Thirsty", arXiv 2304.03271)::

        onsite  = joules / 3.6e6 x WUE
        offsite = joules / 3.6e6 x PUE x EWIF

    WUE is litres per kWh of *IT* energy (The Green Grid, white paper 35), so it is not multiplied by PUE.

    Args:
        joules: IT energy as the sensors measure it, active and idle together.
        place: where the energy was used.
        embodied_grams: the share of the hardware's embodied gCO2e where configured; passed through.

    Raises:
        ValueError: an amount is negative or not finite.
    """
    if not 0.0 <= joules < math.inf:
        raise ValueError(f"joules must be finite and at least 0, not {joules!r}")
    if embodied_grams is not None and not 0.0 <= embodied_grams < math.inf:
        raise ValueError(f"embodied_grams must be finite and at least 0, not {embodied_grams!r}")
    it_kwh = joules / _JOULES_PER_KWH
    site_kwh = it_kwh * place.pue
    return Impact(
        site_kwh * place.grams_per_kwh,
        embodied_grams,
        it_kwh * place.wue,
        site_kwh * place.ewif,
        None if place.market is None else site_kwh * place.market,
        None if place.marginal is None else site_kwh * place.marginal,
    )


def sum_impacts(impacts: Iterable[Impact]) -> Impact:
    """The sum of the impacts of parts of one request, each at the factors of its own time.

    A figure that some parts lack is the sum over the other parts.
    """
    parts = list(impacts)
    return Impact(
        math.fsum(one.operational_grams for one in parts),
        _sum_available(one.embodied_grams for one in parts),
        math.fsum(one.onsite_liters for one in parts),
        math.fsum(one.offsite_liters for one in parts),
        _sum_available(one.market_grams for one in parts),
        _sum_available(one.marginal_grams for one in parts),
    )


def _sum_available(amounts: Iterable[float | None]) -> float | None:
    available = [amount for amount in amounts if amount is not None]
    return math.fsum(available) if available else None
