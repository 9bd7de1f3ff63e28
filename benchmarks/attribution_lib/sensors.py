"""What a counter shows of the hidden energy: refresh, quantum, window, gain, wrap, and every way to go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Sample = tuple[float, float]


@dataclass(frozen=True)
class Sensor:
    """One counter of joules."""

    id: str = "gpu0"
    component: str = "gpu"
    period: float = 0.1
    """Seconds between two refreshes of the counter."""
    poll: float | None = None
    """Seconds between two readings; None reads at every refresh."""
    late: float = 0.0
    """A reading comes up to so many seconds after what it shows (uniform)."""
    jitter: float = 0.001
    """Refreshes come up to so many seconds late (uniform)."""
    quantum: float = 1e-3
    """Joules of one step of the counter."""
    idle: float = 60.0
    """True idle watts."""
    idle_in_document: bool = True
    """Whether the document gives ``idle_watts``."""
    idle_error: float = 0.0
    """Relative error of the ``idle_watts`` that the document gives."""
    gain: float = 1.0
    boxcar: float | None = None
    """Seconds at the end of each period that the sensor observes; it holds their mean for the whole period."""
    mean: float | None = None
    """Seconds of a moving average."""
    watt_quantum: float | None = None
    wrap: float | None = None
    """The counter's range in joules; it starts near the wrap."""
    first: float = 1000.0
    """The counter's first reading in joules."""
    part: float = 1.0
    """Which part of its component's power runs through it (two packages of one host)."""


def read(sensor: Sensor, cumulative: Floats, step: float, rng: np.random.Generator) -> list[Sample]:
    """(seconds, joules since the first reading) of every reading of a counter that works, never wrapped."""
    edges = np.arange(len(cumulative)) * step
    seconds = float(edges[-1])
    refresh = np.arange(0, round(seconds / sensor.period) + 1) * sensor.period
    refresh[1:] += rng.uniform(0, sensor.jitter, len(refresh) - 1)
    refresh = np.minimum(refresh, seconds)
    shown = _shown(sensor, refresh, edges, cumulative) * sensor.gain
    shown = np.floor((shown - shown[0]) / sensor.quantum + 1e-9) * sensor.quantum
    if sensor.poll is None:
        when = refresh.copy()
        when[1:] += rng.uniform(0, sensor.late, len(when) - 1) if sensor.late else 0.0
    else:
        when = np.arange(0, round(seconds / sensor.poll) + 1) * sensor.poll
        when[1:] += rng.uniform(0, min(0.2 * sensor.poll, 0.002), len(when) - 1)
        shown = shown[np.searchsorted(refresh, when, side="right") - 1]
    return list(zip(when.tolist(), shown.tolist(), strict=True))


def _shown(sensor: Sensor, refresh: Floats, edges: Floats, cumulative: Floats) -> Floats:
    """The counter's joules at each refresh."""
    window = sensor.boxcar or sensor.mean
    if window is None:
        return np.interp(refresh, edges, cumulative)
    since = np.maximum(refresh - window, 0.0)
    watts = (np.interp(refresh, edges, cumulative) - np.interp(since, edges, cumulative)) / np.maximum(
        refresh - since, 1e-9
    )
    watts[0] = watts[1]
    if sensor.watt_quantum:
        watts = np.round(watts / sensor.watt_quantum) * sensor.watt_quantum
    return np.concatenate(([0.0], np.cumsum(watts[1:] * np.diff(refresh))))


UNDEFINED = {"lost", "lost_silent", "reset", "reset_silent", "suspend", "spike", "backwards"}
"""Faults after which the true measured joules are a matter of definition: no independent integral."""


