"""A journal whose figures can be computed by hand, and a report of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.report.figures import tables
from ecolyzer_otel.report.from_journal import from_journal
from ecolyzer_otel.report.projection import project
from ecolyzer_otel.report.provenance import provenance
from ecolyzer_otel.report.quality import assess
from ecolyzer_otel.report.sections import Findings

from .made import DAY, HOUR, OCTOBER, drawn, keep, line, place, served

CHAT = ("assistant", "llama", "transformers", "generate", "cuda:0", "/chat")
SCORE = ("shop", "fraud", "xgboost", "predict", "cpu", "/orders")


def hour(start: float, seq: int, *, embodied: bool = True, market: bool = True) -> bytes:
    """One hour: 36 kJ of the GPU and 7.2 kJ of the CPU for requests, at PUE 1.2, 50 g/kWh, 0.3 and 4 L/kWh."""
    growth: dict[Any, Any] = served(
        CHAT, requests=100, active=32_400.0, idle=3_600.0, grams=0.6, embodied=0.2 if embodied else None,
        onsite=0.003, offsite=0.048, market=0.12 if market else None, uncertainty=1_800.0, tokens=(9000, 1000),
        errors=1,
    )  # fmt: skip
    growth |= served(
        SCORE, requests=400, active=7_200.0, component="cpu", grams=0.12, embodied=0.04 if embodied else None,
        onsite=0.0006, offsite=0.0096, market=0.024 if market else None, uncertainty=360.0,
    )  # fmt: skip
    growth |= drawn("gpu0", "gpu", requests=32_400.0, process=600.0, host=0.0, idle=39_000.0)
    growth |= drawn("package-0", "cpu", requests=7_200.0, process=800.0, host=2_800.0, idle=25_200.0)
    if embodied:
        growth[Metric.EMBODIED, ("gpu0", "gpu")] = 0.5
    gauges = place(
        "DE", 50.0, pue=1.2, wue=0.3, ewif=4.0, market=10.0 if market else None, embodied=embodied, year="2025"
    )
    told: dict[Any, Any] = dict(gauges)
    told[Metric.MODEL_EFFECTIVE_PARAMETERS, ("llama", "transformers", "bfloat16")] = 8e9
    return line(seq, start, start + HOUR, growth, told)


def kept(folder: Path, hours: int = 48, *, begin: float = OCTOBER, **options: bool) -> Path:
    starts = [begin + n * HOUR for n in range(hours)]
    return keep(folder, [(start + HOUR, hour(start, n, **options)) for n, start in enumerate(starts)])


def findings(folder: Path, since: float = OCTOBER, until: float = OCTOBER + 2 * DAY, **options: Any) -> Findings:
    seen = from_journal(str(folder), since, until, **options)
    figures, factors = tables(seen), provenance(seen)
    return Findings(seen, figures, factors, assess(seen, figures, factors), project(seen, figures))


@pytest.fixture(scope="session")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(tmp_path_factory.mktemp("journal") / "j")


@pytest.fixture(scope="session")
def found(two_days: Path) -> Findings:
    return findings(two_days)
