"""Machines whose truth is known: requests that draw given watts, and the counter that a sensor would show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ecolyzer_otel.ledger import Ledger, Record, Settlement, kind_of

S = 1_000_000_000
MS = 1_000_000


class Run(NamedTuple):
    """One request: times in nanoseconds, watts while it runs."""

    id: str
    kind: str
    start_ns: int
    end_ns: int
    watts: float

    @property
    def joules(self) -> float:
        """What it draws alone."""
        return self.watts * (self.end_ns - self.start_ns) / S


def requests(
    seed: int,
    seconds: float,
    kinds: Mapping[str, float],
    *,
    rate: float = 8.0,
    duration: float = 0.25,
    spread: float = 0.0,
    begin: float = 0.0,
) -> list[Run]:
    """Poisson arrivals of kinds of equal frequency; ``duration`` is the mean, ``spread`` relative, of watts."""
    rng = np.random.default_rng(seed)
    found = []
    at = begin
    while True:
        at += float(rng.exponential(1.0 / rate))
        if at >= begin + seconds:
            return found
        kind = sorted(kinds)[int(rng.integers(len(kinds)))]
        long = duration * float(rng.uniform(0.4, 1.6))
        watts = kinds[kind] * max(0.1, 1.0 + spread * float(rng.standard_normal()))
        start = round(at * 1e3) * MS
        found.append(Run(f"{begin:g}-{len(found)}", kind, start, start + max(MS, round(long * 1e3) * MS), watts))


def readings(
    runs: Sequence[Run],
    end_ns: int,
    *,
    idle: float = 0.0,
    step_ns: int = 100 * MS,
    cap: float = float("inf"),
    start_ns: int = 0,
    power: Callable[[int], float] = lambda _: 0.0,
) -> list[tuple[int, float]]:
    """What a counter shows: idle power, and at each instant what runs, at most ``cap`` watts beyond idle.

    Integrated in steps of a millisecond. ``power`` gives more watts by time, under no cap.
    """
    steps = np.zeros((end_ns - start_ns) // MS + 1)
    for one in runs:
        low, high = max(0, (one.start_ns - start_ns) // MS), max(0, (one.end_ns - start_ns) // MS)
        steps[low:high] += one.watts
    more = np.array([power(start_ns + at * MS) for at in range(len(steps))])
    grown = np.concatenate([[0.0], np.cumsum(np.minimum(steps, cap) + idle + more) / 1e3])
    return [(t, float(grown[(t - start_ns) // MS])) for t in range(start_ns, end_ns + 1, step_ns)]


def record(one: Run, device: str = "gpu0", **more: Any) -> Record:
    """As a worker tells it, with its kernels all the time."""
    busy = {"device_busy": {device: [[one.start_ns, one.end_ns]]}} if device else {}
    return Record(
        id=one.id, pid=1, start_ns=one.start_ns, end_ns=one.end_ns, kind=kind_of(one.kind), **{**busy, **more}
    )


def drive(
    ledger: Ledger, records: Iterable[Record], samples: Iterable[tuple[int, float]], sensor: str = "gpu0"
) -> dict[str, Settlement]:
    """Feed records and readings in the order of time."""
    coming = sorted(records, key=lambda one: one.start_ns, reverse=True)
    settled = {}
    for t_ns, joules in samples:
        while coming and coming[-1].start_ns < t_ns:
            ledger.record(coming.pop())
        ledger.sample(sensor, t_ns, joules)
        for one in ledger.advance(t_ns):
            settled[one.id] = one
    return settled
