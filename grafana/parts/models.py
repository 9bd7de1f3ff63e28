"""Dashboard "Models": impact of each model per request and per token, and use of the hardware."""

from __future__ import annotations

from parts import recording as r
from parts.boards import METERS, MODELS, Row, make
from parts.panels import (
    CO2E,
    GRAMS,
    JOULES,
    LITERS,
    NUMBER,
    RATIO,
    WATTS,
    Column,
    Look,
    Query,
    bars,
    lines,
    sheet,
)

_RANGE = f"{{{MODELS}}}[$__range]"
_KEY = "service, model, framework, device, dtype"
_FACTS = "job, instance, model, framework, dtype"
_REQUESTS = f"(sum by (service, model) (increase(ecolyzer_requests_total{_RANGE})) > 0)"
_TOKENS = f"(sum by (service, model) (increase(ecolyzer_tokens_total{_RANGE})) > 0)"

#: ESS is millions of effective parameters per gram (arXiv 2511.06694), so grams are parameters / 1e6 / ESS. The only
#: metrics with a dtype are ESS and facts of models, so grams of each precision are computed from them.
_ESS = f'max by (job, instance, {_KEY}) (ecolyzer_ess{{per="request", {MODELS}}})'
_GRAMS = (
    f'(max by ({_FACTS}) (ecolyzer_model_effective_parameters{{job=~"$job"}}) / 1e6) '
    f"/ on ({_FACTS}) group_right () {_ESS}"
)
_GRAMS_PER_JOULE = (
    f'max by ({r.METER}) (ecolyzer_grid_carbon_intensity_grams_per_kwh{{job=~"$job"}}) * on ({r.METER}) '
    f'max by ({r.METER}) (ecolyzer_pue_ratio{{job=~"$job"}}) / 3.6e6'
)


def _fact(name: str) -> str:
    """A fact of each model in the rows of the leaderboard."""
    return f'avg by ({_KEY}) (0 * {_ESS} + on ({_FACTS}) group_left () max by ({_FACTS}) ({name}{{job=~"$job"}}))'


def _each(stem: str, per: str, factor: str = "") -> str:
    return f"{factor}sum by (service, model) (increase({stem}_total{_RANGE})) / {per}"


_DEVICE = "instance, device, component"


def _device(name: str) -> str:
    return f"max by ({_DEVICE}) (avg_over_time({name}{{{METERS}}}[$__range]))"


def _ess() -> Row:
    """The row "ESS: effective parameters per gram of CO2e"."""
    return Row(
        "ESS: effective parameters per gram of CO2e",
        (
            sheet(
                "ESS leaderboard",
                "Environmental sustainability score of the last 5 minutes: effective parameters (parameters x "
                "quantization factor of the precision) in millions per gram of operational CO2e of a request "
                "(ML-EcoLyzer, arXiv 2511.06694). Higher is better. It grows with the size of a model and knows "
                "nothing of quality: compare models that do the same job. CO2e and energy are of one request. ecolyzer_ess, ecolyzer_model_parameters, "
                "ecolyzer_model_effective_parameters.",
                _KEY.split(", "),
                (
                    Column("ESS per request", f"avg by ({_KEY}) ({_ESS})", NUMBER),
                    Column(
                        "ESS per item",
                        f'avg by ({_KEY}) (ecolyzer_ess{{per="item", {MODELS}}})',
                        NUMBER,
                    ),
                    Column("Operational CO2e", f"avg by ({_KEY}) ({_GRAMS})", GRAMS),
                    Column(
                        "Energy",
                        f"avg by ({_KEY}) ({_GRAMS} / on ({r.METER}) group_left () ({_GRAMS_PER_JOULE}))",
                        JOULES,
                    ),
                    Column("Parameters", _fact("ecolyzer_model_parameters"), NUMBER),
                    Column("Effective", _fact("ecolyzer_model_effective_parameters"), NUMBER),
                ),
                Look(
                    width=24,
                    height=9,
                    empty="No model with known parameters answered in the last 5 minutes",
                ),
                sort="ESS per request",
                links={
                    "model": (
                        "Requests of this model",
                        "/d/ecolyzer-requests?${job:queryparam}&var-model=${__value.raw}&${__url_time_range}",
                    )
                },
            ),
            bars(
                "Precisions side by side: energy per request",
                "Joules of one request of each model and precision, from ESS: effective parameters / 1e6 / ESS "
                "gives grams, / (PUE x g/kWh / 3.6e6) joules. Lower is better; the same model in bf16 or int8 "
                "should be below its fp32. ecolyzer_ess, ecolyzer_model_effective_parameters.",
                Query(
                    "sort_desc(avg by (model, dtype) "
                    f"({_GRAMS} / on ({r.METER}) group_left () ({_GRAMS_PER_JOULE})))",
                    "{{model}} {{dtype}}",
                ),
                Look(unit=JOULES, height=9, empty="No model with known parameters"),
            ),
            lines(
                "ESS over time",
                "ESS per request, by model and precision; the scale is logarithmic. It falls when joules per "
                "request rise, and when the grid gets dirtier. ecolyzer_ess.",
                Query(
                    f'avg by (model, dtype) (ecolyzer_ess{{per="request", {MODELS}}})',
                    "{{model}} {{dtype}}",
                ),
                Look(unit=NUMBER, logarithmic=True, height=9, empty="No model with known parameters"),
            ),
        ),
    )


