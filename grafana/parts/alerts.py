"""The alerts, as one table, which is why this file is long.

The text of each states the subject, the value, the limit, the start time, and the first step.
"""

from __future__ import annotations

from parts import recording as r
from parts.alerting import Alert, figure, listed, lookup

#: With less traffic than this in an hour, one cold start of a model would alert.
MINIMUM_REQUESTS = 100

_MODEL = ("job", "service", "model")
_METER = ("job", "instance")


def _by_model(name: str) -> str:
    return f"{name}{{job=%q,service=%q,model=%q}}"


_SUBJECT = "{{ $labels.service }}, model {{ $labels.model }}:"
_JOULES_NOW = lookup(_by_model(r.JOULES_5M), _MODEL, figure("J"))
_JOULES_HOUR = lookup(_by_model(r.JOULES_1H), _MODEL, figure("J"))
_GRID = lookup(
    "avg by (job) (ecolyzer_grid_carbon_intensity_grams_per_kwh{job=%q})",
    ("job",),
    figure(" g/kWh", 'printf "%.0f"'),
)
_TOP_OF_METER = listed(
    "sort_desc(topk(3, sum by (service, model) (rate(ecolyzer_co2e_grams_total{job=%q,instance=%q}[1h])) > 0))",
    _METER,
    "{{ $found.Labels.service }}/{{ $found.Labels.model }} {{ $found.Value | humanize }}g/s",
    "none",
)
_MODELS_OF_METER = listed(
    "sort_desc(topk(3, sum by (service, model) (increase(ecolyzer_requests_total{job=%q,instance=%q}[1h])) > 0))",
    _METER,
    "{{ $found.Labels.service }}/{{ $found.Labels.model }}",
    "none",
)


def _burn(long: str, short: str, factor: float, severity: str, part: str) -> Alert:
    return Alert(
        name="EcolyzerMonthlyCarbonBudgetBurn",
        severity=severity,
        expr=f"{r.BURN[long]} > {factor:g}\nand\n{r.BURN[short]} > {factor:g}",
        pending_period="2m",
        by=_METER,
        labels={"window": long},
        dashboard="ecolyzer-fleet",
        summary=(
            "Meter {{ $labels.instance }}: the month's carbon budget is used {{ $value | humanize }} times as fast as "
            f"it lasts (last {long}), {factor:g} is the limit."
        ),
        details=(
            "Budget: "
            + lookup(
                "max(ecolyzer_carbon_budget_grams_per_month{job=%q,instance=%q})",
                _METER,
                figure("g in 30 days", "humanize"),
            )
            + ", used now: "
            + lookup(
                "job_instance:ecolyzer_co2e_grams:rate1h{job=%q,instance=%q} * 2592000",
                _METER,
                figure("g in 30 days"),
            )
            + f". {factor:g} times uses {part} of it in {long}. Largest now: "
            + _TOP_OF_METER
            + "."
        ),
        first_step=(
            "see whether requests per second or grams per request grew; shed, move or defer what is named above, or "
            "set carbon_budget_per_month to what the load is meant to cost."
        ),
        variables=("job",),
    )


def _imbalance(identity: str, expr: str, by: tuple[str, ...], what: str) -> Alert:
    return Alert(
        name="EcolyzerLedgerImbalance",
        severity="critical",
        expr=expr,
        pending_period="5m",
        by=by,
        labels={"identity": identity},
        dashboard="ecolyzer-quality",
        summary=(
            f"Meter {{{{ $labels.instance }}}}{what}: the sums differ by {{{{ $value | humanizePercentage }}}}, 0.1% is "
            "the limit."
        ),
        details="Figures of these models cannot be trusted until this is understood: " + _MODELS_OF_METER + ".",
        first_step=(
            "note the version (ecolyzer_build_info), save the page /metrics and the meter's log, restart the meter, and "
            "report it with both: this is a fault of the meter, not of your service."
        ),
        variables=("job", "instance"),
    )


