"""One frozen :class:`Config`: flags before ``ECOLYZER_*`` environment before file before defaults.

Every option is declared once, in :data:`OPTIONS`; its flag is ``--name-with-dashes`` and its variable
``ECOLYZER_NAME_WITH_UNDERSCORES``. A bad value is reported as one :class:`~ecolyzer_otel.errors.ConfigError`
that names the key, and the next source in line is used instead, so that a service starts whatever is wrong
with its meter's settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from ecolyzer_otel.errors import ConfigError

__all__ = [
    "ENV_PREFIX",
    "OPTIONS",
    "SENSOR_FAMILIES",
    "Config",
    "Loaded",
    "Option",
    "Pairs",
    "Renames",
    "load",
    "parse_flags",
]

ENV_PREFIX: Final = "ECOLYZER_"
#: What ``sensors`` may list.
SENSOR_FAMILIES: Final = frozenset({"rapl", "nvml", "amd", "apple", "hwmon", "ipmi", "modelled"})
#: Pattern of a model's name, and the name to use instead; the first pattern that fits counts.
Renames = tuple[tuple[str, str], ...]
#: A name and what it is set to.
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of a meter. Immutable; make another with :func:`dataclasses.replace`.

    Units: ``pue`` is a ratio of at least 1, ``wue`` litres per IT kWh, ``ewif`` litres per kWh, ``market_factor``
    gCO2e per kWh, ``reserved`` a ratio; ``sampling_period``, ``grid_refresh`` and ``grid_max_age`` are seconds.
    ``embodied`` and ``lifetime`` are pairs as :mod:`ecolyzer_otel.impact.embodied` reads them.
    """

    host: str = "127.0.0.1"
    port: int = 9465
    zone: str | None = None
    pue: float | None = None
    wue: float | None = None
    ewif: float | None = None
    reservoir_evaporation: bool = True
    cloud_metadata: str = "auto"
    grid: str = "table"
    grid_region: str | None = None
    grid_url: str | None = None
    marginal: str = "none"
    marginal_region: str | None = None
    marginal_url: str | None = None
    grid_refresh: float = 900.0
    grid_max_age: float = 21600.0
    cache: str | None = None
    market_factor: float | None = None
    market_source: str | None = None
    embodied: Pairs = ()
    lifetime: Pairs = ()
    reserved: float = 1.0
    sampling_period: float = 0.1
    log_level: str = "warning"
    strict: bool = False
    sensors: str = "auto"
    sysfs: str = "/sys"
    quantization: str = "paper-tool"
    agent_socket: str | None = None
    max_label_sets: int = 2000
    exit_flush: bool = True
    count_training: bool = False
    model_names: Renames = ()
    journal: str | None = None
    journal_days: float = 400.0


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
    """a word that is not empty"""
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
        return text  # a path may hold commas
    words = [word.strip().lower() for word in text.split(",")]
    if words not in (["auto"], ["none"]) and not set(words) <= SENSOR_FAMILIES:
        raise ValueError
    return ",".join(dict.fromkeys(words))


def _renames(text: str) -> Renames:
    """NAME=NEW pairs with commas between, where NAME may hold * and ?"""
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
    """NAME=VALUE pairs with commas between, each name once"""
    pairs = [pair.partition("=") for pair in text.split(",")]
    found = tuple((name.strip(), value.strip()) for name, _, value in pairs)
    if not all(name and value for name, value in found) or len(dict(found)) < len(found):
        raise ValueError
    return found


def _lifetimes(text: str) -> Pairs:
    """years, or NAME=YEARS pairs with commas between"""
    pairs = _pairs(text) if "=" in text else (("", text.strip()),)
    for _, years in pairs:
        _number(0.1, 50.0, "")(years)
    return pairs


def _quantization(text: str) -> str:
    """paper-tool, bits, or DTYPE=FACTOR pairs with commas between"""
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
    """One setting: its field in :class:`Config`, how its text is read, and what it means."""

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
        """What a value must look like, for error messages."""
        return (self.parse.__doc__ or "a value").strip()

    @property
    def is_switch(self) -> bool:
        """Whether the flag stands alone (``--strict``)."""
        return self.parse is _boolean


