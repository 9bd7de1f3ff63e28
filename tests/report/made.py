"""Journals of times past, line by line as a meter would have written them, with figures to be computed by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ecolyzer_otel.common.metrics import METRICS, Metric, MetricSpec
from ecolyzer_otel.export.journal_entries import VERSION, encode
from ecolyzer_otel.export.journal_files import day_of, file_name

LIFE = "0123456789abcdef"
#: 2026-10-01 00:00 UTC.
OCTOBER = 1790812800.0
HOUR = 3600.0
DAY = 86400.0

Growth = Mapping[tuple[MetricSpec, tuple[str, ...]], float | tuple[float, float]]


def line(
    seq: int,
    from_s: float,
    to_s: float,
    growth: Growth,
    gauges: Growth | None = None,
    life: str = LIFE,
    **facts: str,
) -> bytes:
    """One line of a journal."""
    strings: dict[str, int] = {}
    document: dict[str, Any] = {
        "v": VERSION, "life": life, "seq": seq, "from": from_s, "to": to_s,
        "facts": facts or {"version": "0.1.0", "host": "node-1"},
    }  # fmt: skip
    if gauges is not None:
        document["gauges"] = {}
    for (spec, labels), value in [*growth.items(), *(gauges or {}).items()]:
        family = document.setdefault(f"{spec.type}s", {})
        table = family.setdefault(spec.stem, {"labels": spec.labels, "points": []})
        indices = [strings.setdefault(text, len(strings)) for text in labels]
        table["points"].append([*indices, *(value if isinstance(value, tuple) else (value,))])
    return encode(document | {"strings": list(strings)})


def keep(folder: Path, lines: Iterable[tuple[float, bytes]], life: str = LIFE) -> Path:
    """A folder with these lines, each in the file of the day in which it ends."""
    folder.mkdir(exist_ok=True)
    for to_s, text in lines:
        with (folder / file_name(day_of(to_s), life, 0)).open("ab") as file:
            file.write(text)
    return folder


def served(
    labels: tuple[str, ...],
    *,
    requests: float,
    active: float,
    idle: float = 0.0,
    component: str = "gpu",
    grams: float = 0.0,
    embodied: float | None = None,
    onsite: float = 0.0,
    offsite: float = 0.0,
    market: float | None = None,
    uncertainty: float = 0.0,
    tokens: tuple[float, float] | None = None,
    errors: float = 0.0,
) -> dict[tuple[MetricSpec, tuple[str, ...]], float | tuple[float, float]]:
    """What requests of one label set make the counters grow by."""
    grown: dict[tuple[MetricSpec, tuple[str, ...]], float | tuple[float, float]] = {
        (Metric.REQUESTS, (*labels, "ok")): requests - errors,
        (Metric.REQUESTS, (*labels, "error")): errors,
        (Metric.ENERGY, (*labels, component, "active")): active,
        (Metric.ENERGY, (*labels, component, "idle")): idle,
        (Metric.CO2E, (*labels, "operational")): grams,
        (Metric.WATER, (*labels, "onsite")): onsite,
        (Metric.WATER, (*labels, "offsite")): offsite,
        (Metric.ENERGY_UNCERTAINTY, labels): uncertainty,
        (Metric.REQUEST_ENERGY, labels[:5]): (requests, active + idle),
    }
    if embodied is not None:
        grown[Metric.CO2E, (*labels, "embodied")] = embodied
    if market is not None:
        grown[Metric.MARKET_CO2E, labels] = market
    if tokens is not None:
        grown[Metric.TOKENS, (*labels, "input")], grown[Metric.TOKENS, (*labels, "output")] = tokens
    return grown


def drawn(device: str, component: str, method: str = "measured", **shares: float) -> dict[Any, float]:
    """What a device's counter grew by, by share."""
    return {(Metric.DEVICE_ENERGY, (device, component, method, share)): joules for share, joules in shares.items()}


def place(
    zone: str = "FR", carbon: float = 44.2, *, pue: float = 1.2, wue: float = 0.3, ewif: float = 3.67,
    market: float | None = None, embodied: bool = False, basis: str = "lifecycle_production", year: str = "2024",
) -> dict[tuple[MetricSpec, tuple[str, ...]], float]:  # fmt: skip
    """Gauges of a place and of the sensors of ``gpu0`` and ``package-0``."""
    at = (zone, "owid-ember")
    gauges = {
        (Metric.GRID_CARBON_INTENSITY, at): carbon,
        (Metric.GRID_CARBON_UNCERTAINTY, at): 0.05,
        (Metric.GRID_DATA_TIMESTAMP, at): 1735689599.0,
        (Metric.GRID_WATER_INTENSITY, at): ewif,
        (Metric.GRID_WATER_LOW, at): ewif / 1.7,
        (Metric.GRID_WATER_HIGH, at): ewif * 1.7,
        (Metric.PUE, at): pue,
        (Metric.WUE, at): wue,
        (Metric.SENSOR_UNCERTAINTY, ("gpu0", "measured")): 0.02,
        (Metric.SENSOR_UNCERTAINTY, ("package-0", "measured")): 0.01,
        (Metric.HOST_METERS, ()): 1.0,
        (Metric.BUILD_INFO, ("0.1.0",)): 1.0,
        factor("carbon", zone, f"{carbon:g}", "gCO2e/kWh", basis, "OWID energy data (Ember), CC-BY-4.0", year): 1.0,
        factor("water", zone, f"{ewif:g}", "L/kWh", "published", "WRI (Reig et al. 2020)", "2020"): 1.0,
        factor("pue", zone, f"{pue:g}", "1", "", "configured (ECOLYZER_PUE)", ""): 1.0,
        factor("wue", zone, f"{wue:g}", "L/kWh of IT", "", "configured (ECOLYZER_WUE)", ""): 1.0,
    }
    if market is not None:
        gauges[Metric.GRID_MARKET_FACTOR, (zone, "PPA Windpark Nord 2026")] = market
        told = factor("market", zone, f"{market:g}", "gCO2e/kWh", "contractual", "PPA Windpark Nord 2026", "")
        gauges[told] = 1.0
    if embodied:
        gauges[Metric.EMBODIED_RATE, ("gpu0", "gpu")] = 164_000 / (4 * 365.25 * DAY)
        basis = "cradle to gate; over 4 years"
        gauges[factor("embodied_gpu", "", "164", "kgCO2e", basis, "NVIDIA PCF HGX H100 (1312 kg / 8)", "")] = 1.0
    return gauges


