"""What other meters would charge each request, as formulas on the same trace.

Every one is written from its definition (cited in its docstring) and gets the best case: the counter as it was
before wraps and faults, and the true idle watts wherever its definition allows to subtract an idle power, so that
all are compared on active joules. Meters of processes, which know no requests, have each process's joules divided
over its requests by the time that they ran within the tick. Each returns every request's active joules on a sensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from .oracle import active_joules, at, charge, overlaps, split
from .trace import Truth
from .world import Floats


def window_delta(truth: Truth, sensor: str) -> Floats:
    """Zeus ``begin_window``/``end_window``: the counter's growth over the request, all of the device to each.

    https://github.com/ml-energy/zeus, ``zeus/monitor/energy.py``. Its joules include idle; here true idle x
    duration is taken off.
    """
    edges, joules = truth.edges(sensor)
    start, end = _mine(truth, sensor)
    delta = _held(edges, joules, end) - _held(edges, joules, start)
    return np.maximum(delta - truth.idle_watts[sensor] * (end - start), 0.0)


def tick_mean(truth: Truth, sensor: str) -> Floats:
    """CodeCarbon: mean power of each tick (1 s here, its default is 15 s) x the time that the task ran in it.

    https://github.com/mlco2/codecarbon, ``codecarbon/external/scheduler.py`` and ``core/measure.py``. The machine's
    power goes to every open task. Its joules include idle; true idle is taken off.
    """
    ticks, joules = _ticks(truth, sensor, 1.0)
    start, end = _mine(truth, sensor)
    who, k, seconds = overlaps(start, end, ticks)
    watts = np.maximum(joules / np.diff(ticks) - truth.idle_watts[sensor], 0.0)
    return np.bincount(who, watts[k] * seconds, minlength=len(truth.ids))


def kepler(truth: Truth, sensor: str) -> Floats:
    """Kepler (the rewrite): active x the process's part of all use, each 5 s.

    https://github.com/sustainable-computing-io/kepler, ``internal/monitor/node.go`` and ``process.go``. On a
    CPU active is growth x host utilisation (its own idle definition); on a GPU growth - idle watts, which are true
    here (``gpu.idlePower``).
    """
    ticks, joules = _ticks(truth, sensor, 5.0)
    used = {pid: np.diff(at(curve, ticks)) for pid, curve in truth.usage[sensor].items()}
    everyone = sum(used.values(), np.zeros(len(joules)))
    if truth.components[sensor] == "gpu":
        active = np.maximum(joules - truth.idle_watts[sensor] * np.diff(ticks), 0.0)
    else:
        active = joules * np.minimum(everyone / (truth.cores * np.diff(ticks)), 1.0)
    return _processes(truth, sensor, ticks, {pid: active * _ratio(own, everyone) for pid, own in used.items()})


def scaphandre(truth: Truth, sensor: str) -> Floats:
    """Scaphandre: power x the process's part of the capacity of all cores, each 2 s; the rest is nobody's.

    https://github.com/hubblo-org/scaphandre, ``src/sensors/mod.rs`` ``get_process_attributed_power``. It knows no
    GPU; there the capacity is the wall time, or what all used together where kernels of several processes overlap.
    Nothing to subtract: what is not used is left over.
    """
    ticks, joules = _ticks(truth, sensor, 2.0)
    cores = 1 if truth.components[sensor] == "gpu" else truth.cores
    used = {pid: np.diff(at(curve, ticks)) for pid, curve in truth.usage[sensor].items()}
    capacity = np.maximum(cores * np.diff(ticks), sum(used.values(), np.zeros(len(joules))))
    return _processes(truth, sensor, ticks, {pid: joules * own / capacity for pid, own in used.items()})


def green_metrics(truth: Truth, sensor: str) -> Floats:
    """Green Metrics Tool: (energy of the phase - baseline x duration) x part of the use.

    https://github.com/green-coding-solutions/green-metrics-tool, ``lib/phase_stats.py``. The phase is the whole
    trace, the baseline the true idle.
    """
    edges, joules = truth.edges(sensor)
    phase = edges[[0, -1]]
    active = joules[-1] - joules[0] - truth.idle_watts[sensor] * (phase[1] - phase[0])
    used = {pid: np.diff(at(curve, phase)) for pid, curve in truth.usage[sensor].items()}
    everyone = sum(used.values(), np.zeros(1))
    return _processes(truth, sensor, phase, {pid: active * _ratio(own, everyone) for pid, own in used.items()})


def smartwatts(truth: Truth, sensor: str) -> Floats:
    """SmartWatts: dynamic watts by a non-negative regression on use, the intercept in proportion.

    https://github.com/powerapi-ng/smartwatts-formula, ``smartwatts/report_handler.py``; arXiv 2001.02505. In ticks
    of 1 s, with use in place of hardware events, fitted to the whole trace. Of the intercept the true idle is taken
    off; the sum is the model's power, not the sensor's.
    """
    ticks, joules = _ticks(truth, sensor, 1.0)
    used = {pid: np.diff(at(curve, ticks)) for pid, curve in truth.usage[sensor].items()}
    everyone = sum(used.values(), np.zeros(len(joules)))
    design = np.stack([everyone, np.diff(ticks)], axis=1)
    slope, intercept = nnls(design.T @ design, design.T @ joules)
    above = max(intercept - truth.idle_watts[sensor], 0.0) * np.diff(ticks)
    return _processes(
        truth, sensor, ticks, {pid: slope * own + _ratio(own, everyone) * above for pid, own in used.items()}
    )


def equal_split(truth: Truth, sensor: str) -> Floats:
    """The interval's active joules spread evenly over its time, each instant's equally over those in flight."""
    edges, joules = active_joules(truth, sensor)
    start, end = _mine(truth, sensor)
    times = np.unique(np.concatenate((start, end, edges)))
    middle = (times[1:] + times[:-1]) / 2
    flight = np.searchsorted(np.sort(start), middle) - np.searchsorted(np.sort(end), middle)
    k = np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, len(joules) - 1)
    inside = (middle > edges[0]) & (middle < edges[-1]) & (flight > 0)
    watts = np.where(inside, joules[k] / np.diff(edges)[k] / np.maximum(flight, 1), 0.0)
    curve = np.concatenate(([0.0], np.cumsum(watts * np.diff(times))))
    return np.interp(end, times, curve) - np.interp(start, times, curve)


def time_split(truth: Truth, sensor: str) -> Floats:
    """The interval's active joules by busy time (GPU), or by CPU time: own thread + a part of the process's pool.

    The usual request-level rule without learned weights (Shen et al., Power Containers, ASPLOS 2013, before its
    model). The pool's CPU time goes to the open requests of its process by their time in the interval.
    """
    edges, joules = active_joules(truth, sensor)
    if truth.components[sensor] == "gpu":
        rest = sum((np.diff(at(on, edges)) for _, on in truth.others[sensor].values()), np.zeros(len(joules)))
        return split(truth, sensor, edges, joules, (truth.expected[sensor] > 0).astype(float), rest)
    rate = truth.own_cpu / np.maximum(truth.end - truth.start, 1e-9)
    who, k, seconds = overlaps(truth.start, truth.end, edges)
    used = rate[who] * seconds
    for pid, curve in truth.pool.items():
        mine = truth.pid[who] == pid
        total = np.bincount(k[mine], seconds[mine], minlength=len(joules))
        used[mine] += _ratio(seconds[mine], total[k[mine]]) * np.diff(at(curve, edges))[k[mine]]
    host = sum((np.diff(at(curve, edges)) for curve in truth.usage[sensor].values()), np.zeros(len(joules)))
    # A clock read between two requests may show a little more of them than of the host.
    host = np.maximum(host, np.bincount(k, used, minlength=len(joules)))
    return np.bincount(who, _ratio(used, host[k]) * joules[k], minlength=len(truth.ids))


def causal_nnls(truth: Truth, sensor: str) -> Floats:
    """Mean watts of each class by non-negative least squares over the past, as weights of the time split.

    Windows are counter intervals (of 0.1 s at least); refitted each second to all before it. The family of Power
    Containers' recalibration (ASPLOS 2013). It has the true power of everything but requests, as the oracle has.
    """
    edges, joules = active_joules(truth, sensor)
    names = sorted(set(truth.kinds))
    kind = np.searchsorted(names, truth.kinds)
    start, end = truth.span(sensor)
    on = truth.expected[sensor] > 0
    windows = _at_least(edges, 0.1)
    who, k, seconds = overlaps(start, end, windows)
    others = [np.diff(at(curve, windows)) for _, curve in truth.others[sensor].values()]
    width = len(names) + len(others)
    design = np.zeros((len(windows) - 1, width))
    np.add.at(design, (k, kind[who]), seconds * on[who])
    for j, column in enumerate(others):
        design[:, len(names) + j] = column
    cumulative = np.concatenate(([0.0], np.cumsum(joules)))
    grown = np.diff(cumulative[np.searchsorted(edges, windows)])
    fine_others = [np.diff(at(curve, edges)) for _, curve in truth.others[sensor].values()]
    out = np.zeros(len(truth.ids))
    weights, gram, right, fitted = np.ones(width), np.zeros((width, width)), np.zeros(width), 0
    pieces = np.append(np.arange(0.0, windows[-1], 1.0), np.inf)
    for since, until in pairwise(pieces.tolist()):
        upto = int(np.searchsorted(windows[1:], since, side="right"))
        gram += design[fitted:upto].T @ design[fitted:upto]
        right += design[fitted:upto].T @ grown[fitted:upto]
        fitted = upto
        if fitted >= 10:
            weights = nnls(gram, right)
        a, b = np.searchsorted(edges, since), min(int(np.searchsorted(edges, until)), len(edges) - 1)
        if b <= a:
            continue
        rest = sum((weights[len(names) + j] * o[a:b] for j, o in enumerate(fine_others)), np.zeros(b - a))
        tiny = 1e-6 * max(float(weights.max()), 1e-9)
        out += split(truth, sensor, edges[a : b + 1], joules[a:b], np.maximum(weights[kind], tiny) * on, rest)
    return out


PEERS: Mapping[str, Callable[[Truth, str], Floats]] = {
    "zeus": window_delta,
    "codecarbon": tick_mean,
    "kepler": kepler,
    "scaphandre": scaphandre,
    "gmt": green_metrics,
    "smartwatts": smartwatts,
    "equal": equal_split,
    "time": time_split,
    "nnls": causal_nnls,
}
"""By column name; "equal", "time" and "nnls" are rules without a product."""


def peer(name: str, truth: Truth) -> dict[str, Any]:
    """A peer's joules in the shape of a result."""
    return charge(truth, {sensor: PEERS[name](truth, sensor) for sensor in truth.components})


