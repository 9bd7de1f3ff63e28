"""The replay document of a trace: what the meter would have recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .sensors import Sample, fault
from .world import STEP, Bouts, Floats, Requests, World, integral, paint

START_NS = 1_000_000_000_000
"""The document's clock when the trace starts."""


def usage_of(
    component: str, sensor: str, requests: Requests, tenants: list[Bouts], cells: int
) -> dict[int, Floats]:
    """Seconds of use up to each cell edge, by pid: GPU busy time (never above the wall time) or CPU time."""
    out = {}
    for pid in sorted({*requests.pid.tolist(), *(b.tenant.pid for b in tenants)}):
        mine = requests.pid == pid
        if component == "gpu":
            mine &= np.array([gpu == sensor for gpu in requests.gpu], dtype=bool)
            running = paint(cells, requests.busy[mine], requests.end[mine], 1.0)
            for bout in tenants:
                if bout.tenant.pid == pid and sensor in bout.tenant.watts:
                    running += paint(cells, bout.start, bout.end, 1.0)
            out[pid] = integral((running > 0).astype(float))
        else:
            long = (requests.end - requests.start)[mine] * STEP
            rate = paint(cells, requests.start[mine], requests.end[mine], requests.own_cpu[mine] / long)
            rate += pool_of(requests, pid, cells)
            for bout in tenants:
                if bout.tenant.pid == pid:
                    rate += paint(cells, bout.start, bout.end, bout.tenant.cores)
            out[pid] = integral(rate)
    return out


def pool_of(requests: Requests, pid: int, cells: int) -> Floats:
    """Cores of a process's native threads at work, per cell."""
    mine = requests.pid == pid
    return paint(cells, requests.start[mine], requests.end[mine], requests.pool[mine])


def clock_ns(seconds: float) -> int:
    """The document's clock at a second of the trace."""
    return START_NS + round(seconds * 1e9)


def document_of(
    world: World,
    requests: Requests,
    usage: Mapping[str, Mapping[int, Floats]],
    healthy: Mapping[str, list[Sample]],
    rng: np.random.Generator,
    seconds: float,
) -> dict[str, Any]:
    """The whole document; ``healthy`` are the readings before wraps and faults."""
    sensors, events = [], []
    for sensor in world.sensors:
        readings, seen = fault(sensor, healthy[sensor.id], world.faults, rng)
        sensors.append(
            {
                "id": sensor.id,
                "component": sensor.component,
                "method": "measured",
                "idle_watts": sensor.idle * (1 + sensor.idle_error) if sensor.idle_in_document else None,
                "wrap_joules": sensor.wrap,
                "samples": [[clock_ns(t), joules] for t, joules in readings],
            }
        )
        events += [{**event, "t_ns": clock_ns(float(event["t_ns"]))} for event in seen]  # type: ignore[arg-type]
    return {
        "version": 1,
        "sensors": sensors,
        "activity": _activity(world, requests, usage, rng, seconds),
        "events": sorted(events, key=lambda event: event["t_ns"]),
        "requests": _requests(requests),
    }


def _activity(
    world: World,
    requests: Requests,
    usage: Mapping[str, Mapping[int, Floats]],
    rng: np.random.Generator,
    seconds: float,
) -> dict[str, Any]:
    cells = round(seconds / STEP)
    when = np.arange(0, round(seconds / world.activity_period) + 1) * world.activity_period
    when[1:-1] += rng.uniform(0, 0.001, len(when) - 2)
    when = np.minimum(when, seconds)
    edges = np.arange(cells + 1) * STEP

    def series(curve: Floats, tick: float = 0.0) -> list[list[float]]:
        values = np.interp(when, edges, curve)
        if tick:
            values = np.floor(values / tick + 1e-9) * tick
        return [[clock_ns(t), value] for t, value in zip(when.tolist(), values.tolist(), strict=True)]

    cpu = next((s.id for s in world.sensors if s.component in ("cpu", "dram")), None)
    gpus = [s.id for s in world.sensors if s.component == "gpu"]
    activity: dict[str, Any] = {}
    if "host_cpu" in world.activity and cpu is not None:
        activity["host_cpu"] = series(sum(usage[cpu].values(), np.zeros(cells + 1)), world.host_tick)
    if "devices" in world.activity:
        activity["devices"] = {gpu: series(_together(usage[gpu], cells)) for gpu in gpus}
    if "processes" in world.activity:
        processes: dict[str, dict[str, Any]] = {}
        for pid in sorted({pid for by_pid in usage.values() for pid in by_pid}):
            entry = processes[str(pid)] = {}
            if cpu is not None:
                entry["cpu"] = series(usage[cpu][pid])
                entry["pool"] = series(integral(pool_of(requests, pid, cells)))
            for gpu in gpus:
                if usage[gpu][pid][-1] > 0:
                    entry[gpu] = series(usage[gpu][pid])
        activity["processes"] = processes
    return activity


def _together(by_pid: Mapping[int, Floats], cells: int) -> Floats:
    """Busy time of the device: its cells in which any process runs a kernel."""
    busy = np.zeros(cells, dtype=bool)
    for curve in by_pid.values():
        busy |= np.diff(curve) > STEP / 2
    return integral(busy.astype(float))


def _requests(requests: Requests) -> list[dict[str, Any]]:
    out = []
    columns = zip(
        requests.model,
        requests.start.tolist(),
        requests.busy.tolist(),
        requests.end.tolist(),
        requests.pid.tolist(),
        requests.items.tolist(),
        requests.own_cpu.tolist(),
        requests.gpu,
        strict=True,
    )
    for number, (model, start, busy, end, pid, items, own_cpu, gpu) in enumerate(columns):
        request: dict[str, Any] = {
            "id": f"r{number}",
            "pid": pid,
            "model": model.label or model.name,
            "items": items,
            "start_ns": clock_ns(start * STEP),
            "end_ns": clock_ns(end * STEP),
            "cpu_ns": round(own_cpu * 1e9),
        }
        if model.phase is not None:
            request["phase"] = model.phase
        if gpu is not None:
            request["device_busy_ns"] = {gpu: [[clock_ns(busy * STEP), clock_ns(end * STEP)]]}
        out.append(request)
    return out
