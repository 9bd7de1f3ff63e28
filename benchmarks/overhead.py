"""The overhead of measuring a call: ours, a bare OpenTelemetry span and peers, compared in one run.

    python benchmarks/overhead.py                      # every workload, about half an hour
    python benchmarks/overhead.py --quick              # the main ones, about 100 seconds
    python benchmarks/overhead.py --workloads mlp,bert --variants ours,span --rounds 60
    python benchmarks/overhead.py --peers peers/bin/python --json overhead.json

Each variant runs in its own process: ours is started by ``ecolyzer-instrument`` with a real meter, spans go
through the SDK and its BatchSpanProcessor into an exporter that does nothing. In rounds, in random order, each
process runs a block of calls with its variant on and one with it off, and the same with calls paced at 1 ms.
The value of a block is the lower quartile of its calls, because disturbances only add time. The overhead is the
difference of two blocks, in the CPU time of the caller and, for paced calls, in wall time. The table has the
median over the rounds, and ratios to a bare span in the same rounds with 95 % bootstrap intervals. ``bare``
compares two equal blocks: its quartiles show the noise. Only one process works at a time, and all its
background work is done before the next one starts. That work is listed separately:

    behind us   CPU of the background threads per call, while the process serves at 1 ms, until all is settled
    meter us    CPU of the meter in that time, by its own figure
    blocks      memory blocks that a call holds until it is settled
    kept B      bytes that it holds after that

Peers are not dependencies of this project. Give a Python that has them, with the same frameworks:

    python -m venv peers
    peers/bin/pip install torch==2.13.0 transformers onnxruntime onnx scikit-learn opentelemetry-sdk \\
        codecarbon zeus openlit opentelemetry-instrumentation-transformers

OpenLIT and OpenLLMetry instrument text-generation pipelines only. zeus reads a RAPL counter that is a file in
memory.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overhead_lib.processes import Failed, Place, Process
from overhead_lib.statistics import low, percentile, ratio, spread
from overhead_lib.table import lines
from overhead_lib.variants import VARIANTS
from overhead_lib.workloads import WORKLOADS

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "overhead.png"
QUICK_WORKLOADS = ("noop", "onnx", "mlp", "pipeline")
QUICK_VARIANTS = ("bare", "ours", "ours-1", "span")
#: Seconds of a block, of a chunk between two clock readings, and of a block of paced calls.
BLOCK_SECONDS, CHUNK_SECONDS, PACED_SECONDS = 0.04, 0.0002, 0.1
#: Limits of the calls in a block: fewer than a span processor can hold, and a few for slow peers.
MAX_CALLS, MIN_CALLS = 1000, 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog=(__doc__ or "").partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--workloads", help=f"choose from {','.join(WORKLOADS)}")
    parser.add_argument("--variants", help=f"choose from {','.join(VARIANTS)}; bare and span are always included")
    parser.add_argument("--rounds", type=int, help="rounds; default 20")
    parser.add_argument("--calls", type=int, help="most calls in a block, which takes 40 ms; default 1000")
    parser.add_argument("--paced", type=int, default=50, help="paced calls in a round")
    parser.add_argument("--serve", type=float, help="seconds of calls at a pace of 1 ms; default 2, 0 for none")
    parser.add_argument("--quick", action="store_true", help="the main workloads and variants, about 100 seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", metavar="PYTHON", help="a Python with the peers; default: this one")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="do not pin processes to cores")
    parser.add_argument("--worker-core", type=int, help="core of the workers; default: the first")
    parser.add_argument("--meter-core", type=int, help="core of the meters and of this program; default: the last")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--picture", type=Path, help=f"default: docs/images/{PICTURE.name}, if all workloads run")
    options = parser.parse_args()
    options.rounds = options.rounds or (5 if options.quick else 20)
    options.serve = (0.5 if options.quick else 2.0) if options.serve is None else options.serve
    for available, name, quick in (
        (WORKLOADS, "workloads", QUICK_WORKLOADS),
        (VARIANTS, "variants", QUICK_VARIANTS),
    ):
        given = getattr(options, name)
        chosen = given.split(",") if given else quick if options.quick else available
        for one in set(chosen) - set(available):
            parser.error(f"--{name}: unknown {one!r}; choose from {', '.join(available)}")
        setattr(options, name, [one for one in available if one in chosen or one in ("bare", "span")])
    options.all_workloads = not options.quick and len(options.workloads) == len(WORKLOADS)
    return options


def start(
    options: argparse.Namespace, workloads: Sequence[str], place: Place, result: dict[str, Any]
) -> list[Process]:
    """Start one process for each variant that supports these workloads; variants that fail are left out."""
    started = []
    for info in (VARIANTS[name] for name in options.variants):
        mine = [one for one in workloads if not info.only or one in info.only]
        if mine:
            started.append(Process(info, mine, place, (info.peer and options.peers) or sys.executable))
    running = []
    for process in started:
        try:
            result["versions"][process.info.name] = process.wait()["versions"]
            running.append(process)
        except Failed as reason:
            result["left_out"].append(f"{process.info.name} ({', '.join(process.workloads)}): {reason}")
            process.end()
    return running


def plan(process: Process, workload: str, options: argparse.Namespace) -> dict[str, Any]:
    """The numbers of calls in the blocks of a process, off and on."""
    seconds = process.ask("prepare", workload=workload)
    sizes: dict[str, Any] = {"seconds": seconds, "calls": {}, "chunks": {}, "paced": {}}
    for mode, one in seconds.items():
        slow = max(MIN_CALLS if one < 0.02 else 3, round(BLOCK_SECONDS / one))
        sizes["calls"][mode] = min(options.calls or MAX_CALLS, slow)
        sizes["chunks"][mode] = max(1, min(sizes["calls"][mode], round(CHUNK_SECONDS / one)))
        sizes["paced"][mode] = min(options.paced, max(slow, round(PACED_SECONDS / max(one, 0.001))))
    return sizes


def measure_family(
    options: argparse.Namespace, workloads: Sequence[str], place: Place, result: dict[str, Any]
) -> None:
    """Run all rounds of the workloads that share processes."""
    processes = start(options, workloads, place, result)
    pairs: dict[tuple[str, str], list[Any]] = {}
    try:
        plans = {(p.info.name, w): plan(p, w, options) for p in processes for w in p.workloads}
        pairs = {key: [] for key in plans}
        for _ in range(options.rounds):
            for workload in random.sample(list(workloads), len(workloads)):
                for process in random.sample(processes, len(processes)):
                    key = process.info.name, workload
                    if key in plans:
                        counts = {name: plans[key][name] for name in ("calls", "chunks", "paced")}
                        pairs[key].append(process.ask("pair", workload=workload, **counts))
        for workload in workloads:
            mine = [process for process in processes if workload in process.workloads]
            rows = {p.info.name: figures(pairs[p.info.name, workload], options.seed) for p in mine}
            for process in mine:
                row, seconds = rows[process.info.name], plans[process.info.name, workload]["seconds"]
                row["serving"] = serving(process, workload, options.serve)
                allocations = process.ask("allocations", workload=workload, seconds=seconds)
                row["allocations"] = {
                    name: allocations["on"][name] - allocations["off"][name] for name in allocations["on"]
                }
            result["workloads"][workload] = compared(rows, options.seed)
        if "noop" in workloads:
            result["floor"] = processes[0].ask("floor")
    finally:
        for process in processes:
            process.end()


def figures(pairs: Sequence[Any], seed: int) -> dict[str, Any]:
    """The figures of one variant and one workload: the overhead in each round, and its statistics."""

    def block(pair: Any, mode: str, key: str) -> float:
        return float(pair["blocks"][mode][key]) / 1e3

    added = {
        key: [block(pair, "on", key) - block(pair, "off", key) for pair in pairs]
        for key in ("cpu_ns", "cpu_mean_ns", "wall_ns")
    }
    walls = {mode: [one / 1e3 for pair in pairs for one in pair["paced"][mode]] for mode in ("off", "on")}
    paced = [(low(pair["paced"]["on"]) - low(pair["paced"]["off"])) / 1e3 for pair in pairs]
    return {
        "bare_cpu_us": statistics.median(block(pair, "off", "cpu_ns") for pair in pairs),
        "bare_paced_us": statistics.median(low(pair["paced"]["off"]) / 1e3 for pair in pairs),
        "cpu_us": spread(added["cpu_ns"], seed),
        "cpu_mean_us": spread(added["cpu_mean_ns"], seed),
        "block_wall_us": spread(added["wall_ns"], seed),
        "paced_us": spread(paced, seed),
        "paced_p99_us": percentile(walls["on"], 99) - percentile(walls["off"], 99),
        "rounds": {"cpu_us": added["cpu_ns"], "paced_us": paced},
    }


def compared(rows: dict[str, Any], seed: int) -> dict[str, Any]:
    """The rows with ratios to a bare span, in the order of the variants."""
    span = rows.get("span")
    for row in rows.values():
        for key in ("cpu", "paced") if span is not None else ():
            row[f"{key}_ratio"] = ratio(row["rounds"][f"{key}_us"], span["rounds"][f"{key}_us"], seed)
    return {name: rows[name] for name in VARIANTS if name in rows}


def serving(process: Process, workload: str, seconds: float) -> dict[str, float] | None:
    """CPU of the background work per call, at a steady pace."""
    if seconds <= 0:
        return None
    meter = process.meter_seconds()
    served = process.ask("serve", workload=workload, seconds=seconds)
    behind = (served["process_ns"] - served["caller_ns"]) / served["calls"] / 1e3
    row = {"calls": served["calls"], "behind_us": behind, "caller_us": served["caller_ns"] / served["calls"] / 1e3}
    after = process.meter_seconds()
    if meter is not None and after is not None:
        row["meter_us"] = (after - meter) / served["calls"] * 1e6
    return row


def main() -> int:
    options = arguments()
    random.seed(options.seed)
    place = Place.choose(options.worker_core, options.meter_core, pin=options.pin)
    result: dict[str, Any] = {
        "python": sys.version.split()[0], "rounds": options.rounds, "seed": options.seed,
        "cores": place._asdict(), "versions": {}, "workloads": {}, "left_out": [],
    }  # fmt: skip
    began = time.monotonic()
    families: dict[str, list[str]] = {}
    for name in options.workloads:
        families.setdefault(WORKLOADS[name].family, []).append(name)
    for names in families.values():
        print(f"{', '.join(names)}: {options.rounds} rounds", file=sys.stderr, flush=True)
        measure_family(options, names, place, result)
    result["workloads"] = {one: result["workloads"][one] for one in WORKLOADS if one in result["workloads"]}
    result["seconds"] = round(time.monotonic() - began)
    print("\n".join(lines(result)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    draw_picture(options, result)
    return 0


def draw_picture(options: argparse.Namespace, result: dict[str, Any]) -> None:
    path = options.picture or (PICTURE if options.all_workloads else None)
    if path is None:
        return
    try:
        from overhead_lib.picture import draw
    except ImportError as error:
        print(f"no picture drawn: {error} (pip install --group bench)", file=sys.stderr)
        return
    print(draw(result, path))


if __name__ == "__main__":
    sys.exit(main())
