"""Joules turned into gCO2e, litres of water and ESS, by the factors of the place where the machine stands.

Pure computation over packaged tables (``data/*.csv``, provenance in every row, licences in ``NOTICE``); a table is
read when the first function needs it, not at import. Every formula, with its source and a worked example:
``docs/methodology.md``.
"""

from ecolyzer_otel.impact.embodied import Embodied, embodied_of, time_share_grams
from ecolyzer_otel.impact.ess import EssWindow, effective_parameters, ess, quantization_factor
from ecolyzer_otel.impact.impact import Impact, compute_impact, sum_impacts
from ecolyzer_otel.impact.place import Place, resolve_place
from ecolyzer_otel.impact.sci import SciWindow, sci
from ecolyzer_otel.impact.tables import FactorTableError

__all__ = [
    "Embodied",
    "EssWindow",
    "FactorTableError",
    "Impact",
    "Place",
    "SciWindow",
    "compute_impact",
    "effective_parameters",
    "embodied_of",
    "ess",
    "quantization_factor",
    "resolve_place",
    "sci",
    "sum_impacts",
    "time_share_grams",
]
