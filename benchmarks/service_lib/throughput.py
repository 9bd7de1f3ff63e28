"""Throughput, latency and CPU of the service on one saturated core, in interleaved rounds."""

from __future__ import annotations

import json
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

from service_lib import kernel
from service_lib.figures import Spread, Target, paired, show
from service_lib.load import Result, get, saturate
from service_lib.variants import VARIANTS, Service, started

#: Pairs of variants that are compared.
PAIRS = (
    ("bare-again", "bare"),
    ("otel", "bare"),
    ("metrics", "bare"),
    ("metrics/1", "bare"),
    ("otel-span", "otel"),
    ("traced", "otel"),
    ("traced", "otel-span"),
    ("traced/1", "otel"),
    ("traced", "bare"),
    ("traced/1", "bare"),
)
WANTED = {"metrics": 0.99, "metrics/1": 0.99, "traced": 0.97, "traced/1": 0.97}


@dataclass(frozen=True)
class Block:
    """One variant in one round; CPU in microseconds per request, of the worker and of its meter.

    ``behind_us``: of all threads of the worker except the main one.
    """

    load: Result
    worker_us: float
    behind_us: float
    meter_us: float


def calibrate(folders: str, core: int, other: int, milliseconds: float, connections: int) -> int:
    """The rounds of the busy loop with which a request of the bare service costs so much CPU."""
    with started(["bare"], folders, 0, core, other) as services:
        service = services["bare"]
        saturate(service.port, "/predict", 1, connections, other)
        before = kernel.cpu_seconds(service.pid)
        load = saturate(service.port, "/predict", 2, connections, other)
        without_ns = (kernel.cpu_seconds(service.pid) - before) * 1e9 / load.requests
        round_ns = json.loads(get(service.port, "/about"))["round_ns"]
    rounds = max(0, round((milliseconds * 1e6 - without_ns) / round_ns))
    print(
        f"a request of the bare service costs {without_ns / 1e3:.0f} us of CPU; with {rounds:,} rounds of "
        f"{round_ns:.1f} ns it is {max(milliseconds * 1e3, without_ns / 1e3):.0f} us"
    )
    return rounds


def block(service: Service, seconds: float, connections: int, core: int) -> Block:
    """Load one service for some seconds."""
    meter = service.meter
    worker_before, meter_before = kernel.cpu_seconds(service.pid), kernel.cpu_seconds(meter) if meter else 0.0
    behind_before = kernel.background_cpu_seconds(service.pid)
    load = saturate(service.port, "/predict", seconds, connections, core)
    if load.errors:
        raise SystemExit(f"{service.variant.name}: {load.errors} of {load.requests} requests failed")
    if meter:
        time.sleep(0.6)  # the meter settles the last requests; otherwise this would load the next variant
    us_per_request = 1e6 / load.requests
    meter_us = (kernel.cpu_seconds(meter) - meter_before) * us_per_request if meter else 0.0
    behind_us = (kernel.background_cpu_seconds(service.pid) - behind_before) * us_per_request
    return Block(load, (kernel.cpu_seconds(service.pid) - worker_before) * us_per_request, behind_us, meter_us)


def measure(
    folders: str, busy_rounds: int, cores: tuple[int, int], rounds: int, seconds: float, connections: int
) -> tuple[dict[str, list[Block]], dict[str, Any]]:
    """All variants, started once, in ``rounds`` rounds of random order; and their memory afterwards."""
    names = list(VARIANTS)
    blocks: dict[str, list[Block]] = {name: [] for name in names}
    with started(names, folders, busy_rounds, *cores) as services:
        for service in services.values():
            block(service, 1, connections, cores[1])
        for number in range(rounds):
            for name in random.sample(names, len(names)):
                blocks[name].append(block(services[name], seconds, connections, cores[1]))
            done = blocks["metrics"][-1].load.rate / blocks["bare"][-1].load.rate
            print(f"  round {number + 1} of {rounds}: metrics over bare {done - 1:+.1%}", flush=True)
        occupied = {name: occupation(service) for name, service in services.items()}
    return blocks, occupied