def _intensities() -> Row:
    """The row "What an answer costs"."""
    return Row(
        "What an answer costs",
        (
            sheet(
                "Per request",
                "Means of the time range for each model. ecolyzer_energy_joules_total, ecolyzer_co2e_grams_total, "
                "ecolyzer_water_liters_total, ecolyzer_items_total over ecolyzer_requests_total.",
                ("service", "model"),
                (
                    Column("Energy", _each("ecolyzer_energy_joules", _REQUESTS), JOULES),
                    Column("CO2e", _each("ecolyzer_co2e_grams", _REQUESTS), GRAMS),
                    Column("Water", _each("ecolyzer_water_liters", _REQUESTS), LITERS),
                    Column("Items", _each("ecolyzer_items", _REQUESTS), NUMBER, decimals=1),
                    Column(
                        "Requests",
                        f"sum by (service, model) (increase(ecolyzer_requests_total{_RANGE}))",
                        NUMBER,
                    ),
                ),
                Look(height=8, empty="No requests in this time"),
                sort="Energy",
            ),
            sheet(
                "Per million tokens",
                "Means of the time range for models that generate, input and output tokens together. "
                "ecolyzer_tokens_total.",
                ("service", "model"),
                (
                    Column("Energy", _each("ecolyzer_energy_joules", f"({_TOKENS} / 1e6)"), JOULES),
                    Column("CO2e", _each("ecolyzer_co2e_grams", f"({_TOKENS} / 1e6)"), GRAMS),
                    Column("Water", _each("ecolyzer_water_liters", f"({_TOKENS} / 1e6)"), LITERS),
                    Column(
                        "Tokens",
                        f"sum by (service, model) (increase(ecolyzer_tokens_total{_RANGE}))",
                        NUMBER,
                    ),
                ),
                Look(height=8, empty="No model generated tokens in this time"),
                sort="Energy",
            ),
            lines(
                "Energy per request, against the week before",
                "Joules of one request over the last hour, as part of the mean of the 7 days that ended a day ago. "
                "Above 150 % EcolyzerEnergyPerRequestRegression fires. Grid and factors play no part. Empty in the "
                f"first days, while there is no baseline. {r.JOULES_1H} / {r.JOULES_7D}.",
                Query(
                    f"{r.JOULES_1H}{{{MODELS}}} / {r.JOULES_7D}{{{MODELS}}}",
                    "{{service}} {{model}}",
                ),
                Look(unit=RATIO, levels=(1.5,), height=8, empty="No baseline yet: it needs 2 days of data"),
            ),
            *(
                bars(
                    f"SCI per {name}",
                    f"Software carbon intensity (ISO/IEC 21031): operational and embodied grams per {name} over the "
                    "last 5 minutes. Absent while embodied is not configured. ecolyzer_sci_grams.",
                    Query(f'sort_desc(avg by ({by}) (ecolyzer_sci_grams{{per=~"{per}", {MODELS}}}))', legend),
                    Look(
                        unit=CO2E,
                        width=6,
                        height=8,
                        empty="Embodied emissions are not configured (--embodied)",
                    ),
                )
                for name, per, by, legend in (
                    ("request", "request", "model", "{{model}}"),
                    (
                        "million tokens",
                        "million_tokens|million_output_tokens",
                        "model, per",
                        "{{model}} {{per}}",
                    ),
                )
            ),
        ),
    )


