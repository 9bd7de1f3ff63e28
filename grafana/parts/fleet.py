"""Dashboard "Fleet overview": the impact of all inference, against its budgets."""

from __future__ import annotations

from typing import Any

from parts import recording as r
from parts.boards import MODELS, Row, make
from parts.panels import (
    CO2E,
    GRAMS,
    JOULES,
    LITERS,
    NUMBER,
    PER_SECOND,
    RATIO,
    WATT_HOURS,
    WATTS,
    Column,
    Look,
    Query,
    lines,
    number,
    sheet,
)

_RANGE = f"{{{MODELS}}}[$__range]"
_NOW = f"{{{MODELS}}}[$__rate_interval]"
_REQUESTS = f"sum(increase(ecolyzer_requests_total{_RANGE}))"
_CO2E = f"sum(increase(ecolyzer_co2e_grams_total{_RANGE}))"
_MONTH = f"sum({r.CO2E_1H}{{{MODELS}}}) * {r.MONTH_SECONDS}"
_LINK = (
    "Requests of this model",
    "/d/ecolyzer-requests?${job:queryparam}&var-service=${__data.fields.Service}&var-model=${__value.raw}"
    "&${__url_time_range}",
)
_SMALL = {"width": 4, "height": 5}


def _per(stem: str, by: str) -> str:
    """A counter per request, for each label set."""
    return (
        f"sum by ({by}) (increase({stem}_total{_RANGE})) / "
        f"(sum by ({by}) (increase(ecolyzer_requests_total{_RANGE})) > 0)"
    )


def _by(label: str, title: str) -> Any:
    """A table by these labels."""
    return sheet(
        f"By {title}",
        f"Totals of the time range for each {title}, the most carbon first. Requests: ecolyzer_requests_total; "
        "gCO2e: ecolyzer_co2e_grams_total, operational and embodied; energy: ecolyzer_energy_joules_total; "
        "water: ecolyzer_water_liters_total.",
        label.split(", "),
        (
            Column("Requests", f"sum by ({label}) (increase(ecolyzer_requests_total{_RANGE}))", NUMBER),
            Column("CO2e", f"sum by ({label}) (increase(ecolyzer_co2e_grams_total{_RANGE}))", GRAMS),
            Column("CO2e per request", _per("ecolyzer_co2e_grams", label), GRAMS),
            Column(
                "Energy", f"sum by ({label}) (increase(ecolyzer_energy_joules_total{_RANGE})) / 3600", WATT_HOURS
            ),
            Column("Energy per request", _per("ecolyzer_energy_joules", label), JOULES),
            Column("Water", f"sum by ({label}) (increase(ecolyzer_water_liters_total{_RANGE}))", LITERS),
        ),
        Look(width=24, height=8, empty="No requests in this time"),
        sort="CO2e",
        links={"model": _LINK} if label.endswith("model") else None,
    )


def _totals() -> Row:
    """The row "In this time range"."""
    return Row(
        "In this time range",
        (
            number(
                "CO2e per request",
                "Mean grams of CO2e of one request, operational and embodied: ecolyzer_co2e_grams_total / "
                "ecolyzer_requests_total. Both grow when a request is settled, so the quotient holds while "
                "traffic changes.",
                Query(f"{_CO2E} / ({_REQUESTS} > 0)"),
                Look(unit=CO2E, empty="No requests", **_SMALL),
            ),
            number(
                "CO2e per 1,000 requests",
                "The same for a thousand requests, as procurement quotes it: ecolyzer_co2e_grams_total / ecolyzer_requests_total.",
                Query(f"1000 * {_CO2E} / ({_REQUESTS} > 0)"),
                Look(unit=CO2E, empty="No requests", **_SMALL),
            ),
            number(
                "Electricity of requests",
                "Energy charged to requests, active and idle: ecolyzer_energy_joules_total / 3600.",
                Query(f"sum(increase(ecolyzer_energy_joules_total{_RANGE})) / 3600"),
                Look(unit=WATT_HOURS, empty="No requests", **_SMALL),
            ),
            number(
                "Water",
                "Litres consumed for cooling (onsite) and for generating the electricity (offsite): "
                "ecolyzer_water_liters_total. A figure with a range of a factor of three or more: see Data quality.",
                Query(f"sum(increase(ecolyzer_water_liters_total{_RANGE}))"),
                Look(unit=LITERS, empty="No requests", **_SMALL),
            ),
            number(
                "Requests settled",
                "Outermost calls of an instrumented framework whose energy is known: ecolyzer_requests_total.",
                Query(_REQUESTS),
                Look(unit=NUMBER, empty="No requests", **_SMALL),
            ),
            number(
                "Largest share of a budget",
                "gCO2e per request of the model that is furthest up its budget (carbon_budget_per_request), as "
                "part of it. 100 % is the budget. Models without one are not here. ecolyzer_co2e_grams_total / "
                "ecolyzer_requests_total / ecolyzer_carbon_budget_grams_per_request.",
                Query(
                    f"max((sum by (job, model) (increase(ecolyzer_co2e_grams_total{_RANGE})) / "
                    f"(sum by (job, model) (increase(ecolyzer_requests_total{_RANGE})) > 0)) / on (job, model) "
                    "min by (job, model) (ecolyzer_carbon_budget_grams_per_request))"
                ),
                Look(unit=RATIO, decimals=0, levels=(0.8, 1), empty="No data yet, or no budget set", **_SMALL),
            ),
        ),
    )


