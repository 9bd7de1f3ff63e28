"""Data quality: what the figures rest on, and what the meter itself costs."""

from __future__ import annotations

from parts import recording as r
from parts.boards import METERS, make, rows
from parts.panels import (
    JOULES,
    NUMBER,
    RATIO,
    SECONDS,
    Column,
    Look,
    Query,
    lines,
    number,
    sheet,
    states,
)

_RANGE = f"{{{METERS}}}[$__range]"
_NOW = f"{{{METERS}}}[$__rate_interval]"
_SERVICES = 'job=~"$job", service=~"$service"'
_PLACE = "{{instance}} {{zone}} ({{source}})"
#: Other targets are scraped, too.
_OF_METERS = "on (job, instance) ecolyzer_build_info"
_DEVICE_ENERGY = "ecolyzer_device_energy_joules_total"


def _lag(quantile: float) -> str:
    return f"histogram_quantile({quantile}, sum by (le) (rate(ecolyzer_settlement_lag_seconds_bucket{_NOW})))"


def _place(name: str) -> str:
    return f"max by (instance, zone, source) ({name}{{{METERS}}})"


def quality() -> str:
    """The dashboard."""
    small = {"width": 4, "height": 5}
    shares = f"sum by (job, instance, device) (ecolyzer_device_energy_joules_total{{{METERS}}})"
    pending = f"sum by (job, instance, device) (ecolyzer_device_energy_pending_joules{{{METERS}}})"
    measured = f"sum by (job, instance, device) (ecolyzer_device_measured_joules_total{{{METERS}}})"
    return make(
        "ecolyzer-quality",
        "Data quality",
        "How far the figures can be trusted: measured or modelled, settled or lost, sensors, factors and their age, and "
        "what the meter itself costs.",
        ("job", "instance", "service"),
        (
            rows(
                "At a glance",
                (
                    number(
                        "Measured",
                        "Part of the joules of the time range that hardware counters told; the rest is modelled from "
                        "utilisation and tables: good for telling a heavy request from a light one, not for comparing "
                        f"machines. {_DEVICE_ENERGY} by method.",
                        Query(
                            f'(sum(increase({_DEVICE_ENERGY}{{method="measured", {METERS}}}[$__range])) or vector(0)) / '
                            f"sum(increase({_DEVICE_ENERGY}{_RANGE}))"
                        ),
                        Look(unit=RATIO, decimals=0, **small),
                    ),
                    number(
                        "Uncertainty of requests",
                        "Sum of the standard uncertainties of all requests as part of their joules: that of a total is at "
                        "most this. ecolyzer_energy_uncertainty_joules_total / ecolyzer_energy_joules_total.",
                        Query(
                            f"sum(increase(ecolyzer_energy_uncertainty_joules_total{_RANGE})) / "
                            f"sum(increase(ecolyzer_energy_joules_total{_RANGE}))"
                        ),
                        Look(unit=RATIO, decimals=0, empty="No requests", **small),
                    ),
                    number(
                        "Requests with energy",
                        "Settled requests as part of all that ended: settled, unsettled and dropped. "
                        "ecolyzer_requests_total, ecolyzer_unsettled_requests_total, ecolyzer_dropped_requests_total.",
                        Query(
                            f"sum(increase(ecolyzer_requests_total{_RANGE})) / (sum(increase(ecolyzer_requests_total"
                            f"{_RANGE})) + (sum(increase(ecolyzer_unsettled_requests_total{_RANGE})) or vector(0)) + "
                            f"(sum(increase(ecolyzer_dropped_requests_total{_RANGE})) or vector(0)))"
                        ),
                        Look(unit=RATIO, decimals=2, empty="No requests", **small),
                    ),
                    number(
                        "Settlement lag (p99)",
                        "Time from the end of a request to its settlement: until then it is in no metric. "
                        "ecolyzer_settlement_lag_seconds.",
                        Query(
                            "histogram_quantile(0.99, sum by (le) (increase(ecolyzer_settlement_lag_seconds_bucket"
                            f"{_RANGE})))"
                        ),
                        Look(unit=SECONDS, levels=(2.5, 5), empty="No requests", **small),
                    ),
                    number(
                        "Sensors that are up",
                        "Part of the sensors that give readings now: ecolyzer_sensor_up.",
                        Query(f"avg(ecolyzer_sensor_up{{{METERS}}})"),
                        Look(unit=RATIO, decimals=0, empty="No sensor", **small),
                    ),
                    number(
                        "CPU of the meters",
                        "Cores that all meters chosen use: ecolyzer_meter_cpu_seconds_total.",
                        Query(f"sum(rate(ecolyzer_meter_cpu_seconds_total{_RANGE}))"),
                        Look(unit="si:cores", **small),
                    ),
                ),
            ),
            rows(
                "Measured or modelled",
                (
                    lines(
                        "Modelled part by device",
                        "Joules that no reading gave, as part of each device's, over the last hour. A device that is measured "
                        "otherwise alerts above 20 % (EcolyzerModelledShareHigh). "
                        f"{r.MODELLED}.",
                        Query(
                            f"max by (job, instance, device) ({r.MODELLED}{{{METERS}}}) or 0 * {measured}",
                            "{{instance}} {{device}}",
                        ),
                        Look(unit=RATIO, maximum=1, width=8, empty="No device"),
                    ),
                    states(
                        "Sensors",
                        "Whether each sensor gives readings: ecolyzer_sensor_up.",
                        Query(
                            f"max by (instance, sensor, method) (ecolyzer_sensor_up{{{METERS}}})",
                            "{{instance}} {{sensor}} ({{method}})",
                        ),
                        Look(width=8, empty="No sensor"),
                        {"1": ("up", "green"), "0": ("lost", "red")},
                    ),
                    sheet(
                        "Sensors in detail",
                        "Last reading, readings that failed or could not be true in the time range, and the standard "
                        "uncertainty of a sensor's joules. ecolyzer_sensor_last_sample_timestamp_seconds, "
                        "ecolyzer_sensor_errors_total, ecolyzer_sensor_uncertainty_ratio.",
                        ("instance", "sensor", "method"),
                        (
                            Column(
                                "Last reading",
                                "time() - max by (instance, sensor, method) "
                                f"(ecolyzer_sensor_last_sample_timestamp_seconds{{{METERS}}})",
                                SECONDS,
                                levels=(90, 300),
                                decimals=0,
                            ),
                            Column(
                                "Uncertainty",
                                f"max by (instance, sensor, method) (ecolyzer_sensor_uncertainty_ratio{{{METERS}}})",
                                RATIO,
                                decimals=0,
                            ),
                        ),
                        Look(width=8, empty="No sensor"),
                    ),
                    lines(
                        "Sensor errors",
                        "Readings per minute that failed or could not be true, by reason: ecolyzer_sensor_errors_total.",
                        Query(
                            f"60 * sum by (instance, sensor, reason) (rate(ecolyzer_sensor_errors_total{_NOW}))",
                            "{{instance}} {{sensor}} {{reason}}",
                        ),
                        Look(unit="si:errors/min", width=8, empty="None: no reading failed"),
                    ),
                    states(
                        "How joules are divided",
                        "By learned watts of each model (15 % error of a request on a counter of 100 ms), or by activity alone "
                        "(some 40 % where models differ): at first, and where learned watts explain a device no better. "
                        "ecolyzer_device_learned.",
                        Query(
                            f"max by (instance, device) (ecolyzer_device_learned{{{METERS}}})",
                            "{{instance}} {{device}}",
                        ),
                        Look(width=8, empty="No device"),
                        {"1": ("learned", "green"), "0": ("by activity", "orange")},
                    ),
                    lines(
                        "Do the sums close?",
                        "What the sensor told less requests, process, host, idle and pending, as part of it. "
                        "EcolyzerLedgerImbalance fires at 0.1 %. ecolyzer_device_measured_joules_total.",
                        Query(
                            f"abs({shares} + {pending} - {measured}) / ({measured} > 0)",
                            "{{instance}} {{device}}",
                        ),
                        Look(unit=RATIO, levels=(0.001,), reach=0.0015, decimals=2, width=8, empty="No device"),
                    ),
                ),
            ),
            rows(
                "From request to figure",
                (
                    lines(
                        "Settlement lag",
                        "Time from the end of a request to its settlement: ecolyzer_settlement_lag_seconds.",
                        [Query(_lag(q), name) for q, name in ((0.5, "p50"), (0.99, "p99"))],
                        Look(unit=SECONDS, width=8, empty="No requests"),
                    ),
                    lines(
                        "Pending",
                        "Requests that ended and are not settled yet, by service (ecolyzer_pending_requests), and the joules "
                        "that wait for them (ecolyzer_device_energy_pending_joules).",
                        (
                            Query(f"sum by (service) (ecolyzer_pending_requests{{{_SERVICES}}})", "{{service}}"),
                            Query(f"sum(ecolyzer_device_energy_pending_joules{{{METERS}}})", "joules"),
                        ),
                        Look(unit=NUMBER, width=8, units={"joules": JOULES}, empty="No requests"),
                    ),
                    lines(
                        "Requests without energy",
                        "Per second, by service and reason. Unsettled: the request is known, its energy is not "
                        "(ecolyzer_unsettled_requests_total). Dropped: its record never reached the meter "
                        "(ecolyzer_dropped_requests_total). Joules stay in the sums.",
                        (
                            Query(
                                "sum by (service, reason) (rate(ecolyzer_unsettled_requests_total"
                                f"{{{_SERVICES}}}[$__rate_interval]))",
                                "{{service}} unsettled: {{reason}}",
                            ),
                            Query(
                                f"sum by (service, reason) (rate(ecolyzer_dropped_requests_total{{{_SERVICES}}}"
                                "[$__rate_interval]))",
                                "{{service}} dropped: {{reason}}",
                            ),
                        ),
                        Look(unit="reqps", width=8, empty="None: every request has its energy"),
                    ),
                ),
            ),
            rows(
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
            ),
            rows(
                "The meters themselves",
                (
                    lines(
                        "CPU of each meter",
                        "Cores that a meter uses: ecolyzer_meter_cpu_seconds_total.",
                        Query(f"sum by (instance) (rate(ecolyzer_meter_cpu_seconds_total{_NOW}))", "{{instance}}"),
                        Look(unit="si:cores", width=6),
                    ),
                    lines(
                        "CPU per request",
                        "CPU time of the meters for each settled request: ecolyzer_meter_cpu_seconds_total / "
                        "ecolyzer_requests_total. With little traffic it is the cost of reading sensors.",
                        Query(
                            f"sum(rate(ecolyzer_meter_cpu_seconds_total{_NOW})) / "
                            f"(sum(rate(ecolyzer_requests_total{_NOW})) > 0)",
                            "per request",
                        ),
                        Look(unit=SECONDS, width=6, empty="No requests"),
                    ),
                    lines(
                        "Series of each meter",
                        "Samples on its page, and the time that Prometheus takes to fetch them: scrape_samples_scraped, "
                        "scrape_duration_seconds.",
                        (
                            Query(f"scrape_samples_scraped{{{METERS}}} and {_OF_METERS}", "{{instance}} samples"),
                            Query(f"scrape_duration_seconds{{{METERS}}} and {_OF_METERS}", "{{instance}} seconds"),
                        ),
                        Look(unit=NUMBER, logarithmic=True, width=6),
                    ),
                    lines(
                        "Label sets beyond the limit",
                        "New label sets per hour that were counted under __other__: ecolyzer_label_overflow_total. More than 0 "
                        "means names without end.",
                        Query(
                            f"3600 * sum by (instance) (rate(ecolyzer_label_overflow_total{_NOW}))", "{{instance}}"
                        ),
                        Look(unit=NUMBER, width=6),
                    ),
                    sheet(
                        "Versions, and meters on one host",
                        "Version of each meter (ecolyzer_build_info), and how many meters it sees on its host "
                        "(ecolyzer_host_meters): above 1, one agent for all services would measure better.",
                        ("job", "instance", "version"),
                        (
                            Column(
                                "Meters on the host",
                                f"max by (job, instance, version) (ecolyzer_build_info{{{METERS}}} * on (job, instance) "
                                f"group_left () ecolyzer_host_meters{{{METERS}}})",
                                "none",
                                levels=(2, 3),
                                decimals=0,
                            ),
                        ),
                        Look(width=24, height=6, empty="No meter"),
                    ),
                ),
            ),
        ),
    )
