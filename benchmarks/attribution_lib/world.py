"""The simulated truth: lanes that issue requests, and the power that each request draws on a 0.1 ms grid.

It is independent of any attribution. Every sensor's power is idle + the sum of what runs at the
instant, passed through the sensor's ``Limit`` where it has one (a power cap, a concave total).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .sensors import Sensor

STEP = 1e-4
"""Seconds of one cell of the grid."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """One hidden class of requests: how long they run, and what they draw while they do."""

    name: str
    watts: Mapping[str, float]
    """Mean active watts by component ("gpu", "cpu", "dram") while a request of it is active there."""
    seconds: float = 0.030
    duration_sigma: float = 0.1
    spread: float = 0.2
    """Sigma of the lognormal factor (mean 1) on the watts of each request."""
    own_cores: float = 0.2
    """CPU seconds per second of the request's own thread."""
    pool_cores: float = 0.0
    """CPU seconds per second that it makes the process's native threads work."""
    label: str | None = None
    """The model's name in the document; its own name when None."""
    phase: str | None = None
    max_items: int = 1
    base_joules: float = 0.0
    """With ``max_items`` > 1 a request of n items draws base + n x item joules over seconds + n x item seconds, and
    ``watts`` only names the components."""
    item_joules: float = 0.0
    item_seconds: float = 0.0
    drift: float = 1.0
    """The factor on its watts in the second half of the trace."""
    wobble: float = 0.0
    """Amplitude of a sine within the request, as a part of its mean power (full periods: the mean is unchanged)."""


@dataclass(frozen=True)
class Lane:
    """One worker thread: it runs one job (a chain of models) after the other, with pauses between."""

    jobs: Sequence[Sequence[Model]]
    pid: int = 100
    load: float = 0.6
    gpu: str | None = "gpu0"
    lead: float = 0.0003
    """Seconds between the start of a request and its first kernel."""
    companions: Sequence[Model] = ()
    """Models that run whenever a request of this lane runs, from its start to its end."""


@dataclass(frozen=True)
class Tenant:
    """Work that is no request: a foreign process, or with a worker's pid its own work outside of requests."""

    pid: int
    watts: Mapping[str, float]
    """Active watts by sensor id while it is on."""
    on: float = 0.3
    off: float = 0.7
    cores: float = 1.0
    spread: float = 0.1


@dataclass(frozen=True)
class Limit:
    """What the sum of the running watts becomes: ``cap`` is a hard ceiling, ``knee`` makes the total concave."""

    cap: float | None = None
    knee: float | None = None
    shapley: bool = False
    """Truth by Shapley value at each instant instead of in proportion (few lanes only)."""

    def __call__(self, watts: Floats) -> Floats:
        """The total active watts for a sum of running watts."""
        if self.cap is not None:
            watts = np.minimum(watts, self.cap)
        if self.knee is not None:
            watts = self.knee * -np.expm1(-watts / self.knee)
        return watts


@dataclass(frozen=True)
class World:
    """One scenario."""

    description: str
    sensors: Sequence[Sensor]
    lanes: Sequence[Lane]
    tenants: Sequence[Tenant] = ()
    limits: Mapping[str, Limit] = field(default_factory=dict)
    seconds: float = 60.0
    quiet: float = 0.2
    """Seconds before the first request."""
    tail: float = 0.5
    cores: int = 32
    has_target: bool = True
    """Whether the document has enough information to reach the targets."""
    activity: Sequence[str] = ()
    """Which parts of ``activity`` the document has: "host_cpu", "devices", "processes"."""
    activity_period: float = 0.1
    host_tick: float = 0.0
    """Seconds of one tick of host_cpu; 0 is exact."""
    faults: Sequence[str] = ()


@dataclass(frozen=True)
class Requests:
    """Every request as columns; times are cells of the grid, watts are [request, sensor]."""

    model: list[Model]
    start: Ints
    busy: Ints
    """First cell of its kernels."""
    end: Ints
    lane: Ints
    pid: Ints
    items: Ints
    own_cpu: Floats
    """CPU seconds of its own thread."""
    pool: Floats
    """Cores of native threads at work for it."""
    watts: Floats
    expected: Floats
    """Mean watts, given its entry in the document: class, items, time."""
    gpu: list[str | None]

    def __len__(self) -> int:
        return len(self.model)

    def first(self, sensor: Sensor) -> Ints:
        """The first cell in which each request is active on the sensor."""
        return self.busy if sensor.component == "gpu" else self.start