def _budgets() -> Row:
    """The row "Against the budgets"."""
    return Row(
        "Against the budgets",
        (
            lines(
                "CO2e per request, as part of its budget",
                "Mean of the last 5 minutes of each model with a budget (carbon_budget_per_request): 100 % is "
                "the budget. Above it for 5 minutes and for the hour, EcolyzerCarbonPerRequestHigh fires. "
                f"{r.GRAMS_5M} / ecolyzer_carbon_budget_grams_per_request.",
                Query(
                    f"sum by (job, service, model) ({r.GRAMS_5M}{{{MODELS}}}) / on (job, model) group_left () "
                    "min by (job, model) (ecolyzer_carbon_budget_grams_per_request)",
                    "{{service}} {{model}}",
                ),
                Look(unit=RATIO, levels=(1,), height=9, empty="No data yet, or no budget set"),
            ),
            lines(
                "CO2e per request over time",
                "Grams of CO2e of one request over time, by model. The scale is logarithmic: models differ by "
                "orders of magnitude. ecolyzer_co2e_grams_total / ecolyzer_requests_total.",
                Query(
                    f"sum by (model) (rate(ecolyzer_co2e_grams_total{_NOW})) / "
                    f"(sum by (model) (rate(ecolyzer_requests_total{_NOW})) > 0)",
                    "{{model}}",
                ),
                Look(unit=CO2E, logarithmic=True, height=9, empty="No requests"),
            ),
            number(
                "CO2e of a month at this pace",
                "30 days at the mean rate of the last 24 hours (expected), and as if every hour were as its 10th "
                "or its 90th percentile (low, high). 1 Mg is 1 tonne. From the recorded "
                f"{r.CO2E_1H}.",
                (
                    Query(f"quantile_over_time(0.1, ({_MONTH})[1d:5m])", "low"),
                    Query(f"avg_over_time(({_MONTH})[1d:5m])", "expected"),
                    Query(f"quantile_over_time(0.9, ({_MONTH})[1d:5m])", "high"),
                ),
                Look(unit=CO2E, width=8, height=7, empty="No data yet"),
            ),
            lines(
                "Budget of the month: how fast it is used",
                "1 uses the month's budget (carbon_budget_per_month) in exactly 30 days. Alerts: 14.4 over 1 h, "
                f"6 over 6 h, 1 over 3 d. The meter of each job that is worst: {r.BURN['1h']} and others.",
                [
                    Query(f'max by (job) ({r.BURN[window]}{{job=~"$job"}})', f"{{{{job}}}} {window}")
                    for window in ("1h", "6h", "3d")
                ],
                Look(unit="none", levels=(1, 14.4), width=8, height=7, empty="No data yet, or no budget set"),
            ),
            lines(
                "Budget of the month: left of it",
                "What is left of carbon_budget_per_month (ecolyzer_carbon_budget_grams_per_month) after the last "
                "30 days, as part of it; Prometheus must keep so long.",
                Query(
                    'sum by (job) (ecolyzer_carbon_budget_grams_per_month{job=~"$job"} - on (job, instance) '
                    "(300 * sum_over_time(job_instance:ecolyzer_co2e_grams:rate5m[30d:5m]))) "
                    '/ sum by (job) (ecolyzer_carbon_budget_grams_per_month{job=~"$job"})',
                    "{{job}}",
                ),
                Look(unit=RATIO, width=8, height=7, minimum=None, empty="No data yet, or no budget set"),
            ),
        ),
    )


