"""What one tick of the meter costs: by how many requests are in flight, and by how many were settled before."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

from ecolyzer_otel.agent.protocol import VERSION, Batch, Done, Frames, Hello, Model, Open, encode
from ecolyzer_otel.assembly import prepare
from ecolyzer_otel.config import load
from ecolyzer_otel.meter import Client, Meter
from service_lib.figures import Target, show

_MS = 1_000_000
_PERIOD = 0.1


class Feeder:
    """A worker without a socket: its messages are encoded and decoded as on one, and heard by the meter.

    Args:
        meter: hears it.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.client: Client = meter.join()
        self._frames = Frames("worker")
        self._number = self._cpu_ns = self.settled = 0
        self._say(Hello(VERSION, os.getpid(), "bench", token="bench-ticks"))
        self._models = [Model(0, "model", "torch", 10**8, "float32", "cpu")]
        self._open: list[tuple[int, int]] = []

    def _say(self, message: Any) -> None:
        for heard in self._frames.feed(encode(message)):
            self.client = self.meter.hear(self.client, heard)  # type: ignore[arg-type]

    def finish(self, number: int) -> None:
        """So many requests of 5 ms have ended just now."""
        now = time.monotonic_ns()
        done = [
            Done(self._number + index, 0, "forward", now - index * 2000 - 5 * _MS, now - index * 2000, _MS, 1, "",
                 f"/route/{index % 20}", "", "", False)
            for index in range(1, number + 1)
        ]  # fmt: skip
        self._number += number
        self.settled += number
        self._report(now, done, [])

    def go_on(self, number: int) -> None:
        """So many requests have been open for long, and still are."""
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
        self._say(Batch(now, now, [(now, self._cpu_ns, 0)], models, opens, done, self.settled, {}))
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


def by_open(number: int, seconds: float) -> tuple[float, float]:
    """Median CPU seconds of hearing one report, and of one tick, with so many requests in flight."""
    heard, ticked = [], []
    with meter() as one:
        feeder = Feeder(one)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            heard.append(_timed(feeder.go_on, number))
            ticked.append(_timed(one.tick))
            time.sleep(max(0.0, _PERIOD - (time.monotonic() - began)))
    skipped = min(5, len(heard) // 2)  # the first ones make what the others find
    return statistics.median(heard[skipped:]), statistics.median(ticked[skipped:])


def by_settled(marks: list[int], seconds: float, open_requests: int = 100) -> list[dict[str, float]]:
    """Median CPU seconds of a tick with 100 requests in flight after so many were settled."""
    rows = []
    with meter() as one:
        feeder = Feeder(one)
        for mark in marks:
            cpu, before = 0.0, feeder.settled
            while feeder.settled < mark:
                began = time.monotonic()
                cpu += _timed(feeder.finish, min(500, mark - feeder.settled))
                cpu += _timed(one.tick)
                time.sleep(max(0.0, 0.005 - (time.monotonic() - began)))
            ticked = []
            until = time.monotonic() + seconds + 1.0
            while time.monotonic() < until:
                feeder.go_on(open_requests)
                ticked.append(_timed(one.tick))
                time.sleep(_PERIOD)
            each = cpu / (mark - before) if mark > before else 0.0
            rows.append({
                "settled": float(mark), "tick": statistics.median(ticked[len(ticked) // 2 :]), "each": each
            })  # fmt: skip
    return rows


def measure(numbers: list[int], marks: list[int], seconds: float) -> dict[str, Any]:
    rows = []
    for number in numbers:
        heard, ticked = by_open(number, max(seconds, 1.5))
        rows.append({"open": number, "heard": heard, "tick": ticked})
    return {"open": rows, "settled": by_settled(marks, seconds)}


def report(found: dict[str, Any]) -> list[Target]:
    rows = [
        (f"{row['open']:,} open", f"{row['heard'] * 1e3:.2f}", f"{row['tick'] * 1e3:.2f}",
         f"{row['tick'] * 1e6 / max(1, row['open']):.2f}", "")
        for row in found["open"]
    ]  # fmt: skip
    rows += [
        (f"100 open, {row['settled']:,.0f} settled before", "", f"{row['tick'] * 1e3:.2f}", "",
         f"{row['each'] * 1e6:.1f}" if row["each"] else "")
        for row in found["settled"]
    ]  # fmt: skip
    head = ("one tick of the meter, CPU", "report, ms", "tick, ms", "us per open", "us per settled, fed in process")
    show("Cost of a tick", head, rows)
    small, large = found["open"][2], found["open"][-1]
    power = math.log(large["tick"] / small["tick"]) / math.log(large["open"] / small["open"])
    # Before the first requests nothing is learned, and a tick does less: compared is what comes after.
    first, last = next(row for row in found["settled"] if row["settled"]), found["settled"][-1]
    ratio = last["tick"] / first["tick"]
    return [
        Target(
            f"tick, {small['open']:,} to {large['open']:,} in flight", f"grows with the power {power:.2f}",
            "linear: at most 1.10", power <= 1.10,
        ),
        Target(
            f"tick after {last['settled']:,.0f} settled", f"{ratio:.2f} times that after {first['settled']:,.0f}",
            "independent: at most 1.20", ratio <= 1.2,
        ),
    ]  # fmt: skip
