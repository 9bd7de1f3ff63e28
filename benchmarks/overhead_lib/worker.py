"""One process of the benchmark: a variant and its workloads. It runs commands from its pipe, one JSON line each.

    python -m overhead_lib.worker VARIANT WORKLOAD,... [--core N] [--exported]

Between commands it blocks in a read. Garbage is collected before each block, outside of the clocks; objects
that the frameworks have allocated until then are frozen, so that this is fast.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Callable
from importlib import metadata
from itertools import repeat
from pathlib import Path
from statistics import median
from time import perf_counter_ns, process_time_ns, thread_time_ns
from typing import Any

from overhead_lib import floor
from overhead_lib.statistics import low
from overhead_lib.variants import Variant, make
from overhead_lib.workloads import WORKLOADS

#: Untimed calls after each switch, because the interpreter specialises its code again.
WARM_CALLS, WARM_NS = 20, 5_000_000
PACE_NS = 1_000_000
#: Packages whose versions are reported.
_PACKAGES = (
    "ecolyzer-otel", "opentelemetry-sdk", "torch", "transformers", "onnxruntime", "scikit-learn", "keras",
    "tensorflow_cpu", "codecarbon", "zeus", "openlit", "opentelemetry-instrumentation-transformers",
)  # fmt: skip


class Worker:
    """Measures one variant."""

    def __init__(self, variant: Variant, names: list[str], folder: Path) -> None:
        self.variant = variant
        self.off: dict[str, Callable[[], Any]] = {}
        self.on: dict[str, Callable[[], Any]] = {}
        for name in names:
            call = WORKLOADS[name].make(folder)
            call()
            # The same frames around the call, on and off.
            self.off[name], self.on[name] = Variant().around(call), variant.around(call)
        variant.ready()

    def prepare(self, workload: str) -> dict[str, float]:
        """Seconds of one warm call, off and on."""
        return {mode: self._calibrate(workload, on=mode == "on") for mode in ("off", "on")}

    def _calibrate(self, workload: str, *, on: bool) -> float:
        run = self._switch(workload, on=on)
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 5 or (time.perf_counter() - began < 0.15 and len(times) < 300):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        self.variant.drain()
        gc.collect()
        gc.freeze()
        return median(times)

    def _switch(self, workload: str, *, on: bool) -> Callable[[], Any]:
        self.variant.switch(on)
        return (self.on if on else self.off)[workload]

    def _warm(self, run: Callable[[], Any]) -> None:
        until = perf_counter_ns() + WARM_NS
        for _ in range(WARM_CALLS):
            run()
            if perf_counter_ns() > until:
                break

    def pair(
        self, workload: str, calls: dict[str, int], chunks: dict[str, int], paced: dict[str, int]
    ) -> dict[str, Any]:
        """Run two blocks, on and off, and two of paced calls, in random order."""
        result: dict[str, Any] = {"blocks": {}, "paced": {}}
        for kind in random.sample(["blocks", "paced"], 2):
            for mode in random.sample(["off", "on"], 2):
                run = self._switch(workload, on=mode == "on")
                self._warm(run)
                gc.collect()
                if kind == "blocks":
                    result[kind][mode] = _block(run, calls[mode], chunks[mode])
                else:
                    result[kind][mode] = _paced(run, paced[mode])
                if mode == "on":
                    self.variant.drain()
        return result

    def serve(self, workload: str, seconds: float) -> dict[str, float]:
        """Call at a pace of 1 ms for some seconds, until all is settled; CPU of the process and of the caller."""
        run = self._switch(workload, on=True)
        self._warm(run)
        self.variant.drain()
        process_ns, own = process_time_ns(), thread_time_ns()
        count = len(_paced(run, max(1, round(seconds * 1e9 / PACE_NS)), seconds))
        self.variant.drain()
        return {"calls": count, "process_ns": process_time_ns() - process_ns, "caller_ns": thread_time_ns() - own}

    def allocations(self, workload: str, seconds: dict[str, float]) -> dict[str, dict[str, float]]:
        """Memory of a call until it is settled and afterwards, and the peak of many calls."""
        found = {}
        for mode in ("off", "on"):
            run = self._switch(workload, on=mode == "on")
            self._warm(run)
            self.variant.drain()
            # So few that they end before the next cycle of the background thread (every 0.1 s) takes them.
            few = max(2, min(100, int(0.05 / max(seconds[mode], 1e-6))))
            held = []
            for _ in range(3):
                gc.collect()
                before = sys.getallocatedblocks()
                for _ in repeat(None, few):
                    run()
                held.append((sys.getallocatedblocks() - before) / few)
                self.variant.drain()
            many = max(few, min(1000, int(0.15 / max(seconds[mode], 1e-6))))
            gc.collect()
            before = sys.getallocatedblocks()
            tracemalloc.start()
            for _ in repeat(None, many):
                run()
            peak = tracemalloc.get_traced_memory()[1]
            self.variant.drain()
            gc.collect()
            kept = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            found[mode] = {
                "held_blocks": median(held), "peak_bytes_1000": peak / many * 1000,
                "kept_bytes": kept / many, "kept_blocks": (sys.getallocatedblocks() - before) / many,
            }  # fmt: skip
        return found

    def floor(self) -> dict[str, float]:
        """The cost of the parts of a measured call."""
        return floor.measure()


def _block(run: Callable[[], Any], calls: int, chunk: int) -> dict[str, float]:
    """Nanoseconds of a call. One block in chunks; see :func:`~overhead_lib.statistics.low`."""
    own, walls = [], []
    process_ns = process_time_ns()
    for _ in repeat(None, max(1, calls // chunk)):
        wall, start = perf_counter_ns(), thread_time_ns()
        for _ in repeat(None, chunk):
            run()
        own.append((thread_time_ns() - start) / chunk)
        walls.append((perf_counter_ns() - wall) / chunk)
    process_ns = process_time_ns() - process_ns
    return {
        "cpu_ns": low(own), "cpu_mean_ns": sum(own) / len(own), "wall_ns": low(walls),
        "process_ns": process_ns / chunk / len(own),
    }  # fmt: skip


def _paced(run: Callable[[], Any], number: int, seconds: float | None = None) -> list[int]:
    """Wall nanoseconds of each call. Calls start at multiples of the pace; late starts are skipped."""
    times = []
    due = perf_counter_ns() + PACE_NS
    until = due + (1 << 62 if seconds is None else int(seconds * 1e9))
    for _ in repeat(None, number):
        now = perf_counter_ns()
        if now >= until:
            break
        if now > due:
            due += (now - due + PACE_NS) // PACE_NS * PACE_NS
        time.sleep((due - now) / 1e9)
        start = perf_counter_ns()
        run()
        times.append(perf_counter_ns() - start)
        due += PACE_NS
    return times


def _versions() -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    parser.add_argument("workloads")
    parser.add_argument("--core", type=int)
    parser.add_argument("--exported", action="store_true")
    options = parser.parse_args()
    # Output of frameworks must not reach the driver.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})

    def answer(message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    folder, variant = Path(tempfile.mkdtemp(prefix="overhead-")), None
    try:
        variant = make(options.variant)
        worker = Worker(variant, options.workloads.split(","), folder)
        answer({"versions": _versions()})
        for line in sys.stdin:
            command = json.loads(line)
            answer(getattr(worker, command.pop("do"))(**command))
    except Exception as error:
        traceback.print_exc()
        answer({"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
    finally:
        with contextlib.suppress(Exception):
            if variant is not None:
                variant.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