def _breakdowns() -> Row:
    """The row "Where it goes"."""
    return Row(
        "Where it goes",
        (
            lines(
                "CO2e by service",
                "Grams of CO2e per hour, stacked: ecolyzer_co2e_grams_total.",
                Query(f"3600 * sum by (service) (rate(ecolyzer_co2e_grams_total{_NOW}))", "{{service}}"),
                Look(unit="si:gCO2e/h", stack=True, height=9, empty="No requests"),
            ),
            lines(
                "CO2e by model",
                "Grams of CO2e per hour, stacked: ecolyzer_co2e_grams_total.",
                Query(f"3600 * sum by (model) (rate(ecolyzer_co2e_grams_total{_NOW}))", "{{model}}"),
                Look(unit="si:gCO2e/h", stack=True, height=9, empty="No requests"),
            ),
            lines(
                "CO2e by route",
                "Grams of CO2e per hour of the ten costliest routes, stacked; without a web server above, the "
                "route is empty. ecolyzer_co2e_grams_total.",
                Query(
                    f"topk(10, 3600 * sum by (route) (rate(ecolyzer_co2e_grams_total{_NOW})))",
                    "{{route}}",
                ),
                Look(unit="si:gCO2e/h", stack=True, height=9, empty="No requests"),
            ),
            lines(
                "Power of requests by model",
                "Energy charged to requests per second, active and idle, stacked: ecolyzer_energy_joules_total.",
                Query(f"sum by (model) (rate(ecolyzer_energy_joules_total{_NOW}))", "{{model}}"),
                Look(unit=WATTS, stack=True, height=9, empty="No requests"),
            ),
            lines(
                "Water by scope",
                "Litres per hour: cooling at the site (onsite, by WUE) and generating the electricity (offsite). "
                "ecolyzer_water_liters_total.",
                Query(f"3600 * sum by (scope) (rate(ecolyzer_water_liters_total{_NOW}))", "{{scope}}"),
                Look(unit="si:L/h", stack=True, height=9, empty="No requests"),
            ),
            lines(
                "Requests by model",
                "Requests per second that were settled: ecolyzer_requests_total.",
                Query(f"sum by (model) (rate(ecolyzer_requests_total{_NOW}))", "{{model}}"),
                Look(unit=PER_SECOND, stack=True, height=9, empty="No requests"),
            ),
            _by("service, model", "service and model"),
            _by("service, route", "service and route"),
        ),
    )


def _scopes() -> Row:
    """The row "Other ways to count"."""
    return Row(
        "Other ways to count",
        (
            lines(
                "CO2e by scope",
                "Operational (electricity, location-based) and embodied (making the hardware, for the time used; "
                "absent until embodied is configured), grams per hour. ecolyzer_co2e_grams_total.",
                Query(f"3600 * sum by (scope) (rate(ecolyzer_co2e_grams_total{_NOW}))", "{{scope}}"),
                Look(unit="si:gCO2e/h", stack=True, empty="No requests"),
            ),
            lines(
                "Operational CO2e by three questions",
                "The same electricity: by the grid's average (location-based), by the contract (market-based, "
                "ecolyzer_market_co2e_grams_total) and by what this much less would have spared (marginal, "
                "ecolyzer_marginal_co2e_grams_total). Three answers to three questions: never add them. Grams per "
                "hour; the last two only where configured.",
                (
                    Query(
                        "3600 * sum(rate(ecolyzer_co2e_grams_total"
                        f'{{scope="operational", {MODELS}}}[$__rate_interval]))',
                        "location-based",
                    ),
                    Query(f"3600 * sum(rate(ecolyzer_market_co2e_grams_total{_NOW}))", "market-based"),
                    Query(f"3600 * sum(rate(ecolyzer_marginal_co2e_grams_total{_NOW}))", "marginal"),
                ),
                Look(unit="si:gCO2e/h", empty="No requests"),
            ),
        ),
    )


def fleet() -> str:
    """The dashboard."""
    return make(
        "ecolyzer-fleet",
        "Fleet overview",
        "What inference costs the planet: gCO2e per request against its budget, energy, water, and where the month ends.",
        ("job", "service", "model"),
        (_totals(), _budgets(), _breakdowns(), _scopes()),
    )