OPTIONS: Final[tuple[Option, ...]] = (
    Option("host", _text, "ADDRESS", "address on which /metrics is served (0.0.0.0 in a container)"),
    Option("port", _integer(0, 65535), "PORT", "port on which /metrics is served; 0 picks a free one"),
    Option("zone", _text, "ZONE", "grid zone (FR, US-CA) or cloud region (aws:eu-central-1); default WORLD"),
    Option("pue", _number(1.0, 10.0, ""), "RATIO", "power usage effectiveness of the site"),
    Option("wue", _number(0.0, 100.0, " L/kWh"), "L/KWH", "water usage effectiveness of the site"),
    Option("ewif", _number(0.0, 100.0, " L/kWh"), "L/KWH", "water consumed per kWh generated, over the table's"),
    Option(
        "reservoir_evaporation",
        _boolean,
        "",
        "count what reservoirs of hydro power evaporate; on unless --reservoir-evaporation=false",
    ),
    Option(
        "cloud_metadata",
        _choice("auto", "on", "off", "aws", "gcp", "azure", "ovhcloud", "scaleway"),
        "WHICH",
        "ask the cloud where this is: auto (where the firmware names a cloud), on, off, or one provider",
    ),
    Option(
        "grid",
        _live("table", "electricitymaps", "neso", "rte", "entsoe"),
        "SOURCE",
        "grid carbon intensity: table, live from electricitymaps, neso, rte or entsoe, csv:FILE, or an address",
    ),
    Option("grid_region", _text, "NAME", "what the live source calls this place (DE-LU, a postcode, an EIC code)"),
    Option("grid_url", _url, "URL", "address of the live source's API in place of the public one"),
    Option(
        "marginal",
        _live("none", "watttime"),
        "SOURCE",
        "marginal carbon intensity, a figure of its own: none, watttime, csv:FILE, or an address",
    ),
    Option("marginal_region", _text, "NAME", "what the marginal source calls this place (CAISO_NORTH)"),
    Option("marginal_url", _url, "URL", "address of the marginal source's API in place of the public one"),
    Option("grid_refresh", _number(1.0, 86400.0, " seconds"), "SECONDS", "how old a live figure is asked for anew"),
    Option(
        "grid_max_age",
        _number(1.0, 604800.0, " seconds"),
        "SECONDS",
        "how long the last live figure stands when no new one comes; then the table's",
    ),
    Option("cache", _text, "FOLDER", "where live figures are kept over restarts (default ~/.cache/ecolyzer); none"),
    Option(
        "market_factor",
        _number(0.0, 2000.0, " g/kWh"),
        "G/KWH",
        "contractual emission factor of the electricity: gives market-based grams as a second figure",
    ),
    Option("market_source", _text, "TEXT", "what the contractual factor rests on (contract, certificate, year)"),
    Option(
        "embodied",
        _pairs,
        "PART=KG,...",
        "embodied kgCO2e of server and gpu, or names of the table's rows (server=PowerEdge R740,gpu=auto)",
    ),
    Option("lifetime", _lifetimes, "YEARS", "for how long hardware is used: years, or PART=YEARS,..."),
    Option("reserved", _number(0.0, 1.0, ""), "RATIO", "part of the server that is reserved for what is measured"),
    Option(
        "sampling_period",
        _number(0.005, 60.0, " seconds"),
        "SECONDS",
        "how often sensors are read under load",
    ),
    Option(
        "log_level",
        _choice("debug", "info", "warning", "error"),
        "LEVEL",
        "how much the meter says on stderr",
    ),
    Option("strict", _boolean, "", "do not start the command when a setting or the meter has a fault"),
    Option(
        "sensors",
        _sensors,
        "SOURCES",
        "auto, a list of rapl, nvml, amd, apple, hwmon, ipmi, modelled (rapl,nvml), none, or replay:FILE",
    ),
    Option("sysfs", _text, "FOLDER", "root of the sysfs tree that sensors are read from (default /sys)"),
    Option(
        "quantization",
        _quantization,
        "PRESET",
        "quantization factors of ESS: paper-tool (all 1), bits (bits/32), or DTYPE=FACTOR,...",
    ),
    Option("agent_socket", _text, "PATH", "socket of the node agent to report to; none starts a meter in any case"),
    Option("max_label_sets", _integer(10, 1_000_000), "N", "label sets kept per metric; the rest is __other__"),
    Option(
        "exit_flush",
        _boolean,
        "",
        "see to the last requests at exit, for at most 1 s; on unless --exit-flush=false",
    ),
    Option("count_training", _boolean, "", "count forward passes of training like requests"),
    Option("model_names", _renames, "NAME=NEW,...", "other names for models (BertModel=support-bot,*/tmp*=draft)"),
    Option("journal", _text, "FOLDER", "keep a journal of all figures there, for ecolyzer report --journal"),
    Option("journal_days", _number(1.0, 36500.0, " days"), "DAYS", "how long the journal is kept"),
)
_BY_NAME: Final = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration and what was wrong on the way to it."""

    config: Config
    problems: tuple[ConfigError, ...] = ()


def _parse(option: Option, text: str, key: str, problems: list[ConfigError]) -> Any:
    """The value of ``text``, or None with the problem noted."""
    try:
        return option.parse(text)
    except (ValueError, OverflowError):
        problems.append(ConfigError(key, f"{text!r} cannot be used", f"give {option.expects}"))
        return None


def _closest(word: str, known: Sequence[str]) -> str:
    import difflib  # late: the launcher should not pay for a message that it seldom prints

    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else "see ecolyzer-instrument --help"


def parse_flags(
    arguments: Sequence[str], problems: list[ConfigError]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Split ``[options] CMD ARGS...`` without ever failing.

    Returns the option texts by name, the bare words ``--help`` / ``--version`` that were asked for, and the
    command. An unknown option is noted in ``problems`` and skipped; ``--`` ends the options.
    """
    texts: dict[str, str] = {}
    asked: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        if word in ("-h", "--help", "--version"):
            asked.append("--help" if word == "-h" else word)
            continue
        flag, has_value, value = word.partition("=")
        option = _BY_NAME.get(flag[2:].replace("-", "_")) if flag.startswith("--") else None
        if option is None:
            problems.append(ConfigError(flag, "is not an option", _closest(flag, [o.flag for o in OPTIONS])))
        elif has_value:
            texts[option.name] = value
        elif option.is_switch:
            texts[option.name] = "true"
        elif rest:
            texts[option.name] = rest.pop(0)
        else:
            problems.append(ConfigError(flag, "has no value", f"give {option.expects}"))
    return texts, asked, rest


