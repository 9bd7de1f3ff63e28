"""The cost of one tick of the meter, by requests in flight, and by requests settled before."""

from __future__ import annotations

import contextlib
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ecolyzer_otel.boot.assembly import prepare
from ecolyzer_otel.common.config import load
from ecolyzer_otel.meter import Client, Meter
from ecolyzer_otel.wire.protocol import VERSION, Batch, Done, Frames, Hello, Model, Open, encode
from service_lib.figures import Target, show

_MS = 1_000_000
_PERIOD = 0.1


class Feeder:
    """A worker without a socket: its messages are encoded, decoded, and received by the meter.

    Args:
        meter: receives the messages.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.client: Client = meter.join()
        self._frames = Frames("worker")
        self._number = self._cpu_ns = self.settled = 0
        self._send(Hello(VERSION, os.getpid(), "bench", token="bench-ticks"))
        self._models = [Model(0, "model", "torch", 10**8, "float32", "cpu")]
        self._open: list[tuple[int, int]] = []

    def _send(self, message: Any) -> None:
        for received in self._frames.feed(encode(message)):
            self.client = self.meter.receive(self.client, received)

    def finish(self, number: int) -> None:
        """Report that so many requests of 5 ms have just ended."""
        now = time.monotonic_ns()
        done = [
            Done(self._number + index, 0, "forward", now - index * 2000 - 5 * _MS, now - index * 2000, _MS, 1, "",
                 f"/route/{index % 20}", "", "", False)
            for index in range(1, number + 1)
        ]  # fmt: skip
        self._number += number
        self.settled += number
        self._report(now, done, [])

    def report_open(self, number: int) -> None:
        """Report that so many long requests are still open."""
        now = time.monotonic_ns()
        while len(self._open) < number:
            self._number += 1
            self._open.append((self._number, now - 300 * _MS - len(self._open) * 1000))
        opens = [
            Open(identity, start, (now - start) // 50, "cpu", {}, 0, "forward") for identity, start in self._open
        ]
        self._report(now, [], opens)

    def _report(self, now: int, done: list[Done], opens: list[Open]) -> None:
        self._cpu_ns += 50 * _MS
        models, self._models = self._models, []
        self._send(Batch(now, now, [(now, self._cpu_ns, 0)], models, opens, done, self.settled, {}))
        self.client.take()


@contextlib.contextmanager
def meter() -> Iterator[Meter]:
    """A meter with the modelled sensor."""
    config = load({"zone": "FR", "port": "0", "sensors": "modelled", "cloud_metadata": "off"}, environ={}).config
    setup = prepare(config)
    try:
        yield setup.meter
    finally:
        setup.meter.finish_early()
        setup.close()


def _timed(function: Any, *arguments: Any) -> float:
    began = time.thread_time()
    function(*arguments)
    return time.thread_time() - began


def _interleaved(
    feeders: dict[int, Feeder], open_requests: dict[int, int], seconds: float
) -> dict[int, tuple[float, float]]:
    """Median CPU seconds of receiving one report, and of one tick; several meters are interleaved."""
    report_s: dict[int, list[float]] = {key: [] for key in feeders}
    ticks: dict[int, list[float]] = {key: [] for key in feeders}
    until, rounds = time.monotonic() + seconds * len(feeders), 0
    while time.monotonic() < until or rounds < 12:
        began = time.monotonic()
        for key in random.sample(list(feeders), len(feeders)):
            report_s[key].append(_timed(feeders[key].report_open, open_requests[key]))
            ticks[key].append(_timed(feeders[key].meter.tick))
        rounds += 1
        time.sleep(max(0.0, _PERIOD - (time.monotonic() - began)))
    skipped = 5  # the first rounds fill caches
    return {
        key: (statistics.median(report_s[key][skipped:]), statistics.median(ticks[key][skipped:]))
        for key in feeders
    }


def by_open(numbers: list[int], seconds: float) -> list[dict[str, float]]:
    """The cost of a tick with so many requests in flight; one meter for each number."""
    with contextlib.ExitStack() as stack:
        feeders = {number: Feeder(stack.enter_context(meter())) for number in numbers}
        found = _interleaved(feeders, {number: number for number in numbers}, seconds)
        steps = {number: _steps(feeder, number) for number, feeder in feeders.items()}
    return [
        {"open": number, "report": report_s, "tick": tick, "steps": steps[number]}
        for number, (report_s, tick) in found.items()
    ]


def _steps(feeder: Feeder, number: int) -> int:
    """Bytecode instructions of one tick: independent of other processes and of processor caches."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    time.sleep(_PERIOD)
    feeder.report_open(number)
    sys.settrace(trace)
    try:
        feeder.meter.tick()
    finally:
        sys.settrace(None)
    return count


def by_settled(marks: list[int], seconds: float, open_requests: int = 100) -> list[dict[str, float]]:
    """The cost of a tick with 100 requests in flight after so many settled; one meter for each number."""
    each: dict[int, float] = {}
    with contextlib.ExitStack() as stack:
        feeders = {mark: Feeder(stack.enter_context(meter())) for mark in marks}
        for mark, feeder in feeders.items():
            cpu = 0.0
            while feeder.settled < mark:
                began = time.monotonic()
                cpu += _timed(feeder.finish, min(500, mark - feeder.settled))
                cpu += _timed(feeder.meter.tick)
                time.sleep(max(0.0, 0.005 - (time.monotonic() - began)))
            each[mark] = cpu / mark if mark else 0.0
        found = _interleaved(feeders, dict.fromkeys(marks, open_requests), seconds + 1.0)
    return [{"settled": float(mark), "tick": tick, "each": each[mark]} for mark, (_, tick) in found.items()]


def measure(numbers: list[int], marks: list[int], seconds: float) -> dict[str, Any]:
    return {"open": by_open(numbers, max(seconds, 1.5)), "settled": by_settled(marks, seconds)}


def report(found: dict[str, Any]) -> list[Target]:
    rows = [
        (f"{row['open']:,} open", f"{row['report'] * 1e3:.2f}", f"{row['tick'] * 1e3:.2f}",
         f"{row['tick'] * 1e6 / max(1, row['open']):.2f}", f"{row['steps'] / max(1, row['open']):,.0f}", "")
        for row in found["open"]
    ]  # fmt: skip
    rows += [
        (f"100 open, {row['settled']:,.0f} settled before", "", f"{row['tick'] * 1e3:.2f}", "", "",
         f"{row['each'] * 1e6:.1f}" if row["each"] else "")
        for row in found["settled"]
    ]  # fmt: skip
    head = (
        "one tick of the meter, CPU",
        "report, ms",
        "tick, ms",
        "us per open",
        "bytecodes per open",
        "us per settled, fed in process",
    )
    show("Cost of a tick", head, rows)
    small, large = found["open"][2], found["open"][-1]
    # The time of large numbers includes misses of the processor's caches; the number of instructions does not.
    power = math.log(large["steps"] / small["steps"]) / math.log(large["open"] / small["open"])
    # Before the first requests nothing is learned and a tick does less, so ticks after them are compared.
    first, last = next(row for row in found["settled"] if row["settled"]), found["settled"][-1]
    ratio = last["tick"] / first["tick"]
    return [
        Target(
            f"tick, {small['open']:,} to {large['open']:,} in flight", f"bytecodes grow with the power {power:.2f}",
            "linear: at most 1.05", power <= 1.05,
        ),
        Target(
            f"tick after {last['settled']:,.0f} settled", f"{ratio:.2f} times that after {first['settled']:,.0f}",
            "independent: at most 1.20", ratio <= 1.2,
        ),
    ]  # fmt: skip
