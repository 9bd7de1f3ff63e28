"""Dashboard "Hardware": the shares of each device's joules, its power, temperature and throttling."""

from __future__ import annotations

from parts.boards import DEVICES, METERS, Row, make
from parts.panels import (
    CELSIUS,
    CO2E,
    GRAMS,
    JOULES,
    NUMBER,
    RATIO,
    WATT_HOURS,
    WATTS,
    Column,
    Look,
    Query,
    lines,
    number,
    sheet,
    states,
)

_NOW = f"{{{DEVICES}}}[$__rate_interval]"
_KEY = "instance, device, component"
_NAME = "{{instance}} {{device}}"
_COLORS = {
    "requests": "green",
    "process": "blue",
    "host": "purple",
    "idle": "#6e7079",
    "pending": "yellow",
    "measured": "text",
}


def _share(share: str) -> str:
    return (
        f'sum by ({_KEY}) (increase(ecolyzer_device_energy_joules_total{{share="{share}", {DEVICES}}}[$__range]))'
    )


_PENDING = f"sum by ({_KEY}) (delta(ecolyzer_device_energy_pending_joules{{{DEVICES}}}[$__range]))"
_MEASURED = f"sum by ({_KEY}) (increase(ecolyzer_device_measured_joules_total{{{DEVICES}}}[$__range]))"
_ALL = f"sum by ({_KEY}) (increase(ecolyzer_device_energy_joules_total{{{DEVICES}}}[$__range]))"


_LEVELS = "ecolyzer_device_(power_limit|idle|ceiling)_watts"
#: From the joules of the sensor: steadier than ecolyzer_device_power_watts, which is of the last interval only.
_POWER = f"sum by (instance, device, component) (rate(ecolyzer_device_measured_joules_total{_NOW}))"


def _gauge(name: str) -> str:
    return f"max by ({_KEY}) ({name}{{{DEVICES}}})"


def _balance() -> Row:
    """The row "Measured = requests + process + host + idle + pending"."""
    return Row(
        "Measured = requests + process + host + idle + pending",
        (
            lines(
                "Power by whom it is charged to",
                "Joules per second of all devices chosen, stacked by share: requests (active energy of requests), "
                "process (the service outside requests), host (everything else on the machine), idle (for being "
                "on), pending (of requests not settled yet; it falls when they are). The dashed line is what the "
                "sensors told: it lies on the top of the stack. ecolyzer_device_energy_joules_total, "
                "ecolyzer_device_energy_pending_joules, ecolyzer_device_measured_joules_total.",
                (
                    Query(f"sum by (share) (rate(ecolyzer_device_energy_joules_total{_NOW}))", "{{share}}"),
                    Query(
                        f"sum(deriv(ecolyzer_device_energy_pending_joules{_NOW}))",
                        "pending",
                    ),
                    Query(f"sum(rate(ecolyzer_device_measured_joules_total{_NOW}))", "measured"),
                ),
                Look(
                    unit=WATTS,
                    stack=True,
                    width=16,
                    height=11,
                    dashed=("measured",),
                    colors=_COLORS,
                ),
            ),
            number(
                "Energy in this time",
                "Of all devices chosen, by share, as the sensors told it. ecolyzer_device_energy_joules_total, "
                "ecolyzer_device_measured_joules_total.",
                (
                    Query(
                        f"sum(increase(ecolyzer_device_measured_joules_total{{{DEVICES}}}[$__range])) / 3600",
                        "measured",
                    ),
                    *(
                        Query(
                            f'sum(increase(ecolyzer_device_energy_joules_total{{share="{share}", {DEVICES}}}'
                            "[$__range])) / 3600",
                            share,
                        )
                        for share in ("requests", "process", "host", "idle")
                    ),
                ),
                Look(unit=WATT_HOURS, width=8, height=11),
            ),
            sheet(
                "The books of each device",
                "Joules of the time range by share; pending may fall. Difference is what the sensor told less all "
                "of them: nothing but what extrapolation to the ends of the range leaves. "
                "EcolyzerLedgerImbalance fires at 0.1 %. ecolyzer_device_measured_joules_total, ecolyzer_device_energy_joules_total.",
                _KEY.split(", "),
                (
                    Column("Measured", _MEASURED, JOULES),
                    *(
                        Column(share.capitalize(), _share(share), JOULES)
                        for share in ("requests", "process", "host", "idle")
                    ),
                    Column("Pending", _PENDING, JOULES),
                    Column("Difference", f"round({_MEASURED} - {_ALL} - {_PENDING}, 1e-6)", JOULES),
                ),
                Look(width=24, height=7, empty="No device"),
                sort="Measured",
            ),
        ),
    )


