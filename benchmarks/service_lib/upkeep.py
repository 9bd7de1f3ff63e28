"""The cost of the meter: CPU per settled request at several rates, CPU and wake-ups when idle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from service_lib import kernel
from service_lib.figures import Target, show
from service_lib.load import paced, saturate
from service_lib.variants import Service, started

MAX_US, MAX_REST = 50.0, 0.01
#: An idle meter should wake no more often than the service itself.
MAX_WAKE_UPS = 1.5


@dataclass(frozen=True)
class Load:
    """One rate, and the CPU of the meter per settled request, by its own figure and by the kernel's."""

    variant: str
    wanted: str
    settled: float
    seconds: float
    own_us: float
    kernel_us: float

    @property
    def rate(self) -> float:
        return self.settled / self.seconds


@dataclass(frozen=True)
class Rest:
    """CPU as a part of one core, and wake-ups per second, of an idle process."""

    who: str
    core: float
    wake_ups: float
    threads: tuple[float, ...]


def under_load(
    folders: str, cores: tuple[int, int], busy_rounds: int, seconds: float, connections: int
) -> list[Load]:
    """CPU of the meter per settled request: with spans off, and with all spans recorded but not exported."""
    found = []
    with started(["metrics", "traced"], folders, busy_rounds, *cores) as services:
        for service in services.values():
            saturate(service.port, "/predict", 2, connections, cores[1])
        for name, service in services.items():
            for wanted in (100, 1000, 0):
                if name == "metrics" or not wanted:
                    found.append(_one_rate(name, service, wanted, seconds, connections, cores[1]))
    return found


def _one_rate(name: str, service: Service, wanted: int, seconds: float, connections: int, core: int) -> Load:
    meter = service.meter or 0
    time.sleep(1.5)
    settled, own = service.metric("ecolyzer_requests_total"), service.metric("ecolyzer_meter_cpu_seconds_total")
    before, began = kernel.cpu_seconds(meter), time.monotonic()
    if wanted:
        paced(service.port, "/light", seconds, connections, wanted)
    else:
        saturate(service.port, "/predict", seconds, connections, core)
    took = time.monotonic() - began
    time.sleep(1.5)  # until the last request is settled
    spent = kernel.cpu_seconds(meter) - before
    number = service.metric("ecolyzer_requests_total") - settled
    own = service.metric("ecolyzer_meter_cpu_seconds_total") - own
    us_per_request = 1e6 / max(1.0, number)
    return Load(
        name, f"{wanted}/s" if wanted else "saturated", number, took, own * us_per_request, spent * us_per_request
    )


def at_rest(folders: str, cores: tuple[int, int], seconds: float, quiet: float) -> list[Rest]:
    """Bare and measured worker and the meter after ``quiet`` seconds without a request; a meter without workers."""
    with started(["bare", "metrics"], folders, 0, *cores) as services:
        time.sleep(quiet)
        bare, ours = services["bare"], services["metrics"]
        watched = {"worker, bare": bare.pid, "worker, measured": ours.pid, "meter, idle worker": ours.meter or 0}
        found = _watch(watched, seconds)
    return found + _alone(seconds, quiet)


def _alone(seconds: float, quiet: float) -> list[Rest]:
    """The meter of a command that sleeps: without workers."""
    import os
    import subprocess

    from service_lib.variants import INSTRUMENT, VARIANTS, environment, free_port

    options = ["--port", str(free_port()), "--agent-socket", "none", "--cloud-metadata", "off", "--zone", "FR"]
    command = [INSTRUMENT, *options, "sleep", "3600"]
    variables = environment(VARIANTS["metrics"], os.pathsep)
    with subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL) as process:
        try:
            deadline, meter = time.monotonic() + 10, None
            while meter is None and time.monotonic() < deadline:
                time.sleep(0.1)
                meter = kernel.find_meter(process.pid)
            if meter is None:
                raise SystemExit("the meter of a sleeping command was not found")
            time.sleep(max(2.0, quiet))
            return _watch({"meter, no worker": meter}, seconds)
        finally:
            process.terminate()


def _watch(watched: dict[str, int], seconds: float) -> list[Rest]:
    before = {who: (kernel.cpu_seconds(pid), kernel.wake_ups_by_thread(pid)) for who, pid in watched.items()}
    time.sleep(seconds)
    found = []
    for who, pid in watched.items():
        cpu, woken = before[who]
        now = kernel.wake_ups_by_thread(pid)
        threads = sorted(((now[one] - woken.get(one, 0)) / seconds for one in now), reverse=True)
        spent = (kernel.cpu_seconds(pid) - cpu) / seconds
        found.append(Rest(who, spent, sum(threads), tuple(each for each in threads if each > 0.05)))
    return found


def report(loads: list[Load], rests: list[Rest]) -> tuple[list[Target], dict[str, Any]]:
    rows = [
        (f"{one.variant}, {one.wanted}", f"{one.rate:.0f}", f"{one.settled:,.0f}", f"{one.own_us:.1f}",
         f"{one.kernel_us:.1f}")
        for one in loads
    ]  # fmt: skip
    head = ("rate", "settled/s", "settled", "us by its own figure", "us by the kernel")
    show("CPU of the meter per settled request", head, rows)
    rows = [
        (one.who, f"{one.core:.3%}", f"{one.wake_ups:.1f}", ", ".join(f"{each:.1f}" for each in one.threads))
        for one in rests
    ]
    show("At rest", ("process", "of a core", "wake-ups/s", "by thread"), rows)
    targets = [
        Target(
            f"meter per settled request, {one.variant}, {one.wanted}", f"{one.own_us:.1f} us",
            f"at most {MAX_US:g} us", one.own_us <= MAX_US,
        )
        for one in loads
        if one.variant == "metrics"
    ]  # fmt: skip
    for one in rests:
        if one.who.startswith("meter"):
            limit = f"at most {MAX_REST:.0%}"
            targets.append(Target(f"{one.who}: of a core", f"{one.core:.3%}", limit, one.core <= MAX_REST))
            rate = f"{one.wake_ups:.1f} wake-ups/s"
            wanted = f"at most {MAX_WAKE_UPS:g}"
            targets.append(Target(f"{one.who}: wakes", rate, wanted, one.wake_ups <= MAX_WAKE_UPS))
    figures = {"loads": [vars(one) for one in loads], "rests": [vars(one) for one in rests]}
    return targets, figures
