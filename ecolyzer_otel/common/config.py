"""One frozen :class:`Config`: flags before ``ECOLYZER_*`` environment before file before defaults.

Every option is declared once, in :mod:`ecolyzer_otel.common.options`. A value that cannot be used is reported as a
:class:`~ecolyzer_otel.common.errors.ConfigError` that names the key, and the next source is used instead: settings
of the meter never keep a service from starting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.options import ENV_PREFIX, OPTIONS, SENSOR_FAMILIES, Option, Pairs, Renames

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of a meter. Immutable; make another with :func:`dataclasses.replace`.

    Units: ``pue`` is a ratio of at least 1, ``wue`` litres per IT kWh, ``ewif`` litres per kWh, ``market_factor``
    gCO2e per kWh, ``reserved`` a ratio; ``sampling_period``, ``grid_refresh`` and ``grid_max_age`` are seconds.
    ``embodied`` and ``lifetime`` are pairs as :mod:`ecolyzer_otel.impact.embodied` reads them;
    ``carbon_budget_per_request`` is pairs of a pattern of model names and grams, ``carbon_budget_per_month`` grams.
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
    carbon_budget_per_request: Pairs = ()
    carbon_budget_per_month: float | None = None
    journal: str | None = None
    journal_days: float = 400.0


_BY_NAME: Final = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration, and the problems met while loading it."""

    config: Config
    problems: tuple[ConfigError, ...] = ()


def _parse(option: Option, text: str, key: str, problems: list[ConfigError]) -> Any:
    """The value of ``text``, or None with a problem added."""
    try:
        return option.parse(text)
    except (ValueError, OverflowError):
        problems.append(ConfigError(key, f"{text!r} cannot be used", f"give {option.expects}"))
        return None


def _closest(word: str, names: Sequence[str]) -> str:
    import difflib  # late: needed only for an error message

    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]}?" if near else "see ecolyzer-instrument --help"


def parse_flags(
    arguments: Sequence[str], problems: list[ConfigError]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Split ``[options] CMD ARGS...``; never raises.

    Returns the option texts by name, the flags ``--help`` and ``--version`` that were given, and the command. An
    unknown option is added to ``problems`` and skipped; ``--`` ends the options.
    """
    texts: dict[str, str] = {}
    requested: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        if word in ("-h", "--help", "--version"):
            requested.append("--help" if word == "-h" else word)
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
    return texts, requested, rest


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
        problems.append(ConfigError("ECOLYZER_CONFIG", f"{path} is not TOML ({error})", "correct the file"))
    return {}


def load(
    flags: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    problems: Sequence[ConfigError] = (),
) -> Loaded:
    """Returns the configuration from ``flags``, the environment, the file ``ECOLYZER_CONFIG`` and the defaults.

    Args:
        flags: option texts by name, as :func:`parse_flags` gives them.
        environ: the environment; default ``os.environ``.
        problems: earlier problems, which the result contains as well.

    Returns:
        A usable configuration and every problem. Never raises for a setting that cannot be used.
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
            # An empty variable counts as unset (the OpenTelemetry rule); an empty flag is an error.
            if source is None or (source == "" and key == option.variable):
                continue
            parsed = _parse(option, source, key, found)
            if parsed is not None:
                values[option.name] = parsed
    return Loaded(Config(**values), tuple(found))


if {field.name for field in fields(Config)} != set(_BY_NAME):  # pragma: no cover - a mistake in this package
    raise AssertionError("Config and OPTIONS name different settings")