@dataclass(frozen=True)
class SensorTruth:
    """Power and energy of one sensor (joules; arrays over the grid have one entry per cell edge)."""

    cumulative: Floats
    """Joules from the trace's start to each cell edge, idle and all."""
    active: Floats
    """Active joules of each request."""
    process: float
    host: float
    idle_watts: float


def lognormal(rng: np.random.Generator, sigma: float) -> float:
    """A factor with mean 1."""
    return float(np.exp(sigma * rng.standard_normal() - sigma * sigma / 2)) if sigma else 1.0


def issue(world: World, rng: np.random.Generator, seconds: float) -> Requests:
    """Let every lane run until shortly before the end; the requests come ordered by their end."""
    rows: list[tuple[Model, int, int, int, Lane, int, int, float, dict[str, tuple[float, float]]]] = []
    last = seconds - world.tail
    for number, lane in enumerate(world.lanes):
        mean = float(np.mean([sum(m.seconds + m.item_seconds * m.max_items / 2 for m in job) for job in lane.jobs]))
        pause = mean * (1 - lane.load) / lane.load
        now = world.quiet + float(rng.uniform(0, mean)) * (lane.load < 1)
        while now < last:
            job = lane.jobs[int(rng.integers(len(lane.jobs)))]
            for model in job:
                items = int(rng.integers(1, model.max_items + 1))
                nominal = model.seconds + model.item_seconds * items
                long = nominal * lognormal(rng, model.duration_sigma)
                start, end = round(now / STEP), max(round(now / STEP) + 2, round((now + long) / STEP))
                now = end * STEP
                if now > last:
                    break
                late = now > seconds / 2
                for one in (model, *lane.companions):
                    drawn = _watts(one, items, nominal, late, rng)
                    busy = min(start + round(lane.lead * (0.5 + rng.random()) / STEP), end - 1)
                    cpu = min(
                        (end - start) * STEP * one.own_cores * max(0.0, 1 + 0.03 * rng.standard_normal()),
                        (end - start) * STEP,
                    )
                    rows.append((one, start, busy, end, lane, number, items, cpu, drawn))
            now += float(rng.exponential(pause)) if pause > 0 else 0.0
    rows.sort(key=lambda row: (row[3], row[5]))
    watts = np.zeros((len(rows), len(world.sensors)))
    expected = np.zeros_like(watts)
    for i, row in enumerate(rows):
        for j, sensor in enumerate(world.sensors):
            if sensor.component == "gpu" and sensor.id != row[4].gpu:
                continue
            own, mean = row[8].get(sensor.component, (0.0, 0.0))
            watts[i, j], expected[i, j] = own * sensor.part, mean * sensor.part
    return Requests(
        model=[row[0] for row in rows],
        start=np.array([row[1] for row in rows], dtype=np.int64),
        busy=np.array([row[2] for row in rows], dtype=np.int64),
        end=np.array([row[3] for row in rows], dtype=np.int64),
        lane=np.array([row[5] for row in rows], dtype=np.int64),
        pid=np.array([row[4].pid for row in rows], dtype=np.int64),
        items=np.array([row[6] for row in rows], dtype=np.int64),
        own_cpu=np.array([row[7] for row in rows]),
        pool=np.array([row[0].pool_cores for row in rows]),
        watts=watts,
        expected=expected,
        gpu=[row[4].gpu if "gpu" in row[0].watts else None for row in rows],
    )


