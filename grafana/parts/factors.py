"""The row of the dashboard "Data quality" on the factors: their values, ages and sources."""

from __future__ import annotations

from parts.boards import METERS, Row
from parts.panels import SECONDS, Column, Look, Query, lines, sheet

_NOW = f"{{{METERS}}}[$__rate_interval]"
_PLACE = "{{instance}} {{zone}} ({{source}})"


def _place(name: str) -> str:
    return f"max by (instance, zone, source) ({name}{{{METERS}}})"


def factors() -> Row:
    """The row "Factors"."""
    return Row(
        "Factors",
        (
            lines(
                "Carbon intensity of the grid",
                "gCO2e per kWh in use, and a standard uncertainty above and below it. "
                "ecolyzer_grid_carbon_intensity_grams_per_kwh, ecolyzer_grid_carbon_uncertainty_ratio.",
                (
                    Query(_place("ecolyzer_grid_carbon_intensity_grams_per_kwh"), _PLACE),
                    *(
                        Query(
                            f"{_place('ecolyzer_grid_carbon_intensity_grams_per_kwh')} * (1 {sign} "
                            f"{_place('ecolyzer_grid_carbon_uncertainty_ratio')})",
                            f"{{{{zone}}}} {sign} 1 sigma",
                        )
                        for sign in "+-"
                    ),
                ),
                Look(unit="suffix:g/kWh", width=8, empty="No factor"),
            ),
            lines(
                "Age of the carbon intensity",
                "How old the figure is that the grid's intensity stands for. A table's year ends long ago; a live "
                "source alerts above 6 h (EcolyzerFactorsStale). ecolyzer_grid_data_timestamp_seconds.",
                Query(f"time() - {_place('ecolyzer_grid_data_timestamp_seconds')}", _PLACE),
                Look(unit=SECONDS, width=8, empty="No factor"),
            ),
            lines(
                "Live sources",
                "Answers per hour of live sources of grid figures, by outcome: ecolyzer_grid_fetches_total.",
                Query(
                    f"3600 * sum by (source, outcome) (rate(ecolyzer_grid_fetches_total{_NOW}))",
                    "{{source}} {{outcome}}",
                ),
                Look(unit="si:answers/h", width=8, empty="No live source has been asked (--grid)"),
            ),
            lines(
                "Water intensity of the grid",
                "Litres consumed per kWh generated (EWIF), with the ends of its range. "
                "ecolyzer_grid_water_intensity_liters_per_kwh, _low_, _high_.",
                (
                    Query(_place("ecolyzer_grid_water_intensity_liters_per_kwh"), _PLACE),
                    Query(_place("ecolyzer_grid_water_intensity_low_liters_per_kwh"), "{{zone}} low"),
                    Query(_place("ecolyzer_grid_water_intensity_high_liters_per_kwh"), "{{zone}} high"),
                ),
                Look(unit="si:L/kWh", width=8, empty="No factor"),
            ),
            lines(
                "Site",
                "PUE (all energy of the site per energy of its machines) and WUE (litres per kWh of IT energy): "
                "ecolyzer_pue_ratio, ecolyzer_wue_liters_per_kwh. 1 and 0 unless set or published.",
                (
                    Query(_place("ecolyzer_pue_ratio"), "{{instance}} PUE ({{source}})"),
                    Query(_place("ecolyzer_wue_liters_per_kwh"), "{{instance}} WUE ({{source}})"),
                ),
                Look(unit="none", decimals=2, width=8, empty="No factor"),
            ),
            lines(
                "Other intensities",
                "Marginal intensity of the grid (ecolyzer_grid_marginal_intensity_grams_per_kwh) and the contractual "
                "factor (ecolyzer_market_factor_grams_per_kwh), where configured: figures of their own.",
                (
                    Query(
                        _place("ecolyzer_grid_marginal_intensity_grams_per_kwh"),
                        "marginal {{zone}} ({{source}})",
                    ),
                    Query(_place("ecolyzer_market_factor_grams_per_kwh"), "contract ({{source}})"),
                ),
                Look(unit="suffix:g/kWh", width=8, empty="Not configured (--marginal, --market-factor)"),
            ),
            sheet(
                "Factors in use",
                "Every factor with its value, unit, basis, source and year: ecolyzer_factor_info. Meters is how many "
                "use it.",
                ("kind", "zone", "value", "unit", "basis", "source", "year"),
                (
                    Column(
                        "Meters",
                        f"sum by (kind, zone, value, unit, basis, source, year) (ecolyzer_factor_info{{{METERS}}})",
                        "none",
                        decimals=0,
                    ),
                ),
                Look(width=16, height=9, empty="No factor"),
            ),
            sheet(
                "Budgets in use",
                "Grams that a request may cost, by model, as configured (carbon_budget_per_request); the strictest of "
                "all meters. ecolyzer_carbon_budget_grams_per_request.",
                ("model",),
                (
                    Column(
                        "CO2e per request",
                        f"min by (model) (ecolyzer_carbon_budget_grams_per_request{{{METERS}}})",
                        "massg",
                    ),
                ),
                Look(width=8, height=9, empty="No budget set (--carbon-budget-per-request)"),
            ),
        ),
    )