def factor(*labels: str) -> tuple[MetricSpec, tuple[str, ...]]:
    return Metric.GRID_FACTOR, labels


def month(folder: Path, days: int = 31, *, begin: float = OCTOBER, seed: int = 1) -> Path:
    """A month of two services with five models on a GPU and a CPU, hour by hour, that looks like a real one."""
    llm = ("assistant", "Llama-3.1-8B-Instruct", "transformers", "generate", "cuda:0", "/v1/chat/completions")
    embed = ("assistant", "all-MiniLM-L6-v2", "sentence-transformers", "encode", "cuda:0", "/v1/embeddings")
    vision = ("shop", "resnet50", "torch", "forward", "cuda:0", "/classify")
    ocr = ("shop", "PP-OCRv4", "onnxruntime", "run", "cpu", "/receipts/{id}")
    fraud = ("shop", "fraud-score", "xgboost", "predict", "cpu", "/orders")
    gauges = dict(place(market=12.0, embodied=True))
    for name, framework, dtype, size in (
        (llm[1], "transformers", "bfloat16", 8.03e9), (embed[1], "sentence-transformers", "float32", 2.27e7),
        (vision[1], "torch", "float32", 2.5557e7),
    ):  # fmt: skip
        gauges[Metric.MODEL_EFFECTIVE_PARAMETERS, (name, framework, dtype)] = size
    lines, rate = [], 164_000 / (4 * 365.25 * DAY)
    for hour in range(days * 24):
        start = begin + hour * HOUR
        weekday = datetime.fromtimestamp(start, timezone.utc).weekday()
        load = (0.55 - 0.45 * math.cos((hour % 24 - 3) / 24 * 2 * math.pi)) * (0.45 if weekday >= 5 else 1.0)
        load *= 1.0 + 0.08 * math.sin(hour * 12.9898 * seed)
        carbon = 44.2 * (1.0 + 0.35 * math.sin((hour % 24 - 9) / 24 * 2 * math.pi))
        hourly = gauges | {(Metric.GRID_CARBON_INTENSITY, ("FR", "owid-ember")): carbon}
        growth: dict[Any, Any] = {}
        gpu = cpu = 0.0
        for labels, number, joules, component, told in (
            (llm, 900, 410.0, "gpu", (310.0, 240.0)), (embed, 5200, 1.3, "gpu", None),
            (vision, 14000, 2.1, "gpu", None), (ocr, 700, 55.0, "cpu", None), (fraud, 21000, 0.021, "cpu", None),
        ):  # fmt: skip
            count = float(round(number * load))
            active, idle = count * joules, 0.1 * count * joules
            kwh = (active + idle) / 3.6e6
            gpu, cpu = (gpu + active, cpu) if component == "gpu" else (gpu, cpu + active)
            growth |= served(
                labels, requests=count, active=active, idle=idle, component=component, grams=kwh * 1.2 * carbon,
                embodied=rate * HOUR * 0.4 * joules / 500, onsite=kwh * 0.3, offsite=kwh * 1.2 * 3.67,
                market=kwh * 1.2 * 12.0, uncertainty=0.08 * active, errors=float(round(count * 0.002)),
                tokens=None if told is None else (told[0] * count, told[1] * count),
            )  # fmt: skip
        growth |= drawn("gpu0", "gpu", requests=gpu, process=0.02 * gpu, host=0.0, idle=70.0 * HOUR)
        growth |= drawn("package-0", "cpu", requests=cpu, process=9e3 * load, host=2.2e4, idle=28.0 * HOUR)
        growth |= drawn("dram", "dram", "modelled", requests=0.0, process=9e2, host=2.2e3, idle=4.0 * HOUR)
        growth[Metric.EMBODIED, ("gpu0", "gpu")] = rate * HOUR
        growth[Metric.UNSETTLED_REQUESTS, ("shop", "late")] = float(hour % 24 == 12) * 3
        growth[Metric.SENSOR_ERRORS, ("gpu0", "stuck")] = float(hour % 97 == 5)
        if not 400 <= hour < 405:  # a meter that was away
            lines.append((start + HOUR, line(hour, start, start + HOUR, growth, hourly)))
    return keep(folder, lines)


assert {Metric.ENERGY, Metric.DEVICE_ENERGY} <= set(METRICS)
