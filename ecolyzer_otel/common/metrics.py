"""Every metric, declared once: name, type, help, labels, units and buckets.

No other module spells such a name. ``docs/metrics.md`` is generated from this file and from
:mod:`ecolyzer_otel.common.attributes` (``python -m ecolyzer_otel.export.reference``). The file is long because it
is one table, which is easier to read and to search in one piece.

Units: joules, grams, litres, seconds, watts, degrees Celsius. kWh appears only in grid factors, which the
field quotes so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ecolyzer_otel.common.buckets import decades

__all__ = ["EXEMPLAR_METRICS", "METRICS", "REQUEST_LABELS", "Metric", "MetricSpec"]

MetricType = Literal["counter", "gauge", "histogram"]

#: The labels that identify the service, the model and the call of a request.
REQUEST_LABELS: Final = ("service", "model", "framework", "operation", "device", "route")
_HISTOGRAM_LABELS: Final = ("service", "model", "framework", "operation", "device")
_DEVICE: Final = ("device", "component")
_PLACE: Final = ("zone", "source")


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric family.

    ``stem`` is the Prometheus family name without ``_total``. ``otel_unit`` is the unit given to OpenTelemetry
    instruments: a UCUM unit only where the translation to Prometheus then yields the stem, else an annotation in
    braces, which the translation drops. ``unit`` is the OpenMetrics unit, which must end the stem.
    """

    stem: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    otel_unit: str = ""
    unit: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name in Prometheus: the stem, with ``_total`` for counters."""
        return f"{self.stem}_total" if self.type == "counter" else self.stem


class Metric:
    """Every metric of the contract, by its short name."""

    REQUESTS: Final = MetricSpec(
        "ecolyzer_requests",
        "counter",
        "Inference requests settled: outermost calls of an instrumented framework, with their energy.",
        (*REQUEST_LABELS, "status"),
        "{request}",
    )
    REQUEST_ENERGY: Final = MetricSpec(
        "ecolyzer_request_energy_joules",
        "histogram",
        "Energy of one request in joules: active and idle, all components.",
        _HISTOGRAM_LABELS,
        "J",
        "joules",
        decades(-4, 3),
    )
    REQUEST_CO2E: Final = MetricSpec(
        "ecolyzer_request_co2e_grams",
        "histogram",
        "Greenhouse gas emissions of one request in grams of CO2 equivalent.",
        _HISTOGRAM_LABELS,
        "g",
        "grams",
        decades(-8, 0),
    )
    REQUEST_DURATION: Final = MetricSpec(
        "ecolyzer_request_duration_seconds",
        "histogram",
        "Wall time of one request in seconds.",
        _HISTOGRAM_LABELS,
        "s",
        "seconds",
        decades(-4, 1),
    )
    FIRST_TOKEN: Final = MetricSpec(
        "ecolyzer_first_token_seconds",
        "histogram",
        "Time from the start of a generating request to its first output token in seconds.",
        _HISTOGRAM_LABELS,
        "s",
        "seconds",
        decades(-3, 1),
    )
    ENERGY: Final = MetricSpec(
        "ecolyzer_energy_joules",
        "counter",
        "Energy charged to requests in joules; share is active (caused by the work) or idle (an equal part of "
        "the idle power while the request was in flight).",
        (*REQUEST_LABELS, "component", "share"),
        "J",
        "joules",
    )
    CO2E: Final = MetricSpec(
        "ecolyzer_co2e_grams",
        "counter",
        "Greenhouse gas emissions charged to requests in grams of CO2 equivalent, by scope.",
        (*REQUEST_LABELS, "scope"),
        "g",
        "grams",
    )
    WATER: Final = MetricSpec(
        "ecolyzer_water_liters",
        "counter",
        "Water consumed for requests in litres; onsite is cooling (WUE), offsite is electricity generation.",
        (*REQUEST_LABELS, "scope"),
        "{liter}",
        "liters",
    )
    MARKET_CO2E: Final = MetricSpec(
        "ecolyzer_market_co2e_grams",
        "counter",
        "Operational emissions charged to requests in grams of CO2e, market-based: by the configured contractual "
        "factor. A second figure beside ecolyzer_co2e_grams_total, which is location-based.",
        REQUEST_LABELS,
        "g",
        "grams",
    )
    MARGINAL_CO2E: Final = MetricSpec(
        "ecolyzer_marginal_co2e_grams",
        "counter",
        "Operational emissions charged to requests in grams of CO2e by the marginal intensity of the grid: the "
        "emissions avoided by using this much less electricity. Do not add to or compare with average figures.",
        REQUEST_LABELS,
        "g",
        "grams",
    )
    ENERGY_UNCERTAINTY: Final = MetricSpec(
        "ecolyzer_energy_uncertainty_joules",
        "counter",
        "Sum of the standard uncertainties of requests in joules; the uncertainty of their sum is at most this.",
        REQUEST_LABELS,
        "J",
        "joules",
    )
    TOKENS: Final = MetricSpec(
        "ecolyzer_tokens",
        "counter",
        "Tokens of generating requests: input (prompt, without padding) and output.",
        (*REQUEST_LABELS, "kind"),
        "{token}",
    )
    ITEMS: Final = MetricSpec(
        "ecolyzer_items",
        "counter",
        "Items (batch elements) processed by requests.",
        (*REQUEST_LABELS, "kind"),
        "{item}",
    )
    PHASE_ENERGY: Final = MetricSpec(
        "ecolyzer_phase_energy_joules",
        "counter",
        "Energy of the phases of requests in joules, active and idle; part of ecolyzer_energy_joules_total. "
        "Generation has prefill (to the first output token) and decode.",
        (*REQUEST_LABELS, "phase"),
        "J",
        "joules",
    )
    ESS: Final = MetricSpec(
        "ecolyzer_ess",
        "gauge",
        "Environmental sustainability score: effective parameters in millions per gram of operational CO2e, "
        "over the trailing 5 minutes (ML-EcoLyzer, arXiv 2511.06694).",
        ("service", "model", "framework", "device", "dtype", "per"),
        "{ess}",
    )
    SCI: Final = MetricSpec(
        "ecolyzer_sci_grams",
        "gauge",
        "Software carbon intensity (ISO/IEC 21031) in grams of CO2e, operational and embodied, per functional unit "
        "over the trailing 5 minutes: request, item, million_tokens (input and output) or million_output_tokens. "
        "Absent while embodied emissions are not configured.",
        ("service", "model", "framework", "device", "per"),
        "g",
        "grams",
    )
    MODEL_PARAMETERS: Final = MetricSpec(
        "ecolyzer_model_parameters",
        "gauge",
        "Parameters of the model.",
        ("model", "framework", "dtype"),
        "{parameter}",
    )
    MODEL_EFFECTIVE_PARAMETERS: Final = MetricSpec(
        "ecolyzer_model_effective_parameters",
        "gauge",
        "Parameters of the model times the quantization factor of its dtype.",
        ("model", "framework", "dtype"),
        "{parameter}",
    )
    DEVICE_ENERGY: Final = MetricSpec(
        "ecolyzer_device_energy_joules",
        "counter",
        "Energy of a device in joules by share: requests, process, host, idle. The four shares and the pending "
        "joules add up to the joules that the sensor measured.",
        ("device", "component", "method", "share"),
        "J",
        "joules",
    )
    DEVICE_MEASURED: Final = MetricSpec(
        "ecolyzer_device_measured_joules",
        "counter",
        "Joules that the device's sensor reported, before their division, with joules modelled for times without "
        "a report. The four shares and the pending joules must add up to them.",
        _DEVICE,
        "J",
        "joules",
    )
    DEVICE_ENERGY_PENDING: Final = MetricSpec(
        "ecolyzer_device_energy_pending_joules",
        "gauge",
        "Joules of closed intervals that belong to requests not yet settled.",
        _DEVICE,
        "J",
        "joules",
    )
    DEVICE_POWER: Final = MetricSpec(
        "ecolyzer_device_power_watts",
        "gauge",
        "Mean power of the device over its last interval in watts.",
        _DEVICE,
        "W",
        "watts",
    )
    DEVICE_IDLE_POWER: Final = MetricSpec(
        "ecolyzer_device_idle_watts",
        "gauge",
        "Idle power of the device in watts, given by the sensor or learned; 0 until one is available.",
        _DEVICE,
        "W",
        "watts",
    )
    DEVICE_LEARNED: Final = MetricSpec(
        "ecolyzer_device_learned",
        "gauge",
        "1 while joules are divided by the learned watts of each model, 0 while by activity alone: at first, and "
        "where learned watts do not explain the device better.",
        _DEVICE,
        "{bool}",
    )
    DEVICE_CEILING: Final = MetricSpec(
        "ecolyzer_device_ceiling_watts",
        "gauge",
        "Power in watts, idle included, that the device does not exceed under any observed load; absent until one "
        "is found.",
        _DEVICE,
        "W",
        "watts",
    )
    DEVICE_POWER_LIMIT: Final = MetricSpec(
        "ecolyzer_device_power_limit_watts",
        "gauge",
        "Power limit of the device in watts.",
        _DEVICE,
        "W",
        "watts",
    )
    DEVICE_TEMPERATURE: Final = MetricSpec(
        "ecolyzer_device_temperature_celsius",
        "gauge",
        "Temperature of the device in degrees Celsius.",
        _DEVICE,
        "Cel",
        "celsius",
    )
    DEVICE_TEMPERATURE_LIMIT: Final = MetricSpec(
        "ecolyzer_device_temperature_limit_celsius",
        "gauge",
        "Temperature at which the device protects itself, in degrees Celsius.",
        _DEVICE,
        "Cel",
        "celsius",
    )
    DEVICE_UTILIZATION: Final = MetricSpec(
        "ecolyzer_device_utilization_ratio",
        "gauge",
        "Busy fraction of the device over its last interval, 0 to 1.",
        _DEVICE,
        "{ratio}",
        "ratio",
    )
    DEVICE_THROTTLED: Final = MetricSpec(
        "ecolyzer_device_throttled_seconds",
        "counter",
        "Seconds during which the device was throttled.",
        ("device", "reason"),
        "s",
        "seconds",
    )
    SENSOR_UP: Final = MetricSpec(
        "ecolyzer_sensor_up",
        "gauge",
        "1 while the sensor delivers readings, else 0.",
        ("sensor", "method"),
        "{sensor}",
    )
    SENSOR_LAST_SAMPLE: Final = MetricSpec(
        "ecolyzer_sensor_last_sample_timestamp_seconds",
        "gauge",
        "Unix time of the sensor's last reading in seconds.",
        ("sensor", "method"),
        "s",
        "seconds",
    )
    SENSOR_ERRORS: Final = MetricSpec(
        "ecolyzer_sensor_errors",
        "counter",
        "Readings of the sensor that failed or were implausible, by reason.",
        ("sensor", "reason"),
        "{error}",
    )
    SETTLEMENT_LAG: Final = MetricSpec(
        "ecolyzer_settlement_lag_seconds",
        "histogram",
        "Time from the end of a request to its settlement in seconds.",
        (),
        "s",
        "seconds",
        (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    )
    PENDING_REQUESTS: Final = MetricSpec(
        "ecolyzer_pending_requests",
        "gauge",
        "Requests that have ended and are not yet settled.",
        ("service",),
        "{request}",
    )
    UNSETTLED_REQUESTS: Final = MetricSpec(
        "ecolyzer_unsettled_requests",
        "counter",
        "Requests that ended without an energy figure, by reason.",
        ("service", "reason"),
        "{request}",
    )
    DROPPED_REQUESTS: Final = MetricSpec(
        "ecolyzer_dropped_requests",
        "counter",
        "Requests whose record was lost before it reached the meter, by reason.",
        ("service", "reason"),
        "{request}",
    )
    WORKERS: Final = MetricSpec(
        "ecolyzer_workers",
        "gauge",
        "Processes that report to the meter, by service and container (short id; empty outside one).",
        ("service", "container"),
        "{worker}",
    )
    HOST_METERS: Final = MetricSpec(
        "ecolyzer_host_meters",
        "gauge",
        "Meters on this host, including this one; above 1, one agent for all services measures better.",
        (),
        "{meter}",
    )
    GRID_CARBON_INTENSITY: Final = MetricSpec(
        "ecolyzer_grid_carbon_intensity_grams_per_kwh",
        "gauge",
        "Carbon intensity of the grid in grams of CO2e per kWh.",
        _PLACE,
        "{gram_per_kwh}",
    )
    GRID_WATER_INTENSITY: Final = MetricSpec(
        "ecolyzer_grid_water_intensity_liters_per_kwh",
        "gauge",
        "Water consumed to generate electricity in litres per kWh (EWIF).",
        _PLACE,
        "{liter_per_kwh}",
    )
    GRID_DATA_TIMESTAMP: Final = MetricSpec(
        "ecolyzer_grid_data_timestamp_seconds",
        "gauge",
        "Unix time that the grid carbon intensity is valid for (for a year of a table, its last second).",
        _PLACE,
        "s",
        "seconds",
    )
    GRID_CARBON_UNCERTAINTY: Final = MetricSpec(
        "ecolyzer_grid_carbon_uncertainty_ratio",
        "gauge",
        "Relative standard uncertainty of the grid's carbon intensity (docs/methodology.md).",
        _PLACE,
        "{ratio}",
        "ratio",
    )
    GRID_WATER_LOW: Final = MetricSpec(
        "ecolyzer_grid_water_intensity_low_liters_per_kwh",
        "gauge",
        "Lower end of the range of the grid's water intensity in litres per kWh.",
        _PLACE,
        "{liter_per_kwh}",
    )
    GRID_WATER_HIGH: Final = MetricSpec(
        "ecolyzer_grid_water_intensity_high_liters_per_kwh",
        "gauge",
        "Upper end of the range of the grid's water intensity in litres per kWh.",
        _PLACE,
        "{liter_per_kwh}",
    )
    GRID_MARGINAL_INTENSITY: Final = MetricSpec(
        "ecolyzer_grid_marginal_intensity_grams_per_kwh",
        "gauge",
        "Marginal carbon intensity of the grid in grams of CO2e per kWh; do not mix with the average intensity.",
        _PLACE,
        "{gram_per_kwh}",
    )
    GRID_MARKET_FACTOR: Final = MetricSpec(
        "ecolyzer_market_factor_grams_per_kwh",
        "gauge",
        "Contractual emission factor of the electricity in grams of CO2e per kWh, as configured.",
        _PLACE,
        "{gram_per_kwh}",
    )
    GRID_FACTOR: Final = MetricSpec(
        "ecolyzer_factor_info",
        "gauge",
        "1 for each factor in use: its kind (carbon, water, pue, wue, marginal, market, embodied_server, "
        "embodied_gpu), zone or part, value with its unit, basis, source in full, and year or time.",
        ("kind", "zone", "value", "unit", "basis", "source", "year"),
        "{factor}",
    )
    GRID_FETCHES: Final = MetricSpec(
        "ecolyzer_grid_fetches",
        "counter",
        "Requests to a live source of grid figures by outcome: ok, or the reason why there was no figure.",
        ("source", "outcome"),
        "{request}",
    )
    EMBODIED_RATE: Final = MetricSpec(
        "ecolyzer_embodied_grams_per_second",
        "gauge",
        "Embodied emissions of the device spread over its lifetime, in grams of CO2e per second.",
        _DEVICE,
        "{gram_per_second}",
    )
    EMBODIED: Final = MetricSpec(
        "ecolyzer_device_embodied_grams",
        "counter",
        "Embodied emissions of a device in grams of CO2e for the time that the meter ran. The part charged to "
        'requests is ecolyzer_co2e_grams_total{scope="embodied"}; no request was in flight during the rest.',
        _DEVICE,
        "g",
        "grams",
    )
    SENSOR_UNCERTAINTY: Final = MetricSpec(
        "ecolyzer_sensor_uncertainty_ratio",
        "gauge",
        "Relative standard uncertainty of the sensor's joules.",
        ("sensor", "method"),
        "{ratio}",
        "ratio",
    )
    PUE: Final = MetricSpec(
        "ecolyzer_pue_ratio",
        "gauge",
        "Power usage effectiveness of the site.",
        _PLACE,
        "{ratio}",
        "ratio",
    )
    WUE: Final = MetricSpec(
        "ecolyzer_wue_liters_per_kwh",
        "gauge",
        "Water usage effectiveness of the site in litres per IT kWh.",
        _PLACE,
        "{liter_per_kwh}",
    )
    BUDGET_PER_REQUEST: Final = MetricSpec(
        "ecolyzer_carbon_budget_grams_per_request",
        "gauge",
        "Carbon budget per request in grams of CO2e, as configured (carbon_budget_per_request).",
        ("model",),
        "{gram_per_request}",
    )
    BUDGET_PER_MONTH: Final = MetricSpec(
        "ecolyzer_carbon_budget_grams_per_month",
        "gauge",
        "Carbon budget of 30 days in grams of CO2e for all requests of this meter, as configured "
        "(carbon_budget_per_month).",
        (),
        "{gram_per_month}",
    )
    LABEL_OVERFLOW: Final = MetricSpec(
        "ecolyzer_label_overflow",
        "counter",
        "Label sets that were counted under __other__ because their metric was at its limit.",
        (),
        "{label_set}",
    )
    METER_CPU: Final = MetricSpec(
        "ecolyzer_meter_cpu_seconds",
        "counter",
        "CPU time of the meter in seconds.",
        (),
        "s",
        "seconds",
    )
    BUILD_INFO: Final = MetricSpec(
        "ecolyzer_build_info",
        "gauge",
        "1, with the version of the meter as a label.",
        ("version",),
        "{build}",
    )


#: In the order of the exposition.
METRICS: Final[tuple[MetricSpec, ...]] = tuple(
    value for value in vars(Metric).values() if isinstance(value, MetricSpec)
)
EXEMPLAR_METRICS: Final = (Metric.REQUEST_ENERGY, Metric.REQUEST_CO2E, Metric.REQUEST_DURATION)