def _power() -> Row:
    """The row "Power"."""
    return Row(
        "Power",
        (
            lines(
                "Power against its limit",
                "Mean power, the limit that the device is set to (power_limit), what is taken for its idle power, and "
                "a ceiling that it was found not to exceed. ecolyzer_device_measured_joules_total, "
                "ecolyzer_device_power_limit_watts, ecolyzer_device_idle_watts, ecolyzer_device_ceiling_watts.",
                (
                    Query(_POWER, _NAME),
                    # One query, because not every device has a limit, and few have a ceiling.
                    Query(
                        f'max by (instance, device, kind) (label_replace({{__name__=~"{_LEVELS}", {DEVICES}}}, '
                        '"kind", "$1", "__name__", "ecolyzer_device_(.*)_watts"))',
                        "{{instance}} {{device}} {{kind}}",
                    ),
                ),
                Look(unit=WATTS, height=9, empty="No device"),
            ),
            lines(
                "Power as part of the limit",
                "100 % means that the power limit holds the device back. Only devices that tell of a limit. "
                "ecolyzer_device_measured_joules_total / ecolyzer_device_power_limit_watts.",
                Query(
                    f"{_POWER} / {_gauge('ecolyzer_device_power_limit_watts')}",
                    _NAME,
                ),
                Look(
                    unit=RATIO,
                    height=9,
                    maximum=1,
                    levels=(0.9, 1),
                    width=6,
                    empty="No device tells a limit",
                ),
            ),
            lines(
                "Busy",
                "Part of the time that a device is busy: for a GPU a kernel is resident, for a CPU its cores' mean. "
                "ecolyzer_device_utilization_ratio.",
                Query(_gauge("ecolyzer_device_utilization_ratio"), _NAME),
                Look(unit=RATIO, height=9, maximum=1, width=6, empty="No device tells its use"),
            ),
        ),
    )


def _temperature() -> Row:
    """The row "Heat"."""
    return Row(
        "Heat",
        (
            lines(
                "Temperature against its limit",
                "Degrees Celsius, and where the device protects itself. ecolyzer_device_temperature_celsius, "
                "ecolyzer_device_temperature_limit_celsius.",
                (
                    Query(_gauge("ecolyzer_device_temperature_celsius"), _NAME),
                    Query(_gauge("ecolyzer_device_temperature_limit_celsius"), f"{_NAME} limit"),
                ),
                Look(
                    unit=CELSIUS,
                    height=8,
                    minimum=None,
                    decimals=0,
                    width=8,
                    empty="No device tells a temperature",
                ),
            ),
            lines(
                "Degrees left to the limit",
                "Limit less temperature: below 5 degrees a device is about to slow down. "
                "ecolyzer_device_temperature_limit_celsius - ecolyzer_device_temperature_celsius.",
                Query(
                    f"{_gauge('ecolyzer_device_temperature_limit_celsius')} - "
                    f"{_gauge('ecolyzer_device_temperature_celsius')}",
                    _NAME,
                ),
                Look(
                    unit=CELSIUS,
                    height=8,
                    minimum=None,
                    decimals=0,
                    width=8,
                    empty="No device tells a limit",
                ),
            ),
            lines(
                "Slowed down",
                "Part of the time that a device was throttled, by reason: heat (thermal) is to be mended, power_cap is "
                "a limit that somebody set. Above 5 % for heat EcolyzerThermalThrottling fires. "
                "ecolyzer_device_throttled_seconds_total.",
                Query(
                    f"sum by (instance, device, reason) (rate(ecolyzer_device_throttled_seconds_total{_NOW}))",
                    "{{device}} {{reason}}",
                ),
                Look(
                    unit=RATIO,
                    height=8,
                    maximum=1,
                    levels=(0.05,),
                    width=8,
                    empty="No device tells of throttling",
                ),
            ),
            states(
                "Throttled when",
                "When each device was slowed down, by reason. ecolyzer_device_throttled_seconds_total.",
                Query(
                    f"sum by (instance, device, reason) (rate(ecolyzer_device_throttled_seconds_total{_NOW})) > bool 0.01",
                    "{{device}} {{reason}}",
                ),
                Look(width=24, height=5, empty="No device tells of throttling"),
                {"0": ("full speed", "green"), "1": ("throttled", "red")},
            ),
        ),
    )


def _hosts() -> Row:
    """The row "Hosts and embodied emissions"."""
    return Row(
        "Hosts and embodied emissions",
        (
            lines(
                "Workers",
                "Processes that report to the meter, by service: ecolyzer_workers.",
                Query(f"sum by (instance, service) (ecolyzer_workers{{{METERS}}})", "{{instance}} {{service}}"),
                Look(unit=NUMBER, width=8, decimals=0, empty="No worker"),
            ),
            lines(
                "Embodied emissions that fall due",
                "Of making the hardware, spread over its lifetime, grams per hour, by device: "
                "ecolyzer_embodied_grams_per_second.",
                Query(
                    f"3600 * max by (instance, device) (ecolyzer_embodied_grams_per_second{{{DEVICES}}})",
                    _NAME,
                ),
                Look(unit="si:gCO2e/h", stack=True, width=8, empty="Not configured (--embodied)"),
            ),
            sheet(
                "Embodied emissions in this time",
                "Grams that fell due while the meter ran. What requests were charged of it is the scope embodied of "
                "ecolyzer_co2e_grams_total; the rest passed with no request in flight. "
                "ecolyzer_device_embodied_grams_total.",
                ("instance", "device"),
                (
                    Column(
                        "Fell due",
                        f"sum by (instance, device) (increase(ecolyzer_device_embodied_grams_total{{{DEVICES}}}[$__range]))",
                        GRAMS,
                    ),
                ),
                Look(unit=CO2E, width=8, empty="Not configured (--embodied)"),
                sort="Fell due",
            ),
        ),
    )


def hardware() -> str:
    """The dashboard."""
    return make(
        "ecolyzer-hardware",
        "Hardware",
        "Where every joule of each device went: measured = requests + process + host + idle + pending; power and "
        "temperature against their limits, throttling.",
        ("job", "instance", "device"),
        (_balance(), _power(), _temperature(), _hosts()),
    )
