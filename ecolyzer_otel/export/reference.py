"""Writes ``docs/metrics.md`` from the declarations: ``python -m ecolyzer_otel.export.reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from ecolyzer_otel.common.attributes import Attr
from ecolyzer_otel.common.metrics import EXEMPLAR_METRICS, METRICS, MetricSpec

__all__ = ["markdown"]

_HEAD: Final = """\
# Metrics and span attributes

<!-- Generated from ecolyzer_otel/common: python -m ecolyzer_otel.export.reference > docs/metrics.md -->

Every name that the meter puts on the wire. `/metrics` serves them as OpenMetrics or Prometheus text; OTLP and
`start(meter_provider=...)` carry the same names without `_total`, which Prometheus adds to counters.

## How the numbers relate

- Per device, the four shares of `ecolyzer_device_energy_joules_total` (`requests`, `process`, `host`, `idle`) plus
  `ecolyzer_device_energy_pending_joules` equal the measured joules, `ecolyzer_device_measured_joules_total`.
- `ecolyzer_energy_joules_total{share="active"}` over all requests is
  `ecolyzer_device_energy_joules_total{share="requests"}`; its `share="idle"` is a part of the device's
  `share="idle"`.
- Requests served = `ecolyzer_requests_total` + `ecolyzer_unsettled_requests_total` +
  `ecolyzer_dropped_requests_total` + `ecolyzer_pending_requests`.
- `ecolyzer_requests_total` grows at settlement, together with the energy: joules per request is the quotient of
  their rates.
- `ecolyzer_co2e_grams_total` has the operational grams by the average intensity (location-based) and, where
  configured, embodied grams. `ecolyzer_market_co2e_grams_total` and `ecolyzer_marginal_co2e_grams_total` answer
  other questions about the same joules: do not add them to it.
- `ecolyzer_device_embodied_grams_total` minus `ecolyzer_co2e_grams_total{scope="embodied"}` belongs to times with
  no request in flight.
- A gauge without a value is absent; it is never 0 because a reading is missing.
- Beyond `ECOLYZER_MAX_LABEL_SETS` label sets of one metric, `model` and `route` become `__other__`, then every
  label; `ecolyzer_label_overflow_total` counts them.
