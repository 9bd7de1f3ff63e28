"""Dashboard "Data quality": the basis of the figures, and the cost of the meter itself."""

from __future__ import annotations

from parts import recording as r
from parts.boards import METERS, Row, make
from parts.factors import factors
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
#: Excludes targets that are not meters.
_OF_METERS = "on (job, instance) ecolyzer_build_info"
_DEVICE_ENERGY = "ecolyzer_device_energy_joules_total"
_SMALL = {"width": 4, "height": 5}
_SHARES = f"sum by (job, instance, device) (ecolyzer_device_energy_joules_total{{{METERS}}})"
_PENDING = f"sum by (job, instance, device) (ecolyzer_device_energy_pending_joules{{{METERS}}})"
_MEASURED = f"sum by (job, instance, device) (ecolyzer_device_measured_joules_total{{{METERS}}})"


def _lag(quantile: float) -> str:
    return f"histogram_quantile({quantile}, sum by (le) (rate(ecolyzer_settlement_lag_seconds_bucket{_NOW})))"


def _overview() -> Row:
    """The row "At a glance"."""
    return Row(
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
                Look(unit=RATIO, decimals=0, **_SMALL),
            ),
            number(
                "Uncertainty of requests",
                "Sum of the standard uncertainties of all requests as part of their joules: that of a total is at "
                "most this. ecolyzer_energy_uncertainty_joules_total / ecolyzer_energy_joules_total.",
                Query(
                    f"sum(increase(ecolyzer_energy_uncertainty_joules_total{_RANGE})) / "
                    f"sum(increase(ecolyzer_energy_joules_total{_RANGE}))"
                ),
                Look(unit=RATIO, decimals=0, empty="No requests", **_SMALL),
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
                Look(unit=RATIO, decimals=2, empty="No requests", **_SMALL),
            ),
            number(
                "Settlement lag (p99)",
                "Time from the end of a request to its settlement: until then it is in no metric. "
                "ecolyzer_settlement_lag_seconds.",
                Query(
                    "histogram_quantile(0.99, sum by (le) (increase(ecolyzer_settlement_lag_seconds_bucket"
                    f"{_RANGE})))"
                ),
                Look(unit=SECONDS, levels=(2.5, 5), empty="No requests", **_SMALL),
            ),
            number(
                "Sensors that are up",
                "Part of the sensors that give readings now: ecolyzer_sensor_up.",
                Query(f"avg(ecolyzer_sensor_up{{{METERS}}})"),
                Look(unit=RATIO, decimals=0, empty="No sensor", **_SMALL),
            ),
            number(
                "CPU of the meters",
                "Cores that all meters chosen use: ecolyzer_meter_cpu_seconds_total.",
                Query(f"sum(rate(ecolyzer_meter_cpu_seconds_total{_RANGE}))"),
                Look(unit="si:cores", **_SMALL),
            ),
        ),
    )


def _sensors() -> Row:
    """The row "Measured or modelled"."""
    return Row(
        "Measured or modelled",
        (
            lines(
                "Modelled part by device",
                "Joules that no reading gave, as part of each device's, over the last hour. A device that is measured "
                "otherwise alerts above 20 % (EcolyzerModelledShareHigh). "
                f"{r.MODELLED}.",
                Query(
                    f"max by (job, instance, device) ({r.MODELLED}{{{METERS}}}) or 0 * {_MEASURED}",
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
                    f"abs({_SHARES} + {_PENDING} - {_MEASURED}) / ({_MEASURED} > 0)",
                    "{{instance}} {{device}}",
                ),
                Look(unit=RATIO, levels=(0.001,), reach=0.0015, decimals=2, width=8, empty="No device"),
            ),
        ),
    )


def _settlement() -> Row:
    """The row "From request to figure"."""
    return Row(
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
    )


def _meters() -> Row:
    """The row "The meters themselves"."""
    return Row(
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
                Query(f"3600 * sum by (instance) (rate(ecolyzer_label_overflow_total{_NOW}))", "{{instance}}"),
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
    )


def quality() -> str:
    """The dashboard."""
    return make(
        "ecolyzer-quality",
        "Data quality",
        "How far the figures can be trusted: measured or modelled, settled or lost, sensors, factors and their age, and "
        "what the meter itself costs.",
        ("job", "instance", "service"),
        (_overview(), _sensors(), _settlement(), factors(), _meters()),
    )
