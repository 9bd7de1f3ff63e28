"""Every option, declared once: its name, its parser, and its help text.

The flag of an option is ``--name-with-dashes``, its variable ``ECOLYZER_NAME_WITH_UNDERSCORES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ENV_PREFIX", "FOR_METER", "OPTIONS", "SENSOR_FAMILIES", "Option", "Pairs", "Renames"]

ENV_PREFIX: Final = "ECOLYZER_"
#: What ``sensors`` may list.
SENSOR_FAMILIES: Final = frozenset({"rapl", "nvml", "amd", "apple", "hwmon", "ipmi", "modelled"})
#: Patterns of model names and their replacements; the first pattern that matches applies.
Renames = tuple[tuple[str, str], ...]
#: Names and their values.
Pairs = tuple[tuple[str, str], ...]


def _number(low: float, high: float, unit: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # also refuses NaN
            raise ValueError
        return value

    parse.__doc__ = f"a number from {low:g} to {high:g}{unit}"
    return parse


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    parse.__doc__ = f"a whole number from {low} to {high}"
    return parse


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in words:
            raise ValueError
        return text.strip().lower()

    parse.__doc__ = "one of " + ", ".join(words)
    return parse


def _text(text: str) -> str:
    """a text that is not empty"""
    if not text.strip():
        raise ValueError
    return text.strip()


def _url(text: str) -> str:
    """an http(s) address"""
    scheme, colon, rest = text.strip().partition("://")
    if not colon or not rest or scheme.lower() not in ("http", "https"):
        raise ValueError
    return text.strip().rstrip("/")


def _sensors(text: str) -> str:
    """auto, a list of rapl, nvml, amd, apple, hwmon, ipmi and modelled, none, or replay:FILE"""
    text = text.strip()
    if text.startswith("replay:") and text[7:]:
        return text  # a path may contain commas
    words = [word.strip().lower() for word in text.split(",")]
    if words not in (["auto"], ["none"]) and not set(words) <= SENSOR_FAMILIES:
        raise ValueError
    return ",".join(dict.fromkeys(words))


def _renames(text: str) -> Renames:
    """NAME=NEW pairs separated by commas, where NAME may contain * and ?"""
    pairs = [pair.partition("=") for pair in text.split(",")]
    rules = tuple((pattern.strip(), name.strip()) for pattern, _, name in pairs)
    if not all(pattern and name for pattern, name in rules):
        raise ValueError
    return rules


def _live(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        text = text.strip()
        if text.lower() in names:
            return text.lower()
        scheme, colon, rest = text.partition(":")
        if not colon or not rest.strip("/ ") or scheme.lower() not in ("csv", "http", "https"):
            raise ValueError
        return f"{scheme.lower()}:{rest}"

    parse.__doc__ = f"one of {', '.join(names)}, csv:FILE or an http(s) address"
    return parse


def _pairs(text: str) -> Pairs:
    """NAME=VALUE pairs separated by commas, each name once"""
    pairs = [pair.partition("=") for pair in text.split(",")]
    found = tuple((name.strip(), value.strip()) for name, _, value in pairs)
    if not all(name and value for name, value in found) or len(dict(found)) < len(found):
        raise ValueError
    return found


def _numbers(alone: str, low: float, high: float, expects: str) -> Callable[[str], Pairs]:
    """Pairs of a name and a number; a number without a name gets the name ``alone``."""

    def parse(text: str) -> Pairs:
        pairs = _pairs(text) if "=" in text else ((alone, text.strip()),)
        for _, number in pairs:
            _number(low, high, "")(number)
        return pairs

    parse.__doc__ = expects
    return parse


def _quantization(text: str) -> str:
    """paper-tool, bits, or DTYPE=FACTOR pairs separated by commas"""
    text = text.strip()
    if text.lower() in ("paper-tool", "bits"):
        return text.lower()
    for _, factor in _pairs(text):
        if not 0.0 < float(factor) <= 64.0:
            raise ValueError
    return text


def _boolean(text: str) -> bool:
    """true or false"""
    word = text.strip().lower()
    if word not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError
    return word in ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its field in :class:`Config`, its parser, and its help text."""

    name: str
    parse: Callable[[str], Any]
    metavar: str
    help: str

    @property
    def flag(self) -> str:
        """The command-line spelling."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment spelling."""
        return ENV_PREFIX + self.name.upper()

    @property
    def expects(self) -> str:
        """The form of a valid value, for error messages."""
        return (self.parse.__doc__ or "a value").strip()

    def spell(self, value: Any) -> str:
        """The text that parses to ``value``."""
        if isinstance(value, tuple):
            return ",".join(f"{name}={one}" if name else str(one) for name, one in value)
        return str(value)

    @property
    def is_switch(self) -> bool:
        """Whether the flag needs no value (``--strict``)."""
        return self.parse is _boolean