def nnls(gram: Floats, right: Floats, sweeps: int = 200) -> Floats:
    """Minimise |A x - b| over x >= 0 by coordinate descent, given A'A and A'b."""
    x = np.zeros(len(right))
    diagonal = np.diag(gram)
    for _ in range(sweeps):
        before = x.copy()
        for j in np.flatnonzero(diagonal > 0):
            x[j] = max(0.0, x[j] + (right[j] - gram[j] @ x) / diagonal[j])
        if np.abs(x - before).max() <= 1e-6 * max(float(x.max()), 1e-9):
            break
    return x


def _mine(truth: Truth, sensor: str) -> tuple[Floats, Floats]:
    """Start and end of each request, an empty span where it does not use the sensor."""
    on = truth.expected[sensor] > 0
    return truth.start, np.where(on, truth.end, truth.start)


def _held(edges: Floats, joules: Floats, when: Floats) -> Floats:
    """What a reading shows at any time: the counter's last refresh."""
    return joules[np.clip(np.searchsorted(edges, when, side="right") - 1, 0, len(joules) - 1)]


def _ticks(truth: Truth, sensor: str, seconds: float) -> tuple[Floats, Floats]:
    """Ticks from the first reading to the last, and the counter's growth over each."""
    edges, joules = truth.edges(sensor)
    ticks = np.append(np.arange(edges[0], edges[-1] - seconds / 2, seconds), edges[-1])
    return ticks, np.diff(_held(edges, joules, ticks))


def _processes(truth: Truth, sensor: str, ticks: Floats, joules: Mapping[int, Floats]) -> Floats:
    """Each process's joules of a tick over its requests by their time in it."""
    start, end = _mine(truth, sensor)
    who, k, seconds = overlaps(start, end, ticks)
    out = np.zeros(len(truth.ids))
    for pid, given in joules.items():
        mine = truth.pid[who] == pid
        total = np.bincount(k[mine], seconds[mine], minlength=len(given))
        share = _ratio(seconds[mine], total[k[mine]])
        out += np.bincount(who[mine], share * given[k[mine]], minlength=len(truth.ids))
    return out


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _at_least(edges: Floats, seconds: float) -> Floats:
    """Those edges that lie so far apart, as far as the counter allows."""
    kept = [0]
    for i in range(1, len(edges)):
        if edges[i] - edges[kept[-1]] >= seconds * 0.999:
            kept.append(i)
    if kept[-1] != len(edges) - 1:
        kept.append(len(edges) - 1)
    return edges[kept]
