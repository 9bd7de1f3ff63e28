"""The start-up time that measuring adds to a service, and to the imports of each worker."""

from __future__ import annotations

import os
import random
import re
import statistics
import subprocess
import sys
import time
from typing import Any

from service_lib.figures import Spread, Target, show, spread
from service_lib.variants import INSTRUMENT, VARIANTS, Service, environment

MAX_START, MAX_IMPORT = 0.3, 0.15
_IMPORTS = "import sys, fastapi, uvicorn, onnxruntime, numpy; sys.stdout.write('up'); sys.stdout.flush()"
_BARE_IMPORT = "import ecolyzer_otel"


def first_answers(folders: str, repeats: int, core: int | None) -> dict[str, list[float]]:
    """Seconds from the start of the command to the first response; each variant once per round, in random order."""
    names = ("bare", "otel", "metrics", "traced")
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(repeats + 1):
        for name in random.sample(names, len(names)):
            service = Service(VARIANTS[name], folders, 0, core)
            try:
                took = service.first_answer()
                service.find_meter()
            finally:
                service.stop()
            if number:  # the first round fills the page cache
                found[name].append(took)
    return found


def worker_variables(folders: str) -> dict[str, str]:
    """The environment variables that the launcher sets for CMD and its workers, without a meter."""
    command = [INSTRUMENT, "--agent-socket", "none", "--port", "0", "--cloud-metadata", "off", "env", "-0"]
    output = subprocess.run(
        command, env=environment(VARIANTS["metrics"], folders), capture_output=True, text=True, check=True
    )
    found = dict(pair.split("=", 1) for pair in output.stdout.split("\0") if "=" in pair)
    return {key: value for key, value in found.items() if key != "ECOLYZER_METER_FOLDER"}


def imports(folders: str, repeats: int) -> dict[str, list[float]]:
    """Seconds until a worker has finished the imports of the service: bare, and as a child of the launcher."""
    plain, ours = environment(VARIANTS["bare"], folders), worker_variables(folders)
    kinds = {"bare": (_IMPORTS, plain), "measured": (_IMPORTS, ours), "nothing": ("pass", plain)}
    kinds["ecolyzer_otel"] = (_BARE_IMPORT, plain)
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(repeats + 1):
        for kind in random.sample(list(kinds), len(kinds)):
            code, variables = kinds[kind]
            began = time.perf_counter()
            with subprocess.Popen([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.read(2)
                took = time.perf_counter() - began
            if number:
                found[kind].append(took)
    return found


def breakdown(folders: str) -> list[tuple[str, float, int]]:
    """The packages that only a measured worker imports: milliseconds (with tracing), and modules."""
    base = _import_times(environment(VARIANTS["bare"], folders))
    measured = _import_times(worker_variables(folders))
    found: dict[str, list[float]] = {}
    for module, milliseconds in measured.items():
        if module not in base:
            found.setdefault(_package(module), []).append(milliseconds)
    rows = [(package, sum(times), len(times)) for package, times in found.items()]
    return sorted(rows, key=lambda row: -row[1])[:15]


def _package(module: str) -> str:
    words = module.split(".")
    return ".".join(
        words[:3] if words[0] == "opentelemetry" else words[:2] if words[0] == "ecolyzer_otel" else words[:1]
    )


def _import_times(variables: dict[str, str]) -> dict[str, float]:
    runs: list[dict[str, float]] = []
    for _ in range(3):
        command = [sys.executable, "-X", "importtime", "-c", _IMPORTS]
        output = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stderr
        lines = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", output)
        runs.append({module: int(micros) / 1e3 for micros, module in lines})
    return {module: statistics.median(run.get(module, 0.0) for run in runs) for module in runs[0]}


def added(found: dict[str, list[float]], ours: str, other: str) -> Spread:
    return spread([one - two for one, two in zip(found[ours], found[other], strict=True)])


def milliseconds(one: Spread) -> str:
    return f"{one.median * 1e3:+.0f} ms [{one.low * 1e3:+.0f} to {one.high * 1e3:+.0f}]"


def report(
    starts: dict[str, dict[str, list[float]]],
    loaded: dict[str, list[float]],
    packages: list[tuple[str, float, int]],
) -> tuple[list[Target], dict[str, Any]]:
    targets, rows = [], []
    for where, found in starts.items():
        for name, times in found.items():
            over = "" if name == "bare" else milliseconds(added(found, name, "bare"))
            rows.append((f"first response, {name}, {where}", f"{statistics.median(times) * 1e3:.0f} ms", over))
        for name in ("metrics", "traced"):
            start = added(found, name, "bare")
            targets.append(
                Target(
                    f"start-up, {name}, {where}", milliseconds(start), f"at most {MAX_START:g} s over bare",
                    start.at_most(MAX_START),
                )
            )  # fmt: skip
    for kind, other in (("bare", ""), ("measured", "bare"), ("ecolyzer_otel", "nothing")):
        over = milliseconds(added(loaded, kind, other)) if other else ""
        rows.append((f"imports of a worker, {kind}", f"{statistics.median(loaded[kind]) * 1e3:.0f} ms", over))
    show("From the start of the process", ("", "median", "over bare, paired"), rows)
    rows = [(package, f"{spent:.1f}", number) for package, spent, number in packages]
    show("Packages that only a measured worker imports (-X importtime)", ("package", "ms", "modules"), rows)
    worker = added(loaded, "measured", "bare")
    alone = added(loaded, "ecolyzer_otel", "nothing")
    limit = f"at most {MAX_IMPORT:g} s"
    targets.append(Target("imports, each worker", milliseconds(worker), limit, worker.at_most(MAX_IMPORT)))
    targets.append(Target("import ecolyzer_otel", milliseconds(alone), limit, alone.at_most(MAX_IMPORT)))
    return targets, {"first_answers": starts, "imports": loaded, "packages": packages, "cpus": os.cpu_count()}