"""

_ATTRIBUTES: Final = {
    Attr.FRAMEWORK: "Instrumented framework: torch, transformers, onnxruntime, sklearn …",
    Attr.OPERATION: "Operation of the call: forward, generate, run, predict …",
    Attr.DEVICE: "Device that the model runs on.",
    Attr.BATCH_SIZE: "Items in the call.",
    Attr.BATCH_JOULES: "On the span of a call that served several requests (`ecolyzer_otel.batch`): the joules "
    "divided among them. The call is not a request and has no `ecolyzer.energy.*`.",
    Attr.WARMUP: "True when the call compiled something.",
    Attr.MODEL_NAME: "Name of the model.",
    Attr.MODEL_PARAMETERS: "Parameters of the model.",
    Attr.MODEL_EFFECTIVE_PARAMETERS: "Parameters times the quantization factor.",
    Attr.MODEL_DTYPE: "Data type of the weights.",
    Attr.MODEL_QUANTIZATION_FACTOR: "Quantization factor of the dtype, from the configured preset.",
    Attr.ENERGY_JOULES: "Energy of the request in joules, active and idle.",
    Attr.ENERGY_ACTIVE_JOULES: "Joules caused by the work of the request.",
    Attr.ENERGY_IDLE_JOULES: "An equal part of the idle power while the request was in flight, in joules.",
    Attr.ENERGY_CPU_JOULES: "Joules of the CPU packages, active and idle.",
    Attr.ENERGY_GPU_JOULES: "Joules of the GPUs, active and idle.",
    Attr.ENERGY_DRAM_JOULES: "Joules of the memory, active and idle.",
    Attr.ENERGY_UNCERTAINTY_JOULES: "One standard uncertainty of the active joules.",
    Attr.ENERGY_METHOD: "measured, modelled, mixed or unsettled.",
    Attr.ENERGY_BASIS: "Basis of the division of active joules: learned watts, or activity alone.",
    Attr.ENERGY_CPU_METHOD: "Method of the CPU joules: `measured`, `modelled` or `mixed`.",
    Attr.ENERGY_GPU_METHOD: "Method of the GPU joules: `measured`, `modelled` or `mixed`.",
    Attr.ENERGY_GPU_ACTIVITY: "Basis of the request's part of the GPU: `kernels` (timed by device events) or "
    "`overlap` (the time in flight).",
    Attr.ENERGY_PREFILL_JOULES: "Joules up to the first output token, active and idle. Other phases have an "
    "attribute of the same form: `ecolyzer.energy.<phase>_joules`.",
    Attr.ENERGY_DECODE_JOULES: "Joules from the first output token on, active and idle.",
    Attr.ENERGY_OUTPUT_TOKEN_JOULES: "Joules of the request divided by its output tokens.",
    Attr.FIRST_TOKEN_SECONDS: "Seconds from the start to the first output token.",
    Attr.CO2E_GRAMS: "Grams of CO2e, operational and embodied.",
    Attr.CO2E_OPERATIONAL_GRAMS: "Grams of CO2e of the electricity.",
    Attr.CO2E_EMBODIED_GRAMS: "Embodied grams of CO2e of the hardware, for the time used.",
    Attr.CO2E_UNCERTAINTY_GRAMS: "One standard uncertainty of `ecolyzer.co2e.grams`: of the joules, of the grid's "
    "intensity and of embodied emissions together.",
    Attr.CO2E_MARKET_GRAMS: "Operational grams by the contractual factor (market-based), a second figure; absent "
    "where none is configured.",
    Attr.CO2E_MARGINAL_GRAMS: "Operational grams by the marginal intensity of the grid, a separate figure; "
    "absent without a source of it.",
    Attr.SCI_REQUEST_GRAMS: "SCI per request: operational and embodied grams; absent while embodied emissions are "
    "not configured.",
    Attr.SCI_MILLION_TOKENS_GRAMS: "SCI per million tokens, input and output.",
    Attr.WATER_LITERS: "Litres of water, on and off site.",
    Attr.WATER_ONSITE_LITERS: "Litres for cooling.",
    Attr.WATER_OFFSITE_LITERS: "Litres for generating the electricity.",
    Attr.WATER_LOW_LITERS: "Lower end of the range of the litres (95 %).",
    Attr.WATER_HIGH_LITERS: "Upper end of that range.",
    Attr.WATER_METHOD: "Method of the grid's water factor: published, derived, fallback (of a larger area) or "
    "configured.",
    Attr.WATER_SOURCE: "Source of the grid's water factor.",
    Attr.THERMAL_CELSIUS: "Mean temperature of the device over the request.",
    Attr.THERMAL_MAX_CELSIUS: "Highest temperature of the device during the request.",
    Attr.THERMAL_THROTTLED: "Fraction of the request's time, 0 to 1, during which a device that it used was "
    "throttled.",
    Attr.THERMAL_REASONS: "Reasons of the throttling.",
    Attr.THERMAL_DEVICES: "Devices with a temperature, on a request that used several.",
    Attr.THERMAL_DEVICE_CELSIUS: "Mean temperature of each of these devices.",
    Attr.THERMAL_DEVICE_MAX_CELSIUS: "Highest temperature of each of these devices.",
    Attr.ESS: "Effective parameters in millions per operational gram of CO2e; absent at 0 g.",
    Attr.ITEM_ESS: "The same per item of the batch.",
    Attr.GRID_ZONE: "Grid zone that the carbon figures are for.",
    Attr.GRID_GRAMS_PER_KWH: "Carbon intensity used, in grams of CO2e per kWh: the mean over the request's joules "
    "where it changed during the request.",
    Attr.GRID_BASIS: "What the intensity counts: lifecycle, direct …",
    Attr.GRID_SOURCE: "Source of the intensity.",
    Attr.GRID_YEAR: "Year of the intensity.",
    Attr.GRID_TIME: "Time that a live intensity is valid for (UTC).",
    Attr.GRID_ESTIMATED: "Whether the intensity was estimated or derived rather than published or measured.",
    Attr.GRID_DEFAULTED: "True where no place was configured or found, and the world's average is used.",
    Attr.PUE: "Power usage effectiveness used.",
    Attr.WUE: "Water usage effectiveness used, in litres per kWh of IT energy.",
    Attr.GEN_AI_OPERATION: "`text_completion`, on a request that generates.",
    Attr.GEN_AI_PROVIDER: "The framework that generates.",
    Attr.GEN_AI_MODEL: "The same as `ecolyzer.model.name`, on a request that generates.",
    Attr.GEN_AI_MAX_TOKENS: "Maximum of new tokens, as requested.",
    Attr.GEN_AI_TEMPERATURE: "Temperature of sampling.",
    Attr.GEN_AI_TOP_P: "Top-p of sampling.",
    Attr.GEN_AI_TOP_K: "Top-k of sampling.",
    Attr.GEN_AI_CHOICES: "Sequences per prompt, where more than one was requested.",
    Attr.GEN_AI_FINISH_REASONS: "Why each sequence ended: `stop` (an end token, a stopping criterion) or `length`.",
    Attr.INPUT_TOKENS: "Tokens of the prompt, without padding.",
    Attr.OUTPUT_TOKENS: "Tokens generated, without padding.",
    Attr.ERROR_TYPE: "Class of the call's exception.",
    Attr.HTTP_ROUTE: "Route of the enclosing server span, where available.",
}


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _metric_row(spec: MetricSpec) -> str:
    labels = ", ".join(f"`{label}`" for label in spec.labels) or "–"
    kind = f"{spec.type}, exemplars" if spec in EXEMPLAR_METRICS else spec.type
    return _row((f"`{spec.prometheus_name}`", kind, f"`{spec.otel_unit}`", labels, spec.help))


def markdown() -> str:
    """Returns the page."""
    names = [value for name, value in vars(Attr).items() if not name.startswith("_")]
    parts = [_HEAD, "\n## Metrics\n\nUnits in braces are annotations, as OpenTelemetry instruments carry them.\n\n"]
    parts += [_row(("name", "type", "unit", "labels", "meaning")), "|---|---|---|---|---|\n"]
    parts += map(_metric_row, METRICS)
    parts += [
        "\n## Buckets\n\nUpper bounds, `+Inf` after the last.\n\n",
        _row(("histogram", "bounds")),
        "|---|---|\n",
    ]
    parts += [
        _row((f"`{spec.stem}`", " ".join(f"{bound:g}" for bound in spec.buckets)))
        for spec in METRICS
        if spec.buckets
    ]
    parts += ["\n## Span attributes\n\nOn the span of each request, named `{operation} {model}`.\n\n"]
    parts += [_row(("attribute", "meaning")), "|---|---|\n"]
    parts += [_row((f"`{name}`", _ATTRIBUTES[name])) for name in names]
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(markdown())
