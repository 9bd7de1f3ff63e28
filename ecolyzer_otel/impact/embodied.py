"""Embodied emissions: the emissions of making the hardware, spread over its lifetime.

SCI (ISO/IEC 21031:2024)::

    M = TE x TS x RS,  TS = TiR / EL,  RS = RR / ToR

with TE the embodied emissions of the hardware, TiR the time for which it is used here, EL its expected lifespan, RR
and ToR the resources reserved and the total. A request's time is its share of the device's time: each instant is
divided equally among the requests in flight, so the requests of one device never add up to more than the device's
time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from ecolyzer_otel.common.config import Pairs
from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.tables import EmbodiedRow, embodied_table

__all__ = ["SECONDS_PER_YEAR", "Device", "Embodied", "EmbodiedPart", "embodied_of", "time_share_grams"]

#: A year of 365 days, as the worked examples of the SCI guidance count lifespans.
SECONDS_PER_YEAR: Final = 365 * 86400.0
_KEY: Final = "--embodied (ECOLYZER_EMBODIED)"
_MAX_KILOGRAMS: Final = 100_000.0
#: 95 % factors (the range is the figure divided and multiplied by one) by the confidence that the table states: a
#: reviewed footprint of the same product; a figure of the same kind of product; a figure of its class.
_FACTOR: Final = {"high": 1.2, "medium": 1.5, "low": 2.0}
#: A pattern of NVML's name of a GPU, and its row.
_GPUS: Final = (
    (r"\bH100 (SXM|80GB HBM3)", "NVIDIA H100 SXM 80GB"),
    (r"\bB200\b", "NVIDIA B200 SXM"),
    (r"\bA100-SXM4-40GB", "NVIDIA A100 SXM4 40GB"),
    (r"\bA100-PCIE-40GB", "NVIDIA A100 PCIe 40GB"),
)


class Device(Protocol):
    """The facts of a device of the host that its embodied emissions need, from its sensor."""

    @property
    def id(self) -> str:
        """The label of its sensor: ``package-0``, ``gpu0``."""

    @property
    def component(self) -> str:
        """``cpu``, ``gpu`` or ``dram``."""

    @property
    def description(self) -> str:
        """The name of the hardware."""


@dataclass(frozen=True, slots=True)
class EmbodiedPart:
    """One item with embodied emissions: kgCO2e, lifetime in years, the fraction reserved here, and its source.

    ``uncertainty`` is relative, one standard uncertainty; None where the figure is the user's own.
    """

    name: str
    kilograms: float
    lifetime_years: float
    reserved: float
    source: str
    boundary: str = ""
    uncertainty: float | None = None

    @property
    def grams_per_second(self) -> float:
        """gCO2e per second of its lifetime, of the reserved fraction."""
        return time_share_grams(self.kilograms, self.lifetime_years, 1.0, self.reserved)


@dataclass(frozen=True, slots=True)
class Embodied:
    """Embodied emissions of a host: its parts, gCO2e per second by sensor, and problems of the settings.

    ``uncertainty`` is the relative standard uncertainty of a request's embodied grams: the largest of its parts'.
    """

    parts: tuple[EmbodiedPart, ...] = ()
    by_sensor: Mapping[str, float] = field(default_factory=dict)
    uncertainty: float = 0.0
    problems: tuple[ConfigError, ...] = ()

    def grams(self, seconds: Iterable[tuple[str, float]]) -> float | None:
        """gCO2e of a request by its (sensor, share of the device's time in s).

        Returns:
            None where no device that it used has embodied emissions: unknown, not zero.
        """
        grams = [self.by_sensor[sensor] * time for sensor, time in seconds if sensor in self.by_sensor]
        return math.fsum(grams) if grams else None


def time_share_grams(total_kg: float, lifetime_years: float, seconds: float, reserved: float = 1.0) -> float:
    """M = TE x (TiR / EL) x (RR / ToR) of SCI (ISO/IEC 21031:2024), in gCO2e.

    Args:
        total_kg: TE, embodied emissions of the hardware in kgCO2e.
        lifetime_years: EL, years of 365 days.
        seconds: TiR.
        reserved: RR / ToR, 0 to 1.
    """
    return total_kg * 1000.0 * seconds / (lifetime_years * SECONDS_PER_YEAR) * reserved


def embodied_of(pairs: Pairs, lifetimes: Pairs, reserved: float, sensors: Iterable[Device]) -> Embodied:
    """The embodied emissions of a host with these sensors, by the settings. Never raises: see ``problems``.

    Args:
        pairs: ``server``, ``gpu`` (each GPU) or the id of a sensor, each with kgCO2e or the name of a row of the
            table, or a part of the name that only one row contains; ``gpu=auto`` finds the row by the GPU's name.
        lifetimes: years by the same words, "" for all. Default: the row's own.
        reserved: the fraction of the server reserved for the measured services (for a virtual machine: its share).
        sensors: the host's devices.
    """
    infos = list(sensors)
    years = dict(lifetimes)
    parts: list[EmbodiedPart] = []
    rates: dict[str, float] = {}
    problems: list[ConfigError] = []
    for word, text in pairs:
        for sensors_of, name in _targets(word, text, infos, problems):
            try:
                part = _part(word, name, years, reserved if word == "server" else 1.0)
            except ConfigError as error:
                problems.append(error)
                continue
            if part not in parts:
                parts.append(part)
            for info in sensors_of:
                rates[info.id] = part.grams_per_second / (len(sensors_of) if word == "server" else 1)
    uncertainty = max((part.uncertainty or 0.0 for part in parts), default=0.0)
    return Embodied(tuple(parts), rates, uncertainty, tuple(problems))


def _targets(
    word: str, text: str, infos: list[Device], problems: list[ConfigError]
) -> list[tuple[list[Device], str]]:
    """The sensors of the part that ``word`` names, with their figure or row."""
    gpus = [info for info in infos if info.component == "gpu"]
    if word == "server":
        # The processors' time is the server's; a host without measured processors uses that of its GPUs.
        hosts = [info for info in infos if info.component == "cpu"] or gpus
        return [(hosts, text)] if hosts else []
    if word == "gpu" and text.lower() == "auto":
        found = []
        for info in gpus:
            row = next((row for pattern, row in _GPUS if re.search(pattern, info.description)), None)
            if row is None:
                problem = f"the table has no figure for {info.description} ({info.id})"
                problems.append(ConfigError(_KEY, problem, f"give {info.id}=KG"))
            else:
                found.append(([info], row))
        return found
    named = gpus if word == "gpu" else [info for info in infos if info.id == word]
    if not named and word != "gpu":
        parts = ", ".join(["server", "gpu", *(info.id for info in infos)])
        problems.append(ConfigError(_KEY, f"{word!r} is not a part of this host", f"give one of {parts}"))
    return [(named, text)] if named else []


def _part(word: str, text: str, years: Mapping[str, str], reserved: float) -> EmbodiedPart:
    configured = years.get(word, years.get("gpu" if word.startswith("gpu") else "", years.get("")))
    lifetime = float(configured) if configured is not None else None
    uncertainty: float | None = None
    try:
        kilograms = float(text)
    except ValueError:
        row = _row(text)
        lifetime = lifetime or row.lifetime_years
        kilograms, source, boundary = row.kilograms, f"{row.item}: {row.source}", row.boundary
        uncertainty = math.log(_FACTOR.get(row.confidence, _FACTOR["low"])) / 2.0
    else:
        if not 0.0 <= kilograms <= _MAX_KILOGRAMS:  # also refuses NaN
            raise ConfigError(_KEY, f"{word}={text} is out of range", f"give kgCO2e from 0 to {_MAX_KILOGRAMS:g}")
        source, boundary = "configured", "configured"
    if lifetime is None:
        raise ConfigError(_KEY, f"{word}={text}: the lifetime is missing", "give --lifetime YEARS (3 to 6)")
    return EmbodiedPart(word, kilograms, lifetime, reserved, source, boundary, uncertainty)


def _row(text: str) -> EmbodiedRow:
    """The row of this name, else the only one whose name ends with it, else the only one that contains it."""
    names = {row.item.casefold(): row for row in embodied_table().values()}
    key = text.strip().casefold()
    found = [row for name, row in names.items() if name == key or name.endswith(f" {key}")]
    found = found or [row for name, row in names.items() if key in name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(_KEY, f"the table has no row named {text!r}", "give kgCO2e as a number")
    some = ", ".join(repr(row.item) for row in found[:4])
    raise ConfigError(_KEY, f"{text!r} matches {len(found)} rows", f"give the full name of one: {some}; or kgCO2e")
