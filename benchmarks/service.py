"""The cost of measuring for a real service: throughput, latency, memory, start-up, and the meter's own CPU.

    python benchmarks/service.py                              # everything, about an hour (the long runs)
    python benchmarks/service.py --quick                      # one to two minutes, noisy
    python benchmarks/service.py --only throughput --rounds 40
    python benchmarks/service.py --json result.json

FastAPI runs under uvicorn with one worker on one core. Its endpoint runs a real model (Silero VAD, ONNX Runtime)
and a busy loop, calibrated once so that a request of the bare service costs 1 ms of CPU. The load generator
(``wrk``, keep alive, loopback; a client in Python where wrk is missing) and the meter run on the other core, except
in the variants ``…/1``, whose meter shares the core of the service: the worst case. Each variant is started once;
all are loaded in short rounds, in random order, and ratios are paired by round. ``bare-again`` is a second
``bare``: its difference is noise.

On noisy shared machines "by CPU time" is more reliable than requests per second. It is the CPU time of a request on
the core of the service (worker, and meter where it shares the core), bare over measured, in the same round. Where
the 95 % interval of a median contains the target, the verdict is "undecided".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service_lib import beginnings, footprint, throughput, ticks, upkeep
from service_lib.figures import Target, as_json, show_targets
from service_lib.load import has_wrk
from service_lib.variants import plugins

SECTIONS = ("throughput", "memory", "long", "startup", "meter", "ticks")
QUICK_SECTIONS = ("throughput", "startup", "meter", "ticks")


class Run:
    """Runs sections; collects their targets and figures."""

    def __init__(self, options: argparse.Namespace, folders: str) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.options, self.folders = options, folders
        self.cores = cores[0], cores[-1]
        self.targets: list[Target] = []
        self.figures: dict[str, Any] = {}
        self._rounds: int | None = None

    @property
    def busy_rounds(self) -> int:
        """The rounds of the busy loop in a request, calibrated at first use."""
        if self._rounds is None:
            options = self.options
            self._rounds = throughput.calibrate(self.folders, *self.cores, options.request_ms, options.connections)
            self.figures["busy_rounds"] = self._rounds
        return self._rounds

    def throughput(self) -> None:
        options = self.options
        blocks, occupied = throughput.measure(
            self.folders, self.busy_rounds, self.cores, options.rounds, options.seconds, options.connections
        )
        targets, figures = throughput.report(blocks)
        self._add("throughput", targets, figures | {"memory": occupied})

    def memory(self) -> None:
        options = self.options
        found = footprint.at_rest(self.folders, self.cores, options.memory_requests, options.connections)
        self._add("memory", *footprint.report_rest(found))

    def long(self) -> None:
        options = self.options
        for name in options.long_variants.split(","):
            rows, counts = footprint.long_run(name, self.folders, self.cores, options.requests, options.connections)
            targets = footprint.report_long(name, rows, counts)
            self._add(f"long run, {name}", targets, {"rows": rows, "counts": counts})

    def startup(self) -> None:
        repeats = self.options.repeats
        starts = {
            "all cores": beginnings.first_answers(self.folders, repeats, None),
            "one core": beginnings.first_answers(self.folders, max(1, repeats // 2), self.cores[0]),
        }
        loaded = beginnings.imports(self.folders, repeats)
        self._add("startup", *beginnings.report(starts, loaded, beginnings.breakdown(self.folders)))

    def meter(self) -> None:
        options = self.options
        loads = upkeep.under_load(
            self.folders, self.cores, self.busy_rounds, options.meter_seconds, options.connections
        )
        rests = upkeep.at_rest(self.folders, self.cores, options.rest_seconds, options.quiet_seconds)
        self._add("meter", *upkeep.report(loads, rests))

    def ticks(self) -> None:
        found = ticks.measure([10, 100, 1000, 3000, 10_000], self.options.settled, self.options.tick_seconds)
        self._add("ticks", ticks.report(found), found)

    def _add(self, section: str, targets: list[Target], figures: dict[str, Any]) -> None:
        self.targets += targets
        self.figures[section] = figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"sections, of {','.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="one to two minutes; for a rough look only")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of all variants")
    parser.add_argument(
        "--seconds", type=float, default=2, help="seconds of each variant in a round (integers with wrk)"
    )
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--request-ms", type=float, default=1.0, help="CPU time of a request of the bare service")
    parser.add_argument("--memory-requests", type=int, default=20_000, help="requests before memory is compared")
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests of the long run")
    parser.add_argument(
        "--long-variants", default="metrics,traced", help="variants of the long run, one after the other"
    )
    parser.add_argument("--repeats", type=int, default=20, help="repeats of each start")
    parser.add_argument("--meter-seconds", type=float, default=10, help="seconds of load at each rate")
    parser.add_argument("--rest-seconds", type=float, default=30, help="seconds of observing idle processes")
    parser.add_argument("--quiet-seconds", type=float, default=65, help="seconds without a request before that")
    parser.add_argument("--tick-seconds", type=float, default=3)
    parser.add_argument(
        "--settled", type=lambda text: [int(one) for one in text.split(",")],
        default=[0, 20_000, 200_000, 1_000_000], help="settled requests before a timed tick",
    )  # fmt: skip
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.memory_requests, options.requests = 1, 1, 1_500, 3_000
        options.long_variants, options.repeats = "traced", 1
        options.meter_seconds, options.rest_seconds, options.quiet_seconds = 2, 3, 1
        options.tick_seconds, options.settled = 0.2, [0, 2_000, 10_000]
    options.only = options.only or ",".join(QUICK_SECTIONS if options.quick else SECTIONS)
    return options


def main() -> int:
    options = parse()
    sections = options.only.split(",")
    if unknown := set(sections) - set(SECTIONS):
        raise SystemExit(f"--only: unknown {', '.join(unknown)}; choose from {', '.join(SECTIONS)}")
    began = time.monotonic()
    with plugins() as folders:
        run = Run(options, folders)
        print(
            f"{os.cpu_count()} CPUs, Python {platform.python_version()}; service on core {run.cores[0]}, load "
            f"({'wrk' if has_wrk() else 'Python client: wrk is not installed'}) and meter on core {run.cores[1]}"
        )
        if run.cores[0] == run.cores[1]:
            print("only one core: the load generator takes CPU from the service, so ratios mean little")
        for section in sections:
            work: Callable[[], None] = getattr(run, section)
            work()
    show_targets(run.targets)
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"targets": as_json(run.targets), **run.figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
