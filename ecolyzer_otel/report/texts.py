"""The standing texts: what is counted and what is not, formulas, words. In step with docs/methodology.md."""

from __future__ import annotations

from typing import Final

__all__ = ["CONTAINS", "FORMULAS", "GLOSSARY", "LACKS", "OWNERSHIP", "RULES"]

#: What the figures hold.
CONTAINS: Final = (
    (
        "CPU package, memory, GPU",
        "joules of the machines' own counters where there are any (measured), else from utilisation and tables of "
        "the hardware (modelled); active energy, and an equal part of the idle power while a request was in flight",
    ),
    ("The site around the machine", "power usage effectiveness (PUE) and water usage effectiveness (WUE)"),
    ("Electricity generation", "grams of CO₂e and litres of water per kWh of the grid zone"),
    ("Embodied emissions", "where configured: the hardware's, spread evenly over its lifetime"),
)
#: What they do not hold.
LACKS: Final = (
    (
        "Rest of the machine",
        "power supply losses, fans, mainboard, storage and network cards: no sensor that is read sees them, and "
        "PUE starts outside the machine",
    ),
    ("Network and clients", "outside the machine"),
    ("Training, and loading of models", "inference requests are counted, nothing else"),
    (
        "Embodied emissions of what is not configured",
        "building, network, storage; and end of life, as far as the source of the figure leaves it out",
    ),
    ("Grid losses", "transmission and distribution losses of the grid"),
    ("Offsets", "no certificate or offset is set off; contracts appear in the market-based figure alone"),
)
#: Which line of a disclosure the figures belong to.
OWNERSHIP: Final = (
    (
        "Own machines, or machines under operational control",
        "the electricity is Scope 2 and own energy consumption (E1-5). Making the hardware is Scope 3 category 2 "
        "(capital goods), which the GHG Protocol reports in full in the year of purchase: the figure here is "
        "spread over the lifetime, as SCI (ISO/IEC 21031) has it, and serves allocation. Do not add it to a "
        "category 2 figure that already holds the purchase.",
    ),
    (
        "Rented machines (cloud, colocation without control)",
        "all of it, electricity and hardware, is Scope 3: category 1 (purchased services), or category 8 (upstream "
        "leased assets). It is then no Scope 2 and no own energy consumption.",
    ),
    (
        "Life-cycle factors",
        "where the basis of the carbon factor is life-cycle, the figure holds upstream emissions of generation, "
        "which the GHG Protocol counts as Scope 3 category 3. A factor of direct emissions holds none.",
    ),
)
#: Formula, and what its symbols are.
FORMULAS: Final = (
    ("g = E × PUE × I / 3.6e6", "operational grams of CO₂e (location-based); E joules of IT energy, I g/kWh of the "
     "zone at the time. GHG Protocol Scope 2 Guidance (2015); ISO/IEC 21031:2024"),
    ("g_market = E × PUE × F / 3.6e6", "the same by the contractual factor F (market-based)"),
    ("L = E / 3.6e6 × WUE + E / 3.6e6 × PUE × EWIF", "litres of water consumed on site and off site; WUE is per "
     "kWh of IT energy, so PUE does not multiply it. Li et al., arXiv 2304.03271"),
    ("M = TE × (time / lifetime) × reserved part", "embodied grams; TE of making the hardware. ISO/IEC 21031:2024"),
    ("SCI = (g + M) / R", "software carbon intensity per functional unit R: a request, or a million tokens"),
    ("ESS = P × requests / sum of g", "P effective parameters in millions; g operational grams. arXiv 2511.06694"),
    ("requests + process + host + idle = measured", "the ledger of each sensor: what is charged to requests, to "
     "the rest of their processes, to the rest of the host, and to idling adds up to what the counter showed"),
    ("range = value × exp(± 2 u)", "95 % range; u² is the sum of the squares of independent relative standard "
     "uncertainties: sensor gain (weighted by joules), grid intensity, and for parts of a total the division among "
     "requests (at most the sum of theirs). Water: the range of its intensity in quadrature with that of energy"),
)  # fmt: skip
#: How the joules of a counter are divided, in short.
RULES: Final = (
    "Idle power × time is set aside first. What is left is divided by activity: CPU time, kernels' time on GPUs, "
    "weighed with what each kind of request was learned to draw. The measured total is always what is divided. "
    "Each instant's idle power is divided equally among the requests in flight; with none, it stays idle."
)
GLOSSARY: Final = (
    ("Active, idle energy", "caused by the work of a request; its part of the power that the device draws anyway"),
    ("CO₂e", "greenhouse gases by their warming over 100 years, as so much carbon dioxide"),
    ("Embodied emissions", "of making the hardware"),
    ("ESS", "environmental sustainability score: millions of effective parameters per gram of operational CO₂e"),
    ("EWIF", "water consumed to generate a kWh of electricity"),
    ("Host, process", "the rest of the machine; the rest of a process that serves requests"),
    ("Location-based, market-based", "by the average of the grid; by the contract for the electricity"),
    ("Marginal", "by the power plants that would have run less: for decisions, never to be added to averages"),
    ("Measured, modelled", "read from an energy counter; computed from utilisation and hardware tables"),
    ("PUE, WUE", "energy of a site per energy of its IT; litres evaporated on site per kWh of IT energy"),
    ("Request", "one outermost call of an inference framework"),
    ("SCI", "software carbon intensity, ISO/IEC 21031"),
    ("Unsettled, dropped", "served, but its record came too late for the ledger; lost before it came there"),
)