def _read_file(path: str, problems: list[ConfigError]) -> Mapping[str, Any]:
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, "rb") as file:
            table: dict[str, Any] = tomllib.load(file)
            return table
    except OSError as error:
        problems.append(
            ConfigError("ECOLYZER_CONFIG", f"{path} cannot be read ({error.strerror})", "give a TOML file")
        )
    except ValueError as error:
        problems.append(ConfigError("ECOLYZER_CONFIG", f"{path} is not TOML ({error})", "mend the file"))
    return {}


def load(
    flags: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    problems: Sequence[ConfigError] = (),
) -> Loaded:
    """The configuration from ``flags`` (texts by option name), the environment, ``ECOLYZER_CONFIG``, defaults.

    Args:
        flags: option texts by name, as :func:`parse_flags` gives them.
        environ: the environment; default ``os.environ``.
        problems: what was already found wrong; carried into the result.

    Returns:
        A configuration that can be used as it is, and every problem met. Never raises for a bad setting.
    """
    environ = os.environ if environ is None else environ
    found = list(problems)
    values: dict[str, Any] = {}
    path = environ.get("ECOLYZER_CONFIG")
    if path:
        for key, value in _read_file(path, found).items():
            option = _BY_NAME.get(key)
            if option is None:
                found.append(ConfigError(f"{key} in {path}", "is not an option", _closest(key, list(_BY_NAME))))
                continue
            if isinstance(value, dict):
                value = ",".join(f"{name}={new}" for name, new in value.items())
            parsed = _parse(option, str(value), f"{key} in {path}", found)
            if parsed is not None:
                values[key] = parsed
    for option in OPTIONS:
        for source, key in (
            (environ.get(option.variable), option.variable),
            ((flags or {}).get(option.name), option.flag),
        ):
            # An empty variable counts as unset (the OpenTelemetry rule); an empty flag is a mistake.
            if source is None or (source == "" and key == option.variable):
                continue
            parsed = _parse(option, source, key, found)
            if parsed is not None:
                values[option.name] = parsed
    return Loaded(Config(**values), tuple(found))


if {field.name for field in fields(Config)} != set(_BY_NAME):  # pragma: no cover - a mistake of ours
    raise AssertionError("Config and OPTIONS name different settings")
