"""The best attribution by class means: it has the information that a learner could reach at most.

It knows the true idle watts, the true mean watts of each class (given items, and at each time where a class
drifts) and of everything that is no request, and it reads the counter as it was before wraps and faults. It splits
the active joules of each counter interval by mean watts x time active in it. What it cannot know is the spread
within a class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .trace import Truth
from .world import STEP, Floats, Ints


def overlaps(start: Floats, end: Floats, edges: Floats) -> tuple[Ints, NDArray[np.intp], Floats]:
    """Every (request, interval between two edges) pair that overlaps: two index arrays, and the seconds."""
    first = np.clip(np.searchsorted(edges, start, side="right") - 1, 0, len(edges) - 1)
    last = np.clip(np.searchsorted(edges, end, side="left"), 0, len(edges) - 1)
    count = np.maximum(last - first, 0)
    who = np.repeat(np.arange(len(start)), count)
    k = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count) + first[who]
    return who, k, np.maximum(np.minimum(end[who], edges[k + 1]) - np.maximum(start[who], edges[k]), 0.0)


def at(curve: Floats, seconds: Floats) -> Floats:
    """A cumulative curve of the grid at any times."""
    return np.interp(seconds, np.arange(len(curve)) * STEP, curve)


def active_joules(truth: Truth, sensor: str) -> tuple[Floats, Floats]:
    """(edges in seconds, active joules of each interval): the counter's growth above the true idle watts."""
    edges, joules = truth.edges(sensor)
    return edges, np.maximum(np.diff(joules) - truth.idle_watts[sensor] * np.diff(edges), 0.0)


def split(truth: Truth, sensor: str, edges: Floats, joules: Floats, watts: Floats, others: Floats) -> Floats:
    """Each interval's joules over its requests by watts x seconds; ``others`` is that product for the rest."""
    start, end = truth.span(sensor)
    who, k, seconds = overlaps(start, end, edges)
    weight = watts[who] * seconds
    total = np.bincount(k, weight, minlength=len(joules)) + others
    share = np.divide(weight, total[k], out=np.zeros(len(weight)), where=total[k] > 0)
    return np.bincount(who, share * joules[k], minlength=len(truth.ids))


def charge(truth: Truth, active: dict[str, Floats]) -> dict[str, Any]:
    """Joules by sensor and request in the shape of a result."""
    by_sensor = {sensor: values.tolist() for sensor, values in active.items()}
    total = np.sum(list(active.values()), axis=0).tolist()
    return {
        "requests": {
            name: {
                "active_joules": total[i],
                "sensors": {sensor: {"active": values[i]} for sensor, values in by_sensor.items()},
            }
            for i, name in enumerate(truth.ids)
        }
    }


def oracle(document: dict[str, Any], truth: Truth) -> dict[str, Any]:
    """The class-mean oracle's result."""
    active = {}
    for sensor in truth.components:
        edges, joules = active_joules(truth, sensor)
        rest = sum((w * np.diff(at(on, edges)) for w, on in truth.others[sensor].values()), np.zeros(len(joules)))
        active[sensor] = split(truth, sensor, edges, joules, truth.expected[sensor], rest)
    return charge(truth, active)
