"""Dashboard "Request drill-down": distributions of single requests, their phases, and links to their traces."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard

from parts.boards import MODELS, Row, make
from parts.panels import (
    CO2E,
    GRAMS,
    JOULES,
    LITERS,
    NUMBER,
    PER_SECOND,
    RATIO,
    SECONDS,
    WATTS,
    Column,
    Look,
    Query,
    heat,
    lines,
    sheet,
    traces,
)

_NOW = f"{{{MODELS}}}[$__rate_interval]"
_RANGE = f"{{{MODELS}}}[$__range]"
_EXEMPLARS = "Points are exemplars, single requests: click one to open its trace (spans must be exported). "
_KEY = "service, route, model, operation, device"
_SETTLED = f"(sum by ({_KEY}) (increase(ecolyzer_requests_total{_RANGE})) > 0)"


def _quantiles(
    stem: str, title: str, description: str, unit: str, empty: str = "No requests", width: int = 8
) -> Any:
    return lines(
        title,
        f"{description} Half of the requests were below p50, 1 in 20 above p95, 1 in 100 above p99; as exact as the buckets of "
        f"{stem}.",
        [
            Query(f"histogram_quantile({q}, sum by (le) (rate({stem}_bucket{_NOW})))", name)
            for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
        ],
        Look(unit=unit, logarithmic=True, width=width, empty=empty),
    )


def _traces(title: str, description: str, condition: str) -> Any:
    search = (
        f'{{ {condition} && span.ecolyzer.model.name =~ "${{model:regex}}" }} | select('
        "span.ecolyzer.model.name, span.ecolyzer.energy.joules, span.ecolyzer.co2e.grams, span.ecolyzer.energy.method)"
    )
    return traces(title, f"{description} TraceQL: {{ {condition} }}.", search, Look(height=9, empty="No such span"))


def _distributions() -> Row:
    """The row "How requests spread"."""
    return Row(
        "How requests spread",
        (
            heat(
                "Energy of requests",
                f"How many requests used how many joules, over time. {_EXEMPLARS}ecolyzer_request_energy_joules.",
                f"sum by (le) (increase(ecolyzer_request_energy_joules_bucket{_NOW}))",
                Look(unit=JOULES, width=12, height=10, empty="No requests"),
            ),
            heat(
                "CO2e of requests",
                f"How many requests cost how many grams, over time. {_EXEMPLARS}ecolyzer_request_co2e_grams.",
                f"sum by (le) (increase(ecolyzer_request_co2e_grams_bucket{_NOW}))",
                Look(unit=CO2E, width=12, height=10, empty="No requests"),
            ),
            _quantiles("ecolyzer_request_energy_joules", "Energy: percentiles", "Joules of a request.", JOULES),
            _quantiles("ecolyzer_request_co2e_grams", "CO2e: percentiles", "Grams of a request.", CO2E),
            _quantiles(
                "ecolyzer_request_duration_seconds",
                "Duration: percentiles",
                "Wall time of a request.",
                SECONDS,
            ),
        ),
    )


def _components() -> Row:
    """The row "What a request is made of"."""
    return Row(
        "What a request is made of",
        (
            lines(
                "Energy per request, active and idle",
                "Active joules were caused by the work; idle ones are an equal part of the idle power while the "
                "request was in flight. ecolyzer_energy_joules_total by share and component.",
                Query(
                    f"sum by (component, share) (rate(ecolyzer_energy_joules_total{_NOW})) / scalar("
                    f"sum(rate(ecolyzer_requests_total{_NOW})) > 0)",
                    "{{component}} {{share}}",
                ),
                Look(unit=JOULES, stack=True, empty="No requests"),
            ),
            lines(
                "Requests by outcome of the call",
                "Requests per second that were settled, by status: error means that the call raised. What got no "
                "energy is on Data quality. ecolyzer_requests_total.",
                Query(f"sum by (status) (rate(ecolyzer_requests_total{_NOW}))", "{{status}}"),
                Look(unit=PER_SECOND, stack=True, colors={"ok": "green", "error": "red"}, empty="No requests"),
            ),
            sheet(
                "By route and operation",
                "What was called through which route, with means of the time range. ecolyzer_requests_total, "
                "ecolyzer_energy_joules_total, ecolyzer_co2e_grams_total, ecolyzer_water_liters_total.",
                _KEY.split(", "),
                (
                    Column("Requests", f"sum by ({_KEY}) (increase(ecolyzer_requests_total{_RANGE}))", NUMBER),
                    *(
                        Column(head, f"sum by ({_KEY}) (increase({stem}_total{_RANGE})) / {_SETTLED}", unit)
                        for head, stem, unit in (
                            ("Energy", "ecolyzer_energy_joules", JOULES),
                            ("CO2e", "ecolyzer_co2e_grams", GRAMS),
                            ("Water", "ecolyzer_water_liters", LITERS),
                        )
                    ),
                ),
                Look(width=24, height=8, empty="No requests in this time"),
                sort="Energy",
            ),
        ),
    )


def _phases() -> Row:
    """The row "Generation: prefill and decode"."""
    return Row(
        "Generation: prefill and decode",
        (
            lines(
                "Power of the phases",
                "Joules per second of generating requests by phase, stacked: prefill is up to the first output "
                "token, decode from there on. ecolyzer_phase_energy_joules_total.",
                Query(f"sum by (phase) (rate(ecolyzer_phase_energy_joules_total{_NOW}))", "{{phase}}"),
                Look(unit=WATTS, stack=True, width=8, empty="No model generates"),
            ),
            lines(
                "Energy per token",
                "Joules of prefill per input token, and of decode per output token. Prefill works on all tokens at "
                "once and is cheaper by far. ecolyzer_phase_energy_joules_total / ecolyzer_tokens_total.",
                [
                    Query(
                        f'sum(rate(ecolyzer_phase_energy_joules_total{{phase="{phase}", {MODELS}}}'
                        f'[$__rate_interval])) / (sum(rate(ecolyzer_tokens_total{{kind="{kind}", {MODELS}}}'
                        "[$__rate_interval])) > 0)",
                        f"{phase}, per {kind} token",
                    )
                    for phase, kind in (("prefill", "input"), ("decode", "output"))
                ],
                Look(unit="si:J/token", logarithmic=True, width=8, empty="No model generates"),
            ),
            lines(
                "Tokens per second",
                "Input and output tokens: ecolyzer_tokens_total.",
                Query(f"sum by (kind) (rate(ecolyzer_tokens_total{_NOW}))", "{{kind}}"),
                Look(unit="si:tokens/s", width=8, empty="No model generates"),
            ),
            _quantiles(
                "ecolyzer_first_token_seconds",
                "Time to the first token",
                "From the begin of a generating request.",
                SECONDS,
                "No model generates",
                width=12,
            ),
            lines(
                "Prefill's part of the energy",
                "Part of the joules of generating requests that is prefill, by model: high for long prompts with "
                "short answers. ecolyzer_phase_energy_joules_total.",
                Query(
                    f'sum by (model) (rate(ecolyzer_phase_energy_joules_total{{phase="prefill", {MODELS}}}'
                    "[$__rate_interval])) / (sum by (model) "
                    f"(rate(ecolyzer_phase_energy_joules_total{_NOW})) > 0)",
                    "{{model}}",
                ),
                Look(unit=RATIO, maximum=1, empty="No model generates"),
            ),
        ),
    )


def _spans() -> Row:
    """The row "Traces (needs a Tempo data source)"."""
    return Row(
        "Traces (needs a Tempo data source)",
        (
            _traces(
                "Requests above $joules J",
                "Spans of requests that used more than the joules in the box above.",
                "span.ecolyzer.energy.joules > $joules",
            ),
            _traces(
                "Requests that were throttled or failed",
                "Spans of requests on a device that was slowed down, or whose call raised.",
                "(span.ecolyzer.thermal.throttled > 0 || (status = error && span.ecolyzer.energy.joules > 0))",
            ),
        ),
        collapsed=True,
    )


def requests() -> str:
    """The dashboard."""
    return make(
        "ecolyzer-requests",
        "Request drill-down",
        "How the energy of single requests spreads, what its phases are, and the way from a figure to its trace.",
        ("job", "service", "model"),
        (_distributions(), _components(), _phases(), _spans()),
        traces=True,
        extra_variables=(dashboard.TextBoxVariable("joules").label("Joules above").default_value("1"),),
    )