def _right_sizing() -> Row:
    """The row "Does the hardware fit the job?"."""
    return Row(
        "Does the hardware fit the job?",
        (
            sheet(
                "Right-sizing: devices",
                "Little use and much idle energy together mean a device that is too large for its job: it is "
                "red. Busy: ecolyzer_device_utilization_ratio. Idle: part of its energy that it draws for being on "
                '(share="idle" of ecolyzer_device_energy_joules_total). Ways out: more requests at once, several '
                "models on one device, a MIG partition, a smaller device.",
                _DEVICE.split(", "),
                (
                    Column("Busy", _device("ecolyzer_device_utilization_ratio"), RATIO, gauge=True, decimals=0),
                    Column(
                        "Idle part of energy",
                        f"sum by ({_DEVICE}) (increase(ecolyzer_device_energy_joules_total"
                        f'{{share="idle", {METERS}}}[$__range])) / (sum by ({_DEVICE}) '
                        f"(increase(ecolyzer_device_energy_joules_total{{{METERS}}}[$__range])) > 0)",
                        RATIO,
                        gauge=True,
                        levels=(0.5, 0.7),
                        decimals=0,
                    ),
                    Column("Power", _device("ecolyzer_device_power_watts"), WATTS),
                    Column("Idle power", _device("ecolyzer_device_idle_watts"), WATTS),
                    Column("Power limit", _device("ecolyzer_device_power_limit_watts"), WATTS),
                ),
                Look(height=8, width=24, empty="No device"),
                sort="Idle part of energy",
            ),
            bars(
                "Right-sizing: idle part of a model's energy",
                "Part of a model's joules that is idle power while its requests were in flight. Much of it means "
                "that requests wait beside a device that draws power for nothing: batch them, or share it. "
                'share="idle" of ecolyzer_energy_joules_total.',
                Query(
                    "sort_desc(sum by (model, device) (increase(ecolyzer_energy_joules_total"
                    f'{{share="idle", {MODELS}}}[$__range])) / '
                    f"(sum by (model, device) (increase(ecolyzer_energy_joules_total{_RANGE})) > 0))",
                    "{{model}} on {{device}}",
                ),
                Look(unit=RATIO, levels=(0.5, 0.8), width=8, maximum=1, decimals=0, empty="No requests"),
            ),
            lines(
                "Requests in a joule",
                "Requests per second for each watt that they are charged, by model: higher is better, and it rises "
                "with batching. ecolyzer_requests_total / ecolyzer_energy_joules_total.",
                Query(
                    f"sum by (model) (rate(ecolyzer_requests_total{{{MODELS}}}[$__rate_interval])) / "
                    f"(sum by (model) (rate(ecolyzer_energy_joules_total{{{MODELS}}}[$__rate_interval])) > 0)",
                    "{{model}}",
                ),
                Look(unit="si:req/J", logarithmic=True, width=8, empty="No requests"),
            ),
            lines(
                "Items per second",
                "Batch elements (rows, images, texts) per second, by model: ecolyzer_items_total.",
                Query(
                    f"sum by (model) (rate(ecolyzer_items_total{{{MODELS}}}[$__rate_interval]))",
                    "{{model}}",
                ),
                Look(unit="si:items/s", width=8, empty="No requests"),
            ),
        ),
    )


def models() -> str:
    """The dashboard."""
    return make(
        "ecolyzer-models",
        "Models",
        "Which model is worth its carbon: ESS, joules, grams and millilitres per request and per million tokens, "
        "precisions side by side, and whether the hardware fits the job.",
        ("job", "instance", "service", "model"),
        (_ess(), _intensities(), _right_sizing()),
    )
