"""Request records that the node agent settles per second on one core, and the growth of its memory.

    python benchmarks/agent.py                       # 500 000 records, about half a minute
    python benchmarks/agent.py --records 10_000_000  # the full run, some minutes

A real ``ecolyzer agent`` is pinned to one core. Workers (connections of this process, on the other cores) send
batches of 500 records over its socket as fast as it settles them, with a bounded number in flight. Every record
requests its settlement, as records of sampled spans do. The CPU time of the agent is its own figure from
``/metrics`` (``ecolyzer_meter_cpu_seconds_total``), compared with that of the kernel.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from ecolyzer_otel.wire.protocol import VERSION, Batch, Done, Frames, Hello, Model, Settlements, encode

BATCH = 500
TARGET = 20_000


class Feeder:
    """One worker: sends batches and counts the records that are accounted for."""

    def __init__(self, path: str, number: int, routes: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.sendall(encode(Hello(VERSION, os.getpid(), f"service-{number}", token=f"bench-{number}")))
        self.frames = Frames("meter")
        self.models = [Model(key, f"model-{key}", "torch", 10**8, "float32", "cpu") for key in range(3)]
        self.routes = [f"/route/{index}" for index in range(routes)]
        self.sent = self.accounted = self.settled = 0
        self.cpu_ns = 0

    def send(self) -> None:
        now = time.monotonic_ns()
        done = []
        for index in range(BATCH):
            number = self.sent + index
            end = now - index * 2000
            route = self.routes[number % len(self.routes)]
            record = (
                number + 1,
                number % 3,
                "forward",
                end - 5_000_000,
                end,
                1_000_000,
                8,
                "",
                route,
                "",
                "",
                True,
            )
            done.append(Done(*record))
        self.sent += BATCH
        self.cpu_ns += BATCH * 1_000_000
        models, self.models = self.models, []
        clocks = [(now, self.cpu_ns + self.cpu_ns // 10, 0)]
        self.socket.sendall(encode(Batch(now, now, clocks, models, [], done, self.sent, {})))

    def receive(self) -> None:
        for message in self.frames.feed(self.socket.recv(1 << 20)):
            if isinstance(message, Settlements):
                self.accounted = message.accounted
                self.settled += sum(not one.unsettled for one in message.items)


def start_agent(folder: Path, core: int) -> tuple[subprocess.Popen[str], str]:
    """Start an agent on its own core; returns its process and the address of its metrics."""
    code = "import sys; from ecolyzer_otel.cli.main import main; sys.exit(main(sys.argv[1:]))"
    options = ["--agent-socket", str(folder / "agent.sock"), "--port", "0", "--sensors", "modelled", "--zone", "FR"]
    command = [sys.executable, "-c", code, "agent", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {core})
    assert process.stderr is not None
    for line in process.stderr:
        if "/metrics" in line:
            return process, next(word for word in line.split() if word.endswith("/metrics"))
    raise SystemExit("the agent did not start")


def scrape(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def feed(feeders: list[Feeder], records: int, in_flight: int, each: int, report: object) -> float:
    """Send so many records, at most ``in_flight`` at a time; returns the seconds until all are settled."""
    selector = selectors.DefaultSelector()
    for feeder in feeders:
        selector.register(feeder.socket, selectors.EVENT_READ, feeder)
    began, reported = time.monotonic(), 0
    while True:
        sent = sum(feeder.sent for feeder in feeders)
        accounted = sum(feeder.accounted for feeder in feeders)
        if accounted >= reported + each:
            reported = accounted
            report(accounted)  # type: ignore[operator]
        if accounted >= records:
            return time.monotonic() - began
        room = sent < records and sent - accounted < in_flight
        if room:
            min(feeders, key=lambda feeder: feeder.sent).send()
        for key, _ in selector.select(0 if room else 0.05):
            key.data.receive()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--routes", type=int, default=20)
    parser.add_argument("--in-flight", type=int, default=40_000)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))
    with tempfile.TemporaryDirectory() as folder:
        process, url = start_agent(Path(folder), cores[0])
        kernel = psutil.Process(process.pid)
        rows: list[tuple[int, float, float]] = []

        def report(accounted: int) -> None:
            times = kernel.cpu_times()
            rows.append((accounted, kernel.memory_info().rss / 1e6, times.user + times.system))
            print(f"  {accounted:>12,} records   {rows[-1][1]:7.1f} MB", flush=True)

        try:
            feeders = [
                Feeder(str(Path(folder) / "agent.sock"), number, options.routes)
                for number in range(options.workers)
            ]
            time.sleep(1.0)
            before, cpu_before = scrape(url), sum(kernel.cpu_times()[:2])
            print(f"{options.records:,} records from {options.workers} workers, agent on core {cores[0]}")
            seconds = feed(feeders, options.records, options.in_flight, max(options.records // 10, 1), report)
            time.sleep(1.5)
            after, cpu_after = scrape(url), sum(kernel.cpu_times()[:2])
        finally:
            process.terminate()
            process.wait(20)
    settlements = sum(feeder.settled for feeder in feeders)
    return show(_Run(options.records, seconds, rows, before, after, cpu_after - cpu_before, settlements))


def total(samples: dict[str, float], name: str) -> float:
    return sum(value for key, value in samples.items() if key.partition("{")[0] == name)


@dataclass(frozen=True)
class _Run:
    """The outcome of one run.

    ``rows``: records accounted for, MB and CPU seconds of the agent at each tenth; ``before`` and ``after``: its
    metrics; ``kernel_cpu``: its CPU seconds by the kernel; ``settlements``: those received by the workers.
    """

    records: int
    seconds: float
    rows: list[tuple[int, float, float]]
    before: dict[str, float]
    after: dict[str, float]
    kernel_cpu: float
    settlements: int


def show(run: _Run) -> int:
    """Print the outcome; returns the exit status, 0 if the target is met."""
    name = "ecolyzer_meter_cpu_seconds_total"
    own = total(run.after, name) - total(run.before, name)
    settled = total(run.after, "ecolyzer_requests_total")
    unsettled = total(run.after, "ecolyzer_unsettled_requests_total")
    # Five minutes of scores are kept; in the second half of a full run that window is full.
    half = run.rows[len(run.rows) // 2 :]
    growth = (half[-1][1] - half[0][1]) / max(1e-9, (half[-1][0] - half[0][0]) / 1e6)
    per_core = run.records / own
    for what, figure, details in (
        ("settled", f"{settled:,.0f}", f"unsettled {unsettled:,.0f}, settlements received {run.settlements:,}"),
        ("wall time", f"{run.seconds:.1f} s", f"{run.records / run.seconds:,.0f} records/s"),
        ("CPU of the agent", f"{own:.1f} s", f"by its own figure ({run.kernel_cpu:.1f} s by the kernel's)"),
        ("records per CPU second", f"{per_core:,.0f}", f"{1e6 / per_core:.1f} us a record; target {TARGET:,}"),
        ("memory", f"{run.rows[-1][1]:.1f} MB", f"{growth:+.2f} MB per million records in the second half"),
    ):
        print(f"  {what:<26}{figure:>12}  {details}")
    good = per_core >= TARGET and settled + unsettled == run.records and abs(own / run.kernel_cpu - 1) < 0.1
    print("the target is met" if good else "the target is NOT met")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
