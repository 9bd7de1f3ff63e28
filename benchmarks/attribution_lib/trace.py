"""From a scenario to what the meter would have recorded (a replay document) and what was true."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .document import START_NS, clock_ns, document_of, pool_of, usage_of
from .scenarios import SCENARIOS
from .sensors import UNDEFINED, Sample, read
from .world import (
    STEP,
    Bouts,
    Floats,
    Ints,
    Requests,
    SensorTruth,
    World,
    bouts,
    integral,
    issue,
    paint,
    power,
)


@dataclass(frozen=True)
class RequestTruth:
    """What one request really drew (joules)."""

    model: str
    phase: str | None
    active_joules: float
    idle_joules: float
    """Its part of idle power: divided equally among those in flight on the device at each instant."""
    sensors: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Truth:
    """Everything that the document hides. Arrays over requests follow ``ids``; times in them are seconds."""

    scenario: str
    seed: int
    seconds: float
    requests: Mapping[str, RequestTruth]
    models: Mapping[str, Mapping[str, float]]
    """Mean active watts of a running request, by model (by model/phase where there are phases) and component."""
    class_watts: Mapping[str, float]
    """The same over all components."""
    idle_watts: Mapping[str, float]
    cumulative: Mapping[str, tuple[Ints, Floats]]
    """By sensor: (t_ns, joules since the start), idle and all, each 0.1 ms."""
    energy: Mapping[str, Mapping[str, float]]
    """By sensor: joules of "requests", "process", "host", "idle" and their "total"."""
    counters: Mapping[str, Floats]
    """By sensor: rows (t_ns, joules since the first reading) of the counter before wraps and faults."""
    integral_joules: Mapping[str, float | None]
    """By sensor: joules that the readings measured, by an independent sum; None where faults leave it undefined."""
    ids: list[str]
    kinds: list[str]
    """The class of each request in the document: model, or model/phase."""
    pid: Ints
    start: Floats
    end: Floats
    busy: Floats
    """When its first kernel starts."""
    own_cpu: Floats
    active: Mapping[str, Floats]
    """By sensor: active joules of each request."""
    expected: Mapping[str, Floats]
    """By sensor: mean watts of a request, given its entry in the document."""
    components: Mapping[str, str]
    usage: Mapping[str, Mapping[int, Floats]]
    """By sensor and pid: seconds of busy time (GPU) or of CPU time up to each 0.1 ms."""
    pool: Mapping[int, Floats]
    """By pid: CPU seconds of its native pool threads up to each 0.1 ms."""
    others: Mapping[str, Mapping[int, tuple[float, Floats]]]
    """By sensor and pid: (watts while on, seconds on up to each 0.1 ms) of what is no request."""
    cores: int

    def span(self, sensor: str) -> tuple[Floats, Floats]:
        """When each request is active on the sensor (seconds)."""
        return (self.busy if self.components[sensor] == "gpu" else self.start), self.end

    def edges(self, sensor: str) -> tuple[Floats, Floats]:
        """(seconds, joules) of the readings at which the healthy counter moved, the first one among them."""
        rows = self.counters[sensor]
        moved = np.concatenate(([True], np.diff(rows[:, 1]) > 0))
        return (rows[moved, 0] - START_NS) * 1e-9, rows[moved, 1]


@dataclass(frozen=True)
class _Drawn:
    """What a scenario drew in one run: its requests and tenants, and by sensor power, busy time and readings."""

    world: World
    seconds: float
    requests: Requests
    tenants: list[Bouts]
    real: Mapping[str, SensorTruth]
    usage: Mapping[str, Mapping[int, Floats]]
    healthy: Mapping[str, list[Sample]]

    @property
    def cells(self) -> int:
        return round(self.seconds / STEP)

    @property
    def labels(self) -> list[str]:
        """The name of each request's model in the document."""
        return [m.label or m.name for m in self.requests.model]

    @property
    def kinds(self) -> list[str]:
        """The class of each request in the document: model, or model/phase."""
        models = zip(self.labels, self.requests.model, strict=True)
        return [f"{label}/{m.phase}" if m.phase else label for label, m in models]


def make_trace(scenario: str, seed: int, seconds: float | None = None) -> tuple[dict[str, Any], Truth]:
    """The replay document of a scenario, and the truth behind it."""
    world = SCENARIOS[scenario]
    seconds = float(seconds or world.seconds)
    rng = np.random.default_rng([seed, zlib.crc32(scenario.encode())])
    cells = round(seconds / STEP)
    requests = issue(world, rng, seconds)
    tenants = [bouts(tenant, rng, seconds) for tenant in world.tenants]
    workers = {lane.pid for lane in world.lanes}
    real = {s.id: power(world, j, requests, tenants, cells, workers) for j, s in enumerate(world.sensors)}
    usage = {s.id: usage_of(s.component, s.id, requests, tenants, cells) for s in world.sensors}
    healthy = {s.id: read(s, real[s.id].cumulative, STEP, rng) for s in world.sensors}
    document = document_of(world, requests, usage, healthy, rng, seconds)
    ids = [request["id"] for request in document["requests"]]
    return document, _truth(scenario, seed, _Drawn(world, seconds, requests, tenants, real, usage, healthy), ids)