def fault(
    sensor: Sensor, samples: list[Sample], faults: Sequence[str], rng: np.random.Generator
) -> tuple[list[Sample], list[dict[str, object]]]:
    """The readings as the document shows them (absolute, wrapped), and the events that announce faults."""
    readings = [(t, sensor.first + joules) for t, joules in samples]
    events: list[dict[str, object]] = []
    if sensor.wrap is not None:
        offset = sensor.wrap * 0.97 - sensor.first
        readings = [(t, (joules + offset) % sensor.wrap) for t, joules in readings]
    seconds = samples[-1][0]
    for place, name in enumerate(faults):
        at = seconds * ((place + 1) / (len(faults) + 1) + 0.02 * float(rng.random()))
        readings = _FAULTS[name](readings, at, rng)
        if name in ("reset", "lost", "suspend"):
            # Whoever reads the counter notes the event at the first reading that shows it, or fails.
            seen = next(t for t, _ in samples if t >= at)
            events.append({"t_ns": seen, "kind": name, "sensor": sensor.id})
    return readings, events


def _from(readings: list[Sample], at: float) -> int:
    return next((i for i, (t, _) in enumerate(readings) if t >= at), len(readings) - 2)


def _reset(readings: list[Sample], at: float, rng: np.random.Generator) -> list[Sample]:
    """The driver is reloaded half a period before a reading: the counter starts again at 0."""
    i = max(_from(readings, at), 1)
    zero = (readings[i - 1][1] + readings[i][1]) / 2
    return readings[:i] + [(t, joules - zero) for t, joules in readings[i:]]


def _lost(readings: list[Sample], at: float, rng: np.random.Generator) -> list[Sample]:
    """Three seconds without one reading; the counter itself runs on."""
    i = _from(readings, at)
    return readings[:i] + [(t, joules) for t, joules in readings[i:] if t >= readings[i][0] + 3.0]


def _repeated(readings: list[Sample], at: float, rng: np.random.Generator) -> list[Sample]:
    """Every value is read three more times before the next one comes."""
    out = []
    for (t, joules), (after, _) in pairwise(readings):
        out += [(t + (after - t) * part, joules) for part in (0.0, 0.25, 0.5, 0.75)]
    return [*out, readings[-1]]


def _missing(readings: list[Sample], at: float, rng: np.random.Generator) -> list[Sample]:
    """One reading in ten never comes."""
    keep = rng.random(len(readings)) >= 0.1
    keep[0] = keep[-1] = True
    return [one for one, kept in zip(readings, keep, strict=True) if kept]


def _backwards(readings: list[Sample], at: float, rng: np.random.Generator) -> list[Sample]:
    """One reading is half a joule below the one before it."""
    i = max(_from(readings, at), 1)
    return [*readings[:i], (readings[i][0], readings[i - 1][1] - 0.5), *readings[i + 1 :]]


def _spike(readings: list[Sample], at: float, rng: np.random.Generator) -> list[Sample]:
    """One reading is a million joules too high."""
    i = _from(readings, at)
    return [*readings[:i], (readings[i][0], readings[i][1] + 1e6), *readings[i + 1 :]]


def _stuck(readings: list[Sample], at: float, rng: np.random.Generator) -> list[Sample]:
    """For three seconds the counter stands still, then it shows all that it missed."""
    i = _from(readings, at)
    until, held = readings[i][0] + 3.0, readings[i][1]
    return [(t, held if j >= i and t < until else joules) for j, (t, joules) in enumerate(readings)]


def _suspend(readings: list[Sample], at: float, rng: np.random.Generator) -> list[Sample]:
    """The machine slept: no time passed on the monotonic clock, but the counter gained 2000 J."""
    i = _from(readings, at)
    return readings[:i] + [(t, joules + 2000.0) for t, joules in readings[i:]]


_FAULTS = {
    "reset": _reset,
    "reset_silent": _reset,
    "lost": _lost,
    "lost_silent": _lost,
    "repeated": _repeated,
    "missing": _missing,
    "backwards": _backwards,
    "spike": _spike,
    "stuck": _stuck,
    "suspend": _suspend,
}