def _watts(
    model: Model, items: int, nominal: float, late: bool, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """By component: the watts that one request draws, and the mean of its kind."""
    out = {}
    for component, mean in model.watts.items():
        if model.max_items > 1:
            mean = (model.base_joules + model.item_joules * items) / nominal
        mean *= model.drift if late else 1.0
        out[component] = (mean * lognormal(rng, model.spread), mean)
    return out


def paint(cells: int, start: Ints, end: Ints, height: Floats | float) -> Floats:
    """The sum over all spans [start, end) of their height, per cell."""
    delta = np.zeros(cells + 1)
    np.add.at(delta, start, height)
    np.subtract.at(delta, end, height)
    out = np.cumsum(delta[:-1])
    out[np.abs(out) < 1e-9] = 0.0
    return out


def integral(cells: Floats) -> Floats:
    """From values per cell to the integral up to each cell edge."""
    return np.concatenate(([0.0], np.cumsum(cells))) * STEP


@dataclass(frozen=True)
class Bouts:
    """When one tenant was on."""

    tenant: Tenant
    start: Ints
    end: Ints
    factor: Floats


def bouts(tenant: Tenant, rng: np.random.Generator, seconds: float) -> Bouts:
    """Draw on and off times of a tenant; ``off`` = 0 is always on."""
    starts, ends, now = [], [], float(rng.exponential(tenant.off)) if tenant.off else 0.0
    while now < seconds:
        long = float(rng.exponential(tenant.on)) if tenant.off else seconds
        starts.append(round(now / STEP))
        ends.append(min(round((now + long) / STEP), round(seconds / STEP)))
        now += long + (float(rng.exponential(tenant.off)) if tenant.off else 0.0)
    factor = np.array([lognormal(rng, tenant.spread) for _ in starts])
    return Bouts(tenant, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64), factor)


def power(
    world: World, column: int, requests: Requests, tenants: Sequence[Bouts], cells: int, workers: set[int]
) -> SensorTruth:
    """The true power of one sensor, and the true joules of each request."""
    sensor = world.sensors[column]
    limit = world.limits.get(sensor.id)
    first, watts = requests.first(sensor), requests.watts[:, column]
    wobbling = any(m.wobble for m in requests.model)
    total = _wobbled(requests, first, watts, cells) if wobbling else paint(cells, first, requests.end, watts)
    others = [(b, paint(cells, b.start, b.end, b.factor * b.tenant.watts.get(sensor.id, 0.0))) for b in tenants]
    wanted = total + sum((cells_ for _, cells_ in others), np.zeros(cells))
    given = limit(wanted) if limit is not None else wanted
    scale = np.divide(given, wanted, out=np.ones(cells), where=wanted > 0)
    if limit is not None and limit.shapley:
        active = _shapley(requests, first, watts, cells, limit)
    elif wobbling:
        active = np.array(
            [
                float(np.dot(scale[a:b], watts[i] * _shape(requests.model[i], b - a)) * STEP)
                for i, (a, b) in enumerate(zip(first.tolist(), requests.end.tolist(), strict=True))
            ]
        )
    else:
        scaled = integral(scale)
        active = watts * (scaled[requests.end] - scaled[first])
    shares = {True: 0.0, False: 0.0}
    for bout, cells_ in others:
        shares[bout.tenant.pid in workers] += float(np.dot(cells_, scale) * STEP)
    return SensorTruth(integral(given + sensor.idle), active, shares[True], shares[False], sensor.idle)


def _shape(model: Model, cells: int) -> Floats:
    return 1 + model.wobble * np.sin(2 * np.pi * (np.arange(cells) + 0.5) / cells)


def _wobbled(requests: Requests, first: Ints, watts: Floats, cells: int) -> Floats:
    out = np.zeros(cells)
    for i, (a, b) in enumerate(zip(first.tolist(), requests.end.tolist(), strict=True)):
        out[a:b] += watts[i] * _shape(requests.model[i], b - a)
    return out


def _shapley(
    requests: Requests, first: Ints, watts: Floats, cells: int, limit: Callable[[Floats], Floats]
) -> Floats:
    """Shapley value of v(S) = limit(sum of S's watts) at each instant (a lane runs one request at a time)."""
    lanes = int(requests.lane.max()) + 1
    drawn = [
        paint(cells, first[mine], requests.end[mine], watts[mine])
        for mine in (requests.lane == lane for lane in range(lanes))
    ]
    value = [
        limit(sum((drawn[i] for i in range(lanes) if mask >> i & 1), np.zeros(cells))) for mask in range(1 << lanes)
    ]
    weight = [1 / (lanes * _choose(lanes - 1, size)) for size in range(lanes)]
    active = np.zeros(len(requests))
    for lane in range(lanes):
        share = np.zeros(cells)
        for mask in range(1 << lanes):
            if not mask >> lane & 1:
                share += weight[mask.bit_count()] * (value[mask | 1 << lane] - value[mask])
        curve, mine = integral(share), requests.lane == lane
        active[mine] = curve[requests.end[mine]] - curve[first[mine]]
    return active


def _choose(n: int, k: int) -> int:
    out = 1
    for i in range(k):
        out = out * (n - i) // (i + 1)
    return out
