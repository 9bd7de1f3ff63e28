"""Nine days of a service that nobody could wait for, as blocks of Prometheus' own storage.

What is compared with a week ago, and the month's budget, need a past. It is written with promtool, as an operator
imports one, under the labels that the live service has.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .tools import tool

DAYS = 9
STEP_SECONDS = 300


def series(instance: str, service: str, models: Mapping[str, float]) -> Iterator[tuple[str, str, float]]:
    """Name, labels and value of every series; ``models`` has joules per request."""
    for model, joules in models.items():
        labels = f'job="ecolyzer",service="{service}",model="{model}"'
        dtype = f'{labels},device="cpu",dtype="float32"'
        for name, value in (
            ("ecolyzer_requests:rate1h", 2.0),
            ("ecolyzer_energy_joules:rate1h", 2.0 * joules),
            ("ecolyzer_co2e_grams:rate1h", 1e-3),
            ("ecolyzer_energy_joules_per_request:ratio_avg7d_rate1h", joules),
        ):
            yield f"job_service_model:{name}", labels, value
        for name in ("ecolyzer_ess:avg", "ecolyzer_ess:avg7d_avg"):
            yield f"job_service_model_device_dtype:{name}", dtype, 1e6
    for rate in ("rate5m", "rate1h"):
        yield f"job_instance:ecolyzer_co2e_grams:{rate}", f'job="ecolyzer",instance="{instance}"', 3e-3


def write(folder: Path, instance: str, service: str, models: Mapping[str, float]) -> None:
    """Fill a storage that no server has opened yet, up to now."""
    end = time.time()
    steps = [end - back * STEP_SECONDS for back in range(DAYS * 86400 // STEP_SECONDS, -1, -1)]
    lines: list[str] = []
    by_name: dict[str, list[tuple[str, float]]] = {}
    for name, labels, value in series(instance, service, models):
        by_name.setdefault(name, []).append((labels, value))
    for name, found in by_name.items():
        lines.append(f"# TYPE {name} gauge")
        for labels, value in found:
            # A little more by day than by night.
            lines += [f"{name}{{{labels}}} {value * (1 + 0.2 * (t % 86400 > 43200))} {t:.3f}" for t in steps]
    file = folder.with_suffix(".om")
    file.write_text("\n".join([*lines, "# EOF", ""]))
    subprocess.run(
        [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(file), str(folder)],
        check=True,
        capture_output=True,
        timeout=240,
    )