_SHARES = "sum by (job, instance, device) (ecolyzer_device_energy_joules_total)"
_PENDING = "sum by (job, instance, device) (ecolyzer_device_energy_pending_joules)"
_MEASURED = "sum by (job, instance, device) (ecolyzer_device_measured_joules_total)"
_CHARGED = f'sum by ({r.METER}) (ecolyzer_energy_joules_total{{share="active"}})'
_ALLOCATED = f'sum by ({r.METER}) (ecolyzer_device_energy_joules_total{{share="requests"}})'

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="EcolyzerCarbonPerRequestHigh",
        severity="warning",
        expr=(
            f"({r.GRAMS_5M} > on (job, model) group_left () {r.BUDGET})\n"
            f"and\n({r.GRAMS_1H} > on (job, model) group_left () {r.BUDGET})\n"
            f"and\n{r.REQUESTS_1H} >= {MINIMUM_REQUESTS}"
        ),
        pending_period="1m",
        by=_MODEL,
        dashboard="ecolyzer-fleet",
        summary=(
            f"{_SUBJECT} {{{{ $value | humanize }}}}gCO2e per request (last 5 min), budget "
            + lookup(f"{r.BUDGET}{{job=%q,model=%q}}", ("job", "model"), figure("g"))
            + "."
        ),
        details=(
            "Last hour: "
            + lookup(_by_model(r.GRAMS_1H), _MODEL, figure("g"))
            + " per request over "
            + lookup(_by_model(r.REQUESTS_1H), _MODEL, figure(" requests", 'printf "%.0f"'))
            + f". It is {_JOULES_NOW} per request x {_GRID} (x PUE), and embodied emissions, "
            + lookup(
                'sum(rate(ecolyzer_co2e_grams_total{scope="embodied",job=%q,service=%q,model=%q}[5m])) '
                "/ sum(rate(ecolyzer_co2e_grams_total{job=%q,service=%q,model=%q}[5m]))",
                (*_MODEL, *_MODEL),
                figure("", "humanizePercentage"),
                "0%",
            )
            + " of it."
        ),
        first_step=(
            "compare J per request with its 7-day baseline. If it grew, look at batch size, precision, and what was "
            "deployed; if it is as ever, the grid is dirty and load can wait or move, or, where most of it is embodied, "
            "few requests carry the whole machine."
        ),
        variables=_MODEL,
    ),
    _burn("1h", "5m", 14.4, "critical", "2%"),
    _burn("6h", "30m", 6, "warning", "5%"),
    _burn("3d", "6h", 1, "warning", "10%"),
    Alert(
        name="EcolyzerEnergyPerRequestRegression",
        severity="warning",
        expr=(f"{r.JOULES_1H} > 1.5 * {r.JOULES_7D}\nand\n{r.REQUESTS_1H} >= {MINIMUM_REQUESTS}"),
        pending_period="15m",
        by=_MODEL,
        dashboard="ecolyzer-models",
        summary=(
            f"{_SUBJECT} {{{{ $value | humanize }}}}J per request (last hour), "
            + lookup(_by_model(r.JOULES_7D), _MODEL, figure("J"))
            + " in the 7 days that ended yesterday."
        ),
        details=(
            "Idle power is "
            + lookup(
                'sum(rate(ecolyzer_energy_joules_total{share="idle",job=%q,service=%q,model=%q}[1h])) '
                "/ sum(rate(ecolyzer_energy_joules_total{job=%q,service=%q,model=%q}[1h]))",
                (*_MODEL, *_MODEL),
                figure("", "humanizePercentage"),
            )
            + " of it; requests in the last hour: "
            + lookup(_by_model(r.REQUESTS_1H), _MODEL, figure("", 'printf "%.0f"'))
            + ". Grid and factors play no part in joules."
        ),
        first_step=(
            "look at what was deployed at that time; much idle power means fewer requests at once, little means more "
            "work per request (longer inputs, another precision, a fallback to the CPU)."
        ),
        variables=_MODEL,
    ),
    Alert(
        name="EcolyzerEssDrop",
        severity="warning",
        expr=f"avg_over_time({r.ESS}[30m]) < 0.67 * {r.ESS_7D}",
        pending_period="15m",
        by=(*_MODEL, "device", "dtype"),
        dashboard="ecolyzer-models",
        summary=(
            "{{ $labels.service }}, model {{ $labels.model }} ({{ $labels.dtype }} on {{ $labels.device }}): ESS "
            "{{ $value | humanize }} (last 30 min), "
            + lookup(
                f"{r.ESS_7D}{{job=%q,service=%q,model=%q,device=%q,dtype=%q}}",
                (*_MODEL, "device", "dtype"),
                figure(""),
            )
            + " in the 7 days that ended yesterday."
        ),
        details=f"ESS falls as grams per request rise: {_JOULES_HOUR} per request in the last hour x {_GRID} now.",
        first_step=(
            "tell the two causes apart on the dashboard: joules per request (the model, its load) or g/kWh (the grid); "
            "for the first see EcolyzerEnergyPerRequestRegression."
        ),
        variables=_MODEL,
    ),
    Alert(
        name="EcolyzerThermalThrottling",
        severity="warning",
        expr=(
            "max by (job, instance, device) "
            '(rate(ecolyzer_device_throttled_seconds_total{reason=~".*thermal.*|hw_slowdown|throttled"}[10m])) > 0.05'
        ),
        pending_period="2m",
        by=(*_METER, "device"),
        dashboard="ecolyzer-hardware",
        summary=(
            "{{ $labels.device }} of {{ $labels.instance }}: slowed down by heat {{ $value | humanizePercentage }} of the "
            "time (last 10 min), 5% is the limit."
        ),
        details=(
            "Hottest in that time: "
            + lookup(
                "max(max_over_time(ecolyzer_device_temperature_celsius{job=%q,instance=%q,device=%q}[10m]))",
                (*_METER, "device"),
                figure(" C", 'printf "%.0f"'),
            )
            + ", it protects itself at "
            + lookup(
                "min(ecolyzer_device_temperature_limit_celsius{job=%q,instance=%q,device=%q})",
                (*_METER, "device"),
                figure(" C", 'printf "%.0f"'),
            )
            + ". Models on this host: "
            + _MODELS_OF_METER
            + "."
        ),
        first_step="check fans, inlet air and dust of the host; until then lower the power limit or send part of the load elsewhere.",
        variables=("job", "instance", "device"),
    ),
    Alert(
        name="EcolyzerSensorLost",
        severity="critical",
        expr=(
            "ecolyzer_sensor_up == 0\nor\n"
            # A sensor that is no longer reported, though its meter is up.
            "(\n  last_over_time(ecolyzer_sensor_up[1h]) unless on (job, instance, sensor) ecolyzer_sensor_up\n)\n"
            "and on (job, instance) ecolyzer_build_info"
        ),
        pending_period="2m",
        by=(*_METER, "sensor"),
        dashboard="ecolyzer-quality",
        summary=(
            "Sensor {{ $labels.sensor }} of {{ $labels.instance }} gives no readings; its last one is of "
            + lookup(
                "max(last_over_time(ecolyzer_sensor_last_sample_timestamp_seconds{job=%q,instance=%q,sensor=%q}[1d]))",
                (*_METER, "sensor"),
                figure("", "humanizeTimestamp"),
                "an unknown time",
            )
            + "."
        ),
        details=(
            "What requests draw of it meanwhile is modelled from before, or unknown: "
            + _MODELS_OF_METER
            + ". Errors in the last 10 min: "
            + listed(
                "sum by (reason) (increase(ecolyzer_sensor_errors_total{job=%q,instance=%q,sensor=%q}[10m])) > 0",
                (*_METER, "sensor"),
                '{{ $found.Labels.reason }} {{ $found.Value | printf "%.0f" }}',
                "none counted",
            )
            + "."
        ),
        first_step="open /healthz of the meter, which says why and what to do; then the driver (nvidia-smi, rights on /sys/class/powercap).",
        variables=("job", "instance"),
    ),
    Alert(
        name="EcolyzerModelledShareHigh",
        severity="warning",
        expr=(
            f"{r.MODELLED} > 0.2\nand on (job, instance, device)\n"
            # Only devices that were measured: on others there is nothing to repair, and the dashboard shows them.
            "sum by (job, instance, device) "
            '(increase(ecolyzer_device_energy_joules_total{method="measured"}[1d])) > 0'
        ),
        pending_period="15m",
        by=(*_METER, "device"),
        dashboard="ecolyzer-quality",
        summary=(
            "{{ $labels.device }} of {{ $labels.instance }}: {{ $value | humanizePercentage }} of its joules were modelled "
            "in the last hour, 20% is the limit."
        ),
        details="It is measured otherwise. Expect tens of percent of error in figures of " + _MODELS_OF_METER + ".",
        first_step="look at the sensor's errors on the dashboard; a counter that stands still or was reset is counted there by reason.",
        variables=("job", "instance"),
    ),
    _imbalance(
        "shares",
        f"abs({_SHARES} + {_PENDING} - {_MEASURED})\n/ ({_MEASURED} > 100) > 0.001",
        (*_METER, "device"),
        ", {{ $labels.device }}, requests + process + host + idle + pending against measured",
    ),
    _imbalance(
        "requests",
        f"abs({_CHARGED} - {_ALLOCATED})\n/ ({_ALLOCATED} > 100) > 0.001",
        _METER,
        ", active joules of all requests against what devices gave to requests",
    ),
    Alert(
        name="EcolyzerMeterDown",
        severity="critical",
        expr=(
            # A target that was a meter within the last hour, or is scraped as one.
            "(up == 0 and on (job, instance) last_over_time(ecolyzer_build_info[1h]))\n"
            'or up{job=~"ecolyzer.*"} == 0\n'
            # Targets that were removed have no ``up``.
            "or (count by (job) (last_over_time(ecolyzer_build_info[1h])) unless on (job) count by (job) (up))"
        ),
        pending_period="1m",
        by=_METER,
        dashboard="ecolyzer-quality",
        summary=(
            "No meter of job {{ $labels.job }} answers{{ with $labels.instance }} at {{ . }}{{ end }}: "
            + lookup("sum(up{job=%q})", ("job",), figure(""), "0")
            + " of "
            + lookup("count(up{job=%q})", ("job",), figure(""), "0")
            + " targets of the job are up."
        ),
        details=(
            "Requests go on and are not measured. Services that reported in the last hour: "
            + listed(
                "count by (service) (last_over_time(ecolyzer_workers{job=%q}[1h]))",
                ("job",),
                "{{ $found.Labels.service }}",
                "none known",
            )
            + "."
        ),
        first_step="see whether the process is there (ps, kubectl get pods) and what its last lines say; then port and ECOLYZER_HOST.",
        variables=("job",),
    ),
    *(
        Alert(
            name=name,
            severity=severity,
            expr=(
                f'{r.OUTCOMES}{{outcome="{outcome}"}}\n/ on (job, service)\n'
                f"(sum by (job, service) ({r.OUTCOMES}) > 0)\n> {limit}"
            ),
            pending_period="1m",
            by=("job", "service"),
            dashboard="ecolyzer-quality",
            summary=(
                f"{{{{ $labels.service }}}}: {{{{ $value | humanizePercentage }}}} of its requests {what} (last 10 min), "
                f"{limit:.0%} is the limit."
            ),
            details=(
                "Reasons: "
                + listed(
                    f"sum by (reason) (increase({stem}_total{{job=%q,service=%q}}[10m])) > 0",
                    ("job", "service"),
                    '{{ $found.Labels.reason }} {{ $found.Value | printf "%.0f" }}',
                    "none counted",
                )
                + ". Models of the service: "
                + listed(
                    "sort_desc(topk(3, sum by (model) (rate(ecolyzer_requests_total{job=%q,service=%q}[1h])) > 0))",
                    ("job", "service"),
                    "{{ $found.Labels.model }}",
                    "none",
                )
                + f". {effect}"
            ),
            first_step=first_step,
            variables=("job", "service"),
        )
        for name, severity, outcome, limit, stem, what, effect, first_step in (
            (
                "EcolyzerRequestsDropped",
                "warning",
                "dropped",
                0.01,
                "ecolyzer_dropped_requests",
                "were lost before they reached the meter",
                "Their joules are in the process' share, so totals hold and requests look too few.",
                "no_meter and meter_lost: is the meter or agent up? queue_full: it is too slow, give it CPU; worker_died: see the service.",
            ),
            (
                "EcolyzerRequestsUnsettled",
                "warning",
                "unsettled",
                0.05,
                "ecolyzer_unsettled_requests",
                "got no energy",
                "Their spans say unsettled; totals hold.",
                "no_reading: a sensor is missing or just starting; late: the service or its host is stalled; limit: too many in flight.",
            ),
        )
    ),
    Alert(
        name="EcolyzerFactorsStale",
        severity="warning",
        expr=(
            "max by (job, instance, zone, source) (time() - ecolyzer_grid_data_timestamp_seconds) > 6 * 3600\n"
            # Only where a live source is configured: tables have yearly figures.
            "and on (job, instance)\ncount by (job, instance) (ecolyzer_grid_fetches_total)"
        ),
        pending_period="5m",
        by=(*_METER, "zone", "source"),
        labels={"factors": "live"},
        dashboard="ecolyzer-quality",
        summary=(
            "Meter {{ $labels.instance }}: the carbon intensity of {{ $labels.zone }} that is in use ({{ $labels.source }}) "
            "is {{ $value | humanizeDuration }} old, 6h is the limit of a live source."
        ),
        details=(
            "In use: "
            + lookup(
                "max(ecolyzer_grid_carbon_intensity_grams_per_kwh{job=%q,instance=%q})",
                _METER,
                figure(" g/kWh", 'printf "%.0f"'),
            )
            + ". What the source answered in the last 6 h: "
            + listed(
                "sum by (source, outcome) (increase(ecolyzer_grid_fetches_total{job=%q,instance=%q}[6h])) > 0",
                _METER,
                '{{ $found.Labels.source }} {{ $found.Labels.outcome }} {{ $found.Value | printf "%.0f" }}',
                "nothing",
            )
            + ". Grams of "
            + _MODELS_OF_METER
            + " are by this figure."
        ),
        first_step="see the outcome above: a token that expired, a limit of calls, a region's name, or no way out to the Internet.",
        variables=("job",),
    ),
    Alert(
        name="EcolyzerFactorsStale",
        severity="info",
        expr=(
            "max by (job, instance, zone, source) (time() - ecolyzer_grid_data_timestamp_seconds) > 3 * 365 * 86400\n"
            "unless on (job, instance)\ncount by (job, instance) (ecolyzer_grid_fetches_total)"
        ),
        pending_period="1h",
        by=(*_METER, "zone", "source"),
        labels={"factors": "table"},
        dashboard="ecolyzer-quality",
        summary=(
            "Meter {{ $labels.instance }}: the table's carbon intensity of {{ $labels.zone }} ({{ $labels.source }}) is "
            "{{ $value | humanizeDuration }} old, 3 years is the limit."
        ),
        details="Grids get cleaner by some percent a year; grams of " + _MODELS_OF_METER + " are by this figure.",
        first_step="update ecolyzer-otel, whose tables are renewed, or use a live source (--grid).",
        variables=("job",),
    ),
    Alert(
        name="EcolyzerLabelOverflow",
        severity="info",
        expr=f"sum by ({r.METER}) (increase(ecolyzer_label_overflow_total[1h])) > 0",
        pending_period="0s",
        by=_METER,
        dashboard="ecolyzer-quality",
        summary=(
            'Meter {{ $labels.instance }}: {{ $value | printf "%.0f" }} new label sets in the last hour were counted under '
            "__other__, 0 is normal."
        ),
        details="Sums hold, but these models or routes cannot be told apart. Known here: " + _MODELS_OF_METER + ".",
        first_step="find names without end (a path with an id as route, a folder as model name) and give them one name (--model-names), or raise --max-label-sets.",
        variables=("job",),
    ),
)
NAMES: tuple[str, ...] = tuple(dict.fromkeys(alert.name for alert in ALERTS))
