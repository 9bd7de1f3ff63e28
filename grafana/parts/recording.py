"""Recording rules, named ``level:metric:operations`` (newest operation first, ``_total`` dropped once rated).

Numerators and denominators are aggregated separately and then divided. Both increase at settlement, so their quotient
is correct while traffic changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Labels of one model of one service, over all replicas.
MODEL = "job, service, model"
#: Labels of one meter.
METER = "job, instance"
MONTH_SECONDS = 2_592_000

REQUESTS_1H = "job_service_model:ecolyzer_requests:increase1h"
JOULES_5M = "job_service_model:ecolyzer_energy_joules_per_request:ratio_rate5m"
JOULES_1H = "job_service_model:ecolyzer_energy_joules_per_request:ratio_rate1h"
JOULES_7D = "job_service_model:ecolyzer_energy_joules_per_request:ratio_avg7d_rate1h"
CO2E_1H = "job_service_model:ecolyzer_co2e_grams:rate1h"
GRAMS_5M = "job_service_model:ecolyzer_co2e_grams_per_request:ratio_rate5m"
GRAMS_1H = "job_service_model:ecolyzer_co2e_grams_per_request:ratio_rate1h"
BUDGET = "job_model:ecolyzer_carbon_budget_grams_per_request:min"
ESS = "job_service_model_device_dtype:ecolyzer_ess:avg"
ESS_7D = "job_service_model_device_dtype:ecolyzer_ess:avg7d_avg"
OUTCOMES = "job_service_outcome:ecolyzer_requests:increase10m"
MODELLED = "job_instance_device:ecolyzer_modelled_energy:ratio_rate1h"
#: Burn rate of the monthly budget by window: 1 uses it up in exactly 30 days.
BURN = {
    window: f"job_instance:ecolyzer_carbon_budget_burn:ratio_{way}"
    for window, way in (
        ("5m", "rate5m"),
        ("30m", "rate30m"),
        ("1h", "rate1h"),
        ("6h", "avg6h_rate5m"),
        ("3d", "avg3d_rate5m"),
    )
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One recording rule."""

    record: str
    expr: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, in this order; ``interval`` is empty for the default of the server."""

    name: str
    rules: tuple[Rule, ...]
    interval: str = ""


def _rates(window: str) -> tuple[Rule, ...]:
    """Rates of each model of each service, and their values per request."""
    found = [
        Rule(
            f"job_service_model:{stem}:rate{window}",
            f"sum by ({MODEL}) (rate({stem}_total[{window}]))",
        )
        for stem in ("ecolyzer_requests", "ecolyzer_energy_joules", "ecolyzer_co2e_grams", "ecolyzer_water_liters")
    ]
    # > 0: no value per request where there was none, instead of a division by 0.
    requests = f"(job_service_model:ecolyzer_requests:rate{window} > 0)"
    found += [
        Rule(
            f"job_service_model:{stem}_per_request:ratio_rate{window}",
            f"job_service_model:{stem}:rate{window} / {requests}",
        )
        for stem in ("ecolyzer_energy_joules", "ecolyzer_co2e_grams", "ecolyzer_water_liters")
    ]
    return tuple(found)


def _baseline(level: str, stem: str) -> str:
    """The mean over the 7 days that ended a day ago, so that a current problem is not part of its baseline.

    A subquery of 15 min keeps it at 672 points per series whatever the evaluation interval is.
    """
    return f"avg_over_time({level}:{stem}[7d:15m] offset 1d)"


def _burn(window: str, rate: str) -> Rule:
    budget = f"({METER}) (ecolyzer_carbon_budget_grams_per_month)"
    return Rule(BURN[window], f"{rate}\n/ on ({METER})\n(max by {budget} / {MONTH_SECONDS})")


GROUPS: tuple[Group, ...] = (
    Group("ecolyzer-now", _rates("5m")),
    Group(
        "ecolyzer-hour",
        (
            *_rates("1h"),
            Rule(REQUESTS_1H, f"sum by ({MODEL}) (increase(ecolyzer_requests_total[1h]))"),
            # The strictest budget, if replicas are configured differently.
            Rule(BUDGET, "min by (job, model) (ecolyzer_carbon_budget_grams_per_request)"),
            Rule(
                ESS,
                'avg by (job, service, model, device, dtype) (ecolyzer_ess{per="request"})',
            ),
            Rule(
                MODELLED,
                "sum by (job, instance, device) "
                '(rate(ecolyzer_device_energy_joules_total{method="modelled"}[1h]))\n'
                "/\n"
                "(sum by (job, instance, device) (rate(ecolyzer_device_energy_joules_total[1h])) > 0)",
            ),
            *(
                Rule(
                    OUTCOMES,
                    f"sum by (job, service) (increase({stem}_total[10m]))",
                    {"outcome": outcome},
                )
                for outcome, stem in (
                    ("settled", "ecolyzer_requests"),
                    ("unsettled", "ecolyzer_unsettled_requests"),
                    ("dropped", "ecolyzer_dropped_requests"),
                )
            ),
        ),
    ),
    Group(
        "ecolyzer-month",
        (
            *(
                Rule(
                    f"job_instance:ecolyzer_co2e_grams:rate{window}",
                    f"sum by ({METER}) (rate(ecolyzer_co2e_grams_total[{window}]))",
                )
                for window in ("5m", "30m", "1h")
            ),
            # From the recorded rate, as three days of every label set are too much to read each time.
            *(
                Rule(
                    f"job_instance:ecolyzer_co2e_grams:avg{window}_rate5m",
                    f"avg_over_time(job_instance:ecolyzer_co2e_grams:rate5m[{window}])",
                )
                for window in ("6h", "3d")
            ),
            *(
                _burn(window, f"job_instance:ecolyzer_co2e_grams:{BURN[window].rpartition('ratio_')[2]}")
                for window in BURN
            ),
        ),
        "30s",
    ),
    Group(
        "ecolyzer-baseline",
        (
            # Weighted by requests, so that quiet hours, with more idle power per request, have little weight.
            Rule(
                JOULES_7D,
                f"(\n  {_baseline('job_service_model', 'ecolyzer_energy_joules:rate1h')}\n  /\n"
                f"  ({_baseline('job_service_model', 'ecolyzer_requests:rate1h')} > 0)\n)\n"
                # Only with at least a day of data.
                "and\ncount_over_time(job_service_model:ecolyzer_requests:rate1h[7d:15m] offset 1d) >= 96",
            ),
            Rule(
                ESS_7D,
                f"{_baseline('job_service_model_device_dtype', 'ecolyzer_ess:avg')}\n"
                f"and\ncount_over_time({ESS}[7d:15m] offset 1d) >= 96",
            ),
        ),
        "5m",
    ),
)