OPTIONS: Final[tuple[Option, ...]] = (
    Option("host", _text, "ADDRESS", "address on which /metrics is served (0.0.0.0 in a container)"),
    Option("port", _integer(0, 65535), "PORT", "port on which /metrics is served; 0 picks a free one"),
    Option(
        "zone",
        _text,
        "ZONE",
        "grid zone (FR, US-CA) or cloud region (aws:eu-central-1); default: the cloud's region, else WORLD",
    ),
    Option("pue", _number(1.0, 10.0, ""), "RATIO", "power usage effectiveness of the site"),
    Option("wue", _number(0.0, 100.0, " L/kWh"), "L/KWH", "water usage effectiveness of the site"),
    Option(
        "ewif",
        _number(0.0, 100.0, " L/kWh"),
        "L/KWH",
        "water consumed per kWh generated; replaces the table's figure",
    ),
    Option(
        "reservoir_evaporation",
        _boolean,
        "",
        "count the evaporation from hydropower reservoirs; on unless --reservoir-evaporation=false",
    ),
    Option(
        "cloud_metadata",
        _choice("auto", "on", "off", "aws", "gcp", "azure", "ovhcloud", "scaleway"),
        "WHICH",
        "query the cloud for its region: auto (where the firmware names a cloud), on, off, or one provider",
    ),
    Option(
        "grid",
        _live("table", "electricitymaps", "neso", "rte", "entsoe"),
        "SOURCE",
        "source of grid carbon intensity: table; live: electricitymaps, neso, rte, entsoe, csv:FILE or an address",
    ),
    Option("grid_region", _text, "NAME", "the live source's name of this place (DE-LU, a postcode, an EIC code)"),
    Option("grid_url", _url, "URL", "address of the live source's API; replaces the public one"),
    Option(
        "marginal",
        _live("none", "watttime"),
        "SOURCE",
        "source of marginal carbon intensity, a separate figure: none, watttime, csv:FILE, or an address",
    ),
    Option("marginal_region", _text, "NAME", "the marginal source's name of this place (CAISO_NORTH)"),
    Option("marginal_url", _url, "URL", "address of the marginal source's API; replaces the public one"),
    Option("grid_refresh", _number(1.0, 86400.0, " seconds"), "SECONDS", "refresh live figures older than this"),
    Option(
        "grid_max_age",
        _number(1.0, 604800.0, " seconds"),
        "SECONDS",
        "use the last live figure up to this age, then the table's",
    ),
    Option(
        "cache",
        _text,
        "FOLDER",
        "folder that keeps live figures across restarts (default ~/.cache/ecolyzer); none: no cache",
    ),
    Option(
        "market_factor",
        _number(0.0, 2000.0, " g/kWh"),
        "G/KWH",
        "contractual emission factor of the electricity; adds market-based grams as a second figure",
    ),
    Option("market_source", _text, "TEXT", "evidence of the contractual factor (contract, certificate, year)"),
    Option(
        "embodied",
        _pairs,
        "PART=KG,...",
        "embodied kgCO2e of server and gpu, or names in the table (server=PowerEdge R740,gpu=auto)",
    ),
    Option(
        "lifetime",
        _numbers("", 0.1, 50.0, "years, or NAME=YEARS pairs separated by commas"),
        "YEARS",
        "lifetime of the hardware: years, or PART=YEARS,...",
    ),
    Option(
        "reserved",
        _number(0.0, 1.0, ""),
        "RATIO",
        "fraction of the server that is reserved for the measured services",
    ),
    Option(
        "sampling_period",
        _number(0.005, 60.0, " seconds"),
        "SECONDS",
        "time between two sensor readings under load",
    ),
    Option(
        "log_level",
        _choice("debug", "info", "warning", "error"),
        "LEVEL",
        "lowest level of the meter's messages on stderr",
    ),
    Option("strict", _boolean, "", "do not start the command when a setting or the meter has a problem"),
    Option(
        "sensors",
        _sensors,
        "SOURCES",
        "energy sensors: auto, a list of rapl, nvml, amd, apple, hwmon, ipmi, modelled; none; or replay:FILE",
    ),
    Option("sysfs", _text, "FOLDER", "root of the sysfs tree that sensors are read from (default /sys)"),
    Option(
        "quantization",
        _quantization,
        "PRESET",
        "quantization factors of ESS: paper-tool (all 1), bits (bits/32), or DTYPE=FACTOR,...",
    ),
    Option(
        "agent_socket",
        _text,
        "PATH",
        "socket of the node agent to report to; none: always start a meter of its own",
    ),
    Option(
        "max_label_sets", _integer(10, 1_000_000), "N", "label sets kept per metric; further ones become __other__"
    ),
    Option(
        "exit_flush",
        _boolean,
        "",
        "at exit, wait up to 1 s until the last requests are reported; on unless --exit-flush=false",
    ),
    Option("count_training", _boolean, "", "count forward passes of training as requests"),
    Option("model_names", _renames, "NAME=NEW,...", "rename models (BertModel=support-bot,*/tmp*=draft)"),
    Option(
        "carbon_budget_per_request",
        _numbers("*", 1e-15, 1e9, "grams above 0, or NAME=GRAMS pairs separated by commas (NAME with * and ?)"),
        "MODEL=GRAMS,...",
        "gCO2e budget per request, for alerts and dashboards: for all models or by name (bert*=0.002,*=0.05)",
    ),
    Option(
        "carbon_budget_per_month",
        _number(1e-9, 1e15, " grams"),
        "GRAMS",
        "gCO2e budget of all requests of this meter in 30 days, for alerts and dashboards",
    ),
    Option(
        "journal", _text, "FOLDER", "keep a journal of all figures in this folder, for ecolyzer report --journal"
    ),
    Option("journal_days", _number(1.0, 36500.0, " days"), "DAYS", "keep the journal for this many days"),
)
#: Options of the meter; the node agent sets them for all services.
FOR_METER: Final = frozenset(option.name for option in OPTIONS) - {
    "log_level",
    "strict",
    "agent_socket",
    "exit_flush",
    "count_training",
    "model_names",
}
