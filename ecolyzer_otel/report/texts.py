"""Fixed texts: what is included and excluded, formulas, glossary. They agree with docs/methodology.md."""

from __future__ import annotations

from typing import Final

__all__ = ["EXCLUDED", "FORMULAS", "GLOSSARY", "INCLUDED", "OWNERSHIP", "RULES"]

#: What the figures include.
INCLUDED: Final = (
    (
        "CPU package, memory, GPU",
        "joules of hardware energy counters where available (measured), else computed from utilisation and "
        "hardware tables (modelled); active energy, and an equal part of the idle power while a request was in "
        "flight",
    ),
    ("Overhead of the site", "by power usage effectiveness (PUE) and water usage effectiveness (WUE)"),
    ("Electricity generation", "grams of CO₂e and litres of water per kWh of the grid zone"),
    ("Embodied emissions", "of the hardware, where configured, amortised evenly over its lifetime"),
)
#: What the figures exclude.
EXCLUDED: Final = (
    (
        "Rest of the machine",
        "power supply losses, fans, mainboard, storage and network cards: none of the sensors measures them, and "
        "PUE covers only what is outside the machine",
    ),
    ("Network and clients", "outside the machine"),
    ("Training, and loading of models", "only inference requests are counted"),
    (
        "Embodied emissions that are not configured",
        "building, network, storage; and end of life, where the source of the figure excludes it",
    ),
    ("Grid losses", "transmission and distribution losses of the grid"),
    ("Offsets", "no offsets or certificates are deducted; contracts affect the market-based figure only"),
)
#: The scope that the figures belong to, by ownership of the machines.
OWNERSHIP: Final = (
    (
        "Own machines, or machines under operational control",
        "the electricity is Scope 2 and own energy consumption (E1-5). The manufacture of the hardware is Scope 3 "
        "category 2 (capital goods), which the GHG Protocol reports in full in the year of purchase. The figure "
        "here is amortised over the lifetime, as in SCI (ISO/IEC 21031), and serves allocation. Do not add it to a "
        "category 2 figure that already includes the purchase.",
    ),
    (
        "Rented machines (cloud, colocation without control)",
        "both electricity and hardware are Scope 3: category 1 (purchased services) or category 8 (upstream leased "
        "assets). They are then neither Scope 2 nor own energy consumption.",
    ),
    (
        "Life-cycle factors",
        "if the basis of the carbon factor is life-cycle, the figure includes upstream emissions of generation, "
        "which the GHG Protocol counts as Scope 3 category 3. A factor of direct emissions includes none.",
    ),
)
#: Formulas, and the meaning of their symbols.
FORMULAS: Final = (
    ("g = E × PUE × I / 3.6e6", "operational grams of CO₂e (location-based); E joules of IT energy, I g/kWh of the "
     "zone at the time. GHG Protocol Scope 2 Guidance (2015); ISO/IEC 21031:2024"),
    ("g_market = E × PUE × F / 3.6e6", "operational grams of CO₂e (market-based); F the contractual factor, g/kWh"),
    ("L = E / 3.6e6 × WUE + E / 3.6e6 × PUE × EWIF", "litres of water consumed on site and off site; WUE is per "
     "kWh of IT energy, so PUE does not multiply it. Li et al., arXiv 2304.03271"),
    ("M = TE × (time / lifetime) × reserved part", "embodied grams; TE total embodied emissions of the "
     "hardware. ISO/IEC 21031:2024"),
    ("SCI = (g + M) / R", "software carbon intensity per functional unit R: a request, or a million tokens"),
    ("ESS = P × requests / sum of g", "P effective parameters in millions; g operational grams. arXiv 2511.06694"),
    ("requests + process + host + idle = measured", "the ledger of each sensor: the joules charged to requests, "
     "to the rest of their processes, to the rest of the host and to idle add up to the increase of its counter"),
    ("range = value × exp(± 2 u)", "95 % range; u² is the sum of the squares of independent relative standard "
     "uncertainties: sensor gain (weighted by joules), grid intensity, and for parts of a total the division among "
     "requests (at most the sum of their uncertainties). Water: the range of its intensity in quadrature with that "
     "of the energy"),
)  # fmt: skip
#: The division of the joules of a counter, in short.
RULES: Final = (
    "Idle power × time is subtracted first. The rest is divided by activity (CPU time, kernel time on GPUs), "
    "weighted by the learned power of each kind of request. The sum is always the measured total. At each instant, "
    "the idle power is divided equally among the requests in flight; with none in flight, it stays idle."
)
GLOSSARY: Final = (
    (
        "Active, idle energy",
        "caused by the work of a request; its part of the power that the device draws without load",
    ),
    ("CO₂e", "greenhouse gases, converted to carbon dioxide by their warming over 100 years"),
    ("Embodied emissions", "emissions of manufacturing the hardware"),
    ("ESS", "environmental sustainability score: millions of effective parameters per gram of operational CO₂e"),
    ("EWIF", "energy water intensity factor: water consumed to generate a kWh of electricity"),
    ("Host, process", "the rest of the machine; the rest of a process that serves requests"),
    ("Location-based, market-based", "by the average intensity of the grid; by contracts for the electricity"),
    (
        "Marginal",
        "by the power plants that would have generated less: for decisions, not to be added to average figures",
    ),
    ("Measured, modelled", "read from an energy counter; computed from utilisation and hardware tables"),
    ("PUE, WUE", "energy of a site per energy of its IT; litres consumed on site per kWh of IT energy"),
    ("Request", "one outermost call of an inference framework"),
    ("SCI", "software carbon intensity, ISO/IEC 21031"),
    ("Unsettled, dropped", "served, but its record reached the ledger too late; lost before it reached the ledger"),
)
