"""The energy of a settled request, as the public API returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecolyzer_otel.wire.protocol import Settled

__all__ = ["Energy"]


class Energy(float):
    """Joules of one request, active and idle, as a float with its parts and impacts as attributes.

    Attributes:
        joules: the same number.
        active_joules: caused by the work.
        idle_joules: its part of the idle energy while it was in flight, equal for all requests in flight.
        uncertainty_joules: one standard uncertainty of the active joules.
        method: ``measured``, ``modelled`` or ``mixed``.
        components: joules by component (``cpu``, ``gpu``, ``dram``).
        phases: joules by phase.
        co2e_grams: grams of CO2e, operational and embodied.
        embodied_grams: the embodied part of these; None without configured embodied emissions.
        co2e_uncertainty_grams: one standard uncertainty of the grams; None from an older meter.
        market_grams: operational grams by the contractual factor; None without one. Not part of any sum.
        water_liters: litres of water, on and off site.
        water_range: the 95 % interval of the litres; None from an older meter.
        ess: effective parameters in millions per gram; None if the parameters are not known.
    """

    __slots__ = (
        "active_joules", "co2e_grams", "co2e_uncertainty_grams", "components", "embodied_grams", "ess",
        "idle_joules", "joules", "market_grams", "method", "phases", "uncertainty_joules", "water_liters",
        "water_range",
    )  # fmt: skip

    joules: float
    active_joules: float
    idle_joules: float
    uncertainty_joules: float
    method: str
    components: dict[str, float]
    phases: dict[str, float]
    co2e_grams: float
    embodied_grams: float | None
    co2e_uncertainty_grams: float | None
    market_grams: float | None
    water_liters: float
    water_range: tuple[float, float] | None
    ess: float | None

    @classmethod
    def of(cls, settled: Settled) -> Energy:
        """Returns the energy of a settlement."""
        energy = cls(settled.active + settled.idle)
        energy.joules = float(energy)
        energy.active_joules, energy.idle_joules = settled.active, settled.idle
        energy.uncertainty_joules = settled.uncertainty
        energy.method = settled.method
        energy.components = {name: joules for name, (joules, _) in settled.components.items()}
        energy.phases = dict(settled.phases)
        energy.co2e_grams = settled.operational_grams + (settled.embodied_grams or 0.0)
        energy.embodied_grams, energy.market_grams = settled.embodied_grams, settled.market_grams
        energy.co2e_uncertainty_grams = settled.uncertainty_grams
        energy.water_liters = settled.onsite_liters + settled.offsite_liters
        low, high = settled.water_low, settled.water_high
        energy.water_range = None if low is None or high is None else (low, high)
        energy.ess = settled.ess
        return energy