def _truth(scenario: str, seed: int, drawn: _Drawn, ids: list[str]) -> Truth:
    world, requests, real = drawn.world, drawn.requests, drawn.real
    kinds, cells = drawn.kinds, drawn.cells
    expected = {s.id: _expected_watts(requests, j, kinds) for j, s in enumerate(world.sensors)}
    models = _means(world, requests, kinds, expected)
    when = START_NS + np.arange(cells + 1, dtype=np.int64) * round(STEP * 1e9)
    return Truth(
        scenario=scenario,
        seed=seed,
        seconds=drawn.seconds,
        requests=_request_truths(drawn, ids),
        models=models,
        class_watts={name: sum(by.values()) for name, by in models.items()},
        idle_watts={s.id: s.idle for s in world.sensors},
        cumulative={s: (when, one.cumulative) for s, one in real.items()},
        energy={s: _shares(one, drawn.seconds) for s, one in real.items()},
        counters={s: np.array([[clock_ns(t), joules] for t, joules in rows]) for s, rows in drawn.healthy.items()},
        integral_joules={
            s: None if UNDEFINED & set(world.faults) else rows[-1][1] - rows[0][1]
            for s, rows in drawn.healthy.items()
        },
        ids=ids,
        kinds=kinds,
        pid=requests.pid,
        start=requests.start * STEP,
        end=requests.end * STEP,
        busy=requests.busy * STEP,
        own_cpu=requests.own_cpu,
        active={s: one.active for s, one in real.items()},
        expected=expected,
        components={s.id: s.component for s in world.sensors},
        usage=drawn.usage,
        pool={pid: integral(pool_of(requests, pid, cells)) for pid in sorted(set(requests.pid.tolist()))},
        others={s.id: _others(s.id, drawn.tenants, cells) for s in world.sensors},
        cores=world.cores,
    )


def _request_truths(drawn: _Drawn, ids: list[str]) -> dict[str, RequestTruth]:
    """Joules of each request by sensor. A request draws from its own GPU, and from every sensor that is no GPU."""
    sensors, requests = drawn.world.sensors, drawn.requests
    active = {s.id: drawn.real[s.id].active.tolist() for s in sensors}
    idle = {s.id: _idle(s.id, s.component, s.idle, requests, drawn.cells).tolist() for s in sensors}
    truths = {}
    for i, (name, label) in enumerate(zip(ids, drawn.labels, strict=True)):
        by_sensor = {
            s.id: {"active": active[s.id][i], "idle": idle[s.id][i]}
            for s in sensors
            if s.component != "gpu" or requests.gpu[i] == s.id
        }
        truths[name] = RequestTruth(
            label,
            requests.model[i].phase,
            sum(one["active"] for one in by_sensor.values()),
            sum(one["idle"] for one in by_sensor.values()),
            by_sensor,
        )
    return truths


def _shares(truth: SensorTruth, seconds: float) -> dict[str, float]:
    """Joules of a sensor by share, and their total."""
    return {
        "requests": float(truth.active.sum()),
        "process": truth.process,
        "host": truth.host,
        "idle": truth.idle_watts * seconds,
        "total": float(truth.cumulative[-1]),
    }


def _expected_watts(requests: Requests, column: int, kinds: list[str]) -> Floats:
    """Mean watts of each request; classes that have one name in the document get their common mean."""
    expected = requests.expected[:, column].copy()
    hidden: dict[str, set[tuple[str, str | None]]] = {}
    for kind, model in zip(kinds, requests.model, strict=True):
        hidden.setdefault(kind, set()).add((model.name, model.phase))
    long = (requests.end - requests.start).astype(float)
    for kind, names in hidden.items():
        if len(names) > 1:
            mine = np.array([k == kind for k in kinds], dtype=bool)
            expected[mine] = np.dot(expected[mine], long[mine]) / long[mine].sum()
    return expected


def _means(
    world: World, requests: Requests, kinds: list[str], expected: Mapping[str, Floats]
) -> dict[str, dict[str, float]]:
    """Mean watts of a running request by class and component, over the classes' time."""
    long = (requests.end - requests.start).astype(float)
    out: dict[str, dict[str, float]] = {}
    for kind in sorted(set(kinds)):
        mine = np.array([k == kind for k in kinds], dtype=bool)
        watts: dict[str, float] = {}
        for sensor in world.sensors:
            mean = float(np.dot(expected[sensor.id][mine], long[mine]) / long[mine].sum())
            watts[sensor.component] = watts.get(sensor.component, 0.0) + mean
        out[kind] = watts
    return out


def _idle(sensor: str, component: str, watts: float, requests: Requests, cells: int) -> Floats:
    """Idle joules of each request: idle watts over the number in flight on the device, over its own time."""
    on = np.array([component != "gpu" or gpu == sensor for gpu in requests.gpu], dtype=bool)
    flight = paint(cells, requests.start[on], requests.end[on], 1.0)
    each = integral(np.divide(watts, flight, out=np.zeros(cells), where=flight > 0.5))
    return np.where(on, each[requests.end] - each[requests.start], 0.0)


def _others(sensor: str, tenants: list[Bouts], cells: int) -> dict[int, tuple[float, Floats]]:
    out = {}
    for bout in tenants:
        if sensor in bout.tenant.watts:
            out[bout.tenant.pid] = (bout.tenant.watts[sensor], integral(paint(cells, bout.start, bout.end, 1.0)))
    return out
