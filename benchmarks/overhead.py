"""What a call pays for being measured: ours beside a bare OpenTelemetry span and beside peers, in one run.

    python benchmarks/overhead.py                      # every workload, about half an hour
    python benchmarks/overhead.py --quick              # the most telling ones, some 100 seconds
    python benchmarks/overhead.py --workloads mlp,bert --variants ours,span --rounds 60
    python benchmarks/overhead.py --peers peers/bin/python --json overhead.json

Each variant is a process of its own: ours is started by ``ecolyzer-instrument`` beside a real meter, spans go
through the SDK and its BatchSpanProcessor into an exporter that does nothing. In rounds, in random order, each
process runs a block of calls with its variant on and one with it off, and the same with calls paced at 1 ms. A
block tells the lower quartile of its calls, for whatever disturbs a call only adds to it. What is added is the
difference of two blocks, in the caller's CPU time and, of paced calls, in wall time; the table has the median over
the rounds, and ratios to a bare span in the same rounds with 95 % bootstrap intervals. ``bare`` compares two equal
blocks: what its quartiles span is noise. Only one process works at a time; before the next one does, everything in
the background is done. That is told apart:

    behind us   CPU of the process beside the caller's, per call, while it serves at 1 ms, until all is settled
    meter us    CPU of the meter meanwhile, by its own figure
    blocks      memory blocks that a call holds until it is settled
    kept B      bytes that it holds after that

Peers are no dependencies, and bring much along. Give a Python that has them, with the same frameworks:

    python -m venv peers
    peers/bin/pip install torch==2.13.0 transformers onnxruntime onnx scikit-learn opentelemetry-sdk \\
        codecarbon zeus openlit opentelemetry-instrumentation-transformers

OpenLIT and OpenLLMetry know text-generation pipelines only. zeus reads a RAPL counter that is a file in memory.
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
#: Seconds of a block, of one between two readings of the clocks, and of a block of paced calls.
BLOCK_SECONDS, CHUNK_SECONDS, PACED_SECONDS = 0.04, 0.0002, 0.1
#: Most calls in a block: fewer than a span processor can hold. A slow peer gets fewer, but some.
MOST_CALLS, LEAST_CALLS = 1000, 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog=(__doc__ or "").partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--workloads", help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--variants", help=f"some of {','.join(VARIANTS)}; bare and span are always there")
    parser.add_argument("--rounds", type=int, help="default 20")
    parser.add_argument("--calls", type=int, help="most in a block, which takes 40 ms; default 1000")
    parser.add_argument("--paced", type=int, default=50, help="paced calls of a round")
    parser.add_argument("--serve", type=float, help="seconds of serving at a pace of 1 ms; default 2, 0 for none")
    parser.add_argument("--quick", action="store_true", help="some 100 seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", metavar="PYTHON", help="a Python that has peers; default: this one")
    parser.add_argument(
        "--no-pin", dest="pin", action="store_false", help="leave processes where the kernel puts them"
    )
    parser.add_argument("--worker-core", type=int, help="default: the first")
    parser.add_argument("--meter-core", type=int, help="of meters and of this program; default: the last")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--picture", type=Path, help=f"default: docs/images/{PICTURE.name}, of all workloads only")
    options = parser.parse_args()
    options.rounds = options.rounds or (5 if options.quick else 20)
    options.serve = (0.5 if options.quick else 2.0) if options.serve is None else options.serve
    for known, name, few in ((WORKLOADS, "workloads", QUICK_WORKLOADS), (VARIANTS, "variants", QUICK_VARIANTS)):
        given = getattr(options, name)
        chosen = given.split(",") if given else few if options.quick else known
        for one in set(chosen) - set(known):
            parser.error(f"--{name}: there is no {one!r}; there are {', '.join(known)}")
        setattr(options, name, [one for one in known if one in chosen or one in ("bare", "span")])
    options.whole = not options.quick and len(options.workloads) == len(WORKLOADS)
    return options


def start(
    options: argparse.Namespace, workloads: Sequence[str], place: Place, result: dict[str, Any]
) -> list[Process]:
    """One process of each variant that these workloads concern; those that cannot be had are left out."""
    started = []
    for about in (VARIANTS[name] for name in options.variants):
        mine = [one for one in workloads if not about.only or one in about.only]
        if mine:
            started.append(Process(about, mine, place, (about.peer and options.peers) or sys.executable))
    running = []
    for process in started:
        try:
            result["versions"][process.about.name] = process.wait()["versions"]
            running.append(process)
        except Failed as reason:
            result["left_out"].append(f"{process.about.name} ({', '.join(process.workloads)}): {reason}")
            process.end()
    return running


def plan(process: Process, workload: str, options: argparse.Namespace) -> dict[str, Any]:
    """How many calls its blocks have, off and on."""
    seconds = process.ask("prepare", workload=workload)
    made: dict[str, Any] = {"seconds": seconds, "calls": {}, "chunks": {}, "paced": {}}
    for mode, one in seconds.items():
        slow = max(LEAST_CALLS if one < 0.02 else 3, round(BLOCK_SECONDS / one))
        made["calls"][mode] = min(options.calls or MOST_CALLS, slow)
        made["chunks"][mode] = max(1, min(made["calls"][mode], round(CHUNK_SECONDS / one)))
        made["paced"][mode] = min(options.paced, max(slow, round(PACED_SECONDS / max(one, 0.001))))
    return made


def measure_family(
    options: argparse.Namespace, workloads: Sequence[str], place: Place, result: dict[str, Any]
) -> None:
    """All rounds of the workloads that share processes."""
    processes = start(options, workloads, place, result)
    pairs: dict[tuple[str, str], list[Any]] = {}
    try:
        plans = {(p.about.name, w): plan(p, w, options) for p in processes for w in p.workloads}
        pairs = {key: [] for key in plans}
        for _ in range(options.rounds):
            for workload in random.sample(list(workloads), len(workloads)):
                for process in random.sample(processes, len(processes)):
                    key = process.about.name, workload
                    if key in plans:
                        sizes = {name: plans[key][name] for name in ("calls", "chunks", "paced")}
                        pairs[key].append(process.ask("pair", workload=workload, **sizes))
        for workload in workloads:
            mine = [process for process in processes if workload in process.workloads]
            rows = {p.about.name: figures(pairs[p.about.name, workload], options.seed) for p in mine}
            for process in mine:
                row, seconds = rows[process.about.name], plans[process.about.name, workload]["seconds"]
                row["serving"] = serving(process, workload, options.serve)
                left = process.ask("allocations", workload=workload, seconds=seconds)
                row["allocations"] = {name: left["on"][name] - left["off"][name] for name in left["on"]}
            result["workloads"][workload] = compared(rows, options.seed)
        if "noop" in workloads:
            result["floor"] = processes[0].ask("floor")
    finally:
        for process in processes:
            process.end()


def figures(pairs: Sequence[Any], seed: int) -> dict[str, Any]:
    """Of one variant and one workload: what each round has added, and what that makes."""

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
    """The same with ratios to a bare span, in the order of the variants."""
    span = rows.get("span")
    for row in rows.values():
        for key in ("cpu", "paced") if span is not None else ():
            row[f"{key}_ratio"] = ratio(row["rounds"][f"{key}_us"], span["rounds"][f"{key}_us"], seed)
    return {name: rows[name] for name in VARIANTS if name in rows}


def serving(process: Process, workload: str, seconds: float) -> dict[str, float] | None:
    """CPU beside the caller's, per call, at a steady pace."""
    if seconds <= 0:
        return None
    meter = process.meter_seconds()
    told = process.ask("serve", workload=workload, seconds=seconds)
    behind = (told["process_ns"] - told["caller_ns"]) / told["calls"] / 1e3
    row = {"calls": told["calls"], "behind_us": behind, "caller_us": told["caller_ns"] / told["calls"] / 1e3}
    after = process.meter_seconds()
    if meter is not None and after is not None:
        row["meter_us"] = (after - meter) / told["calls"] * 1e6
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
    path = options.picture or (PICTURE if options.whole else None)
    if path is None:
        return
    try:
        from overhead_lib.picture import draw
    except ImportError as error:
        print(f"no picture: {error} (pip install --group bench)", file=sys.stderr)
        return
    print(draw(result, path))


if __name__ == "__main__":
    sys.exit(main())