def occupation(service: Service) -> dict[str, Any]:
    """The current memory of the worker and of its meter."""
    meter = service.meter
    return {
        "worker": vars(kernel.memory(service.pid)),
        "meter": vars(kernel.memory(meter)) if meter else None,
    }


def report(blocks: dict[str, list[Block]]) -> tuple[list[Target], dict[str, Any]]:
    """Print the tables of :func:`measure`; returns targets and figures."""
    rows = []
    for name, found in blocks.items():
        columns = ("rate", "p50_ms", "p99_ms")
        rate, p50, p99 = (statistics.median(getattr(one.load, column) for one in found) for column in columns)
        worker, behind, meter = (
            statistics.median(getattr(one, key) for one in found) for key in ("worker_us", "behind_us", "meter_us")
        )
        part = statistics.median(one.behind_us / one.worker_us for one in found)
        cells = (
            f"{rate:.0f}",
            f"{worker:.0f}",
            f"{behind:.1f} ({part:.2%})",
            f"{meter:.1f}",
            f"{p50:.2f}",
            f"{p99:.2f}",
        )
        rows.append((name, *cells, VARIANTS[name].about))
    head = ("variant", "requests/s", "worker us", "background threads", "meter us", "p50 ms", "p99 ms", "")
    show("One saturated core, medians (CPU per request)", head, rows)
    ratios: dict[str, dict[str, Spread]] = {}
    for ours, other in PAIRS:
        one, two = blocks[ours], blocks[other]
        ratios[f"{ours} : {other}"] = {
            "throughput": paired([b.load.rate for b in one], [b.load.rate for b in two]),
            "by CPU time": paired([_cost(b, other) for b in two], [_cost(b, ours) for b in one]),
            "p50": paired([b.load.p50_ms for b in one], [b.load.p50_ms for b in two]),
            "p99": paired([b.load.p99_ms for b in one], [b.load.p99_ms for b in two]),
        }
    columns = ("throughput", "by CPU time", "p50", "p99")
    rows = [(pair, *(found[column].percent() for column in columns)) for pair, found in ratios.items()]
    show("Paired by round: median and quartiles", ("", *columns), rows)
    figures = {
        "ratios": {pair: {key: vars(value) for key, value in found.items()} for pair, found in ratios.items()},
        "blocks": {name: [_plain(one) for one in found] for name, found in blocks.items()},
    }
    return _targets(ratios), figures


def _cost(one: Block, name: str) -> float:
    """CPU of a request on the core of the service; it determines the throughput if nothing else runs there."""
    return one.worker_us + (one.meter_us if VARIANTS[name].shared else 0.0)


def _plain(one: Block) -> dict[str, float]:
    return {
        **vars(one.load), "worker_us": one.worker_us, "behind_us": one.behind_us, "meter_us": one.meter_us,
    }  # fmt: skip


def _targets(ratios: dict[str, dict[str, Spread]]) -> list[Target]:
    noise = ratios["bare-again : bare"]["p99"]
    targets = []
    for pair, found in ratios.items():
        name, other = pair.split(" : ")
        if name not in WANTED or (name.startswith("traced") and other == "bare"):
            continue
        wanted = WANTED[name]
        for what, how in (("throughput", "measured"), ("by CPU time", "by CPU time")):
            one = found[what]
            text = f"{one.median:.1%} (95 %: {one.surely_above:.1%} to {one.surely_below:.1%})"
            targets.append(
                Target(
                    f"throughput, {name} over {other}, {how}", text, f"at least {wanted:.0%}", one.at_least(wanted)
                )
            )
        one = found["p99"]
        text = f"{one.median - 1:+.1%} (95 %: {one.surely_above - 1:+.1%} to {one.surely_below - 1:+.1%})"
        limit = max(noise.high, 1.0)
        targets.append(
            Target(f"p99, {name} over {other}", text, f"within noise: at most {limit - 1:+.1%}", one.at_most(limit))
        )
    return targets
