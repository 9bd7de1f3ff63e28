"""The numbers of one call as its record holds them: integers within the bounds of the protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ecolyzer_otel.wire.limits import MAX_NAME, MAX_PHASES, MAX_SPANS
from ecolyzer_otel.wire.protocol import Busy
from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.device_names import sensor_name

__all__ = ["complete", "kernels_are_final", "kernels_of", "phases_of", "whole"]

_LOG = logging.getLogger(__name__)


def whole(items: Any) -> int:
    """Returns a batch size as an integer of at least 0; 1 for a symbolic or missing dimension."""
    if type(items) is int and 0 <= items < 1 << 62:
        return items
    try:
        return min(max(0, int(items)), 1 << 62)
    except (TypeError, ValueError, OverflowError):
        return 1


def complete(call: Call) -> None:
    """Run the call's completions, which turn what the instrumentor noted into numbers."""
    if call.details is None or call.details.completions is None:
        return
    completions, call.details.completions = call.details.completions, None
    for completion in completions:
        try:
            completion(call)
        except Exception:  # noqa: BLE001 - never hurt the service
            _LOG.debug("ecolyzer: what an instrumentor noted of a request cannot be used", exc_info=True)


def phases_of(call: Call, end_ns: int, cpu_ns: int, lent: int) -> list[tuple[str, int, int]]:
    """Returns the phases of a call: name, start, and the CPU nanoseconds that the call had used by then.

    CPU time of helper threads (``lent``) is taken to be spread evenly over the call. If the clock of the call's
    thread was divided among several calls, each phase has the same part of it.
    """
    if call.details is None or not call.details.phases:
        return []
    phases = call.details.phases[:MAX_PHASES]
    length = max(1, end_ns - call.start_ns)
    own = max(0, cpu_ns - lent)
    clocks = [max(0, clock - call.cpu_start_ns) if clock else 0 for _, _, clock in phases]
    grown = max(1, call.cpu_ns if call.cpu_ns > 0 else own, *clocks)
    found = []
    for (name, start_ns, _), clock in zip(phases, clocks, strict=True):
        part = min(1.0, max(0.0, (start_ns - call.start_ns) / length))
        found.append((name[:MAX_NAME], start_ns, round(own * min(1.0, clock / grown) + lent * part)))
    return found


def kernels_are_final(call: Call) -> bool:
    """Whether the busy intervals of the call's kernels are known, or there are none."""
    return call.spec.kernels is None or _busy_intervals(call) is not None


def _busy_intervals(call: Call) -> Mapping[str, Sequence[Sequence[int]]] | None:
    try:
        return call.spec.kernels(call) if call.spec.kernels is not None else {}
    except Exception:  # noqa: BLE001 - never hurt the service
        _LOG.debug("ecolyzer: the kernels of a request cannot be read", exc_info=True)
        return {}


def kernels_of(call: Call) -> Busy:
    """Returns the busy intervals of a call's kernels by the meter's name of the device, bounded in number."""
    found = _busy_intervals(call) or {}
    return {
        (sensor_name(device) or device)[:MAX_NAME]: _joined(sorted((int(low), int(high)) for low, high in spans))
        for device, spans in found.items()
    }


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns at most :data:`MAX_SPANS` intervals: merges those that overlap, then those with the smallest gaps."""
    merged: list[tuple[int, int]] = []
    for low, high in spans:
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    if len(merged) <= MAX_SPANS:
        return merged
    gaps = sorted(range(1, len(merged)), key=lambda i: merged[i][0] - merged[i - 1][1], reverse=True)
    starts = sorted([0, *gaps[: MAX_SPANS - 1]])
    ends = [start - 1 for start in starts[1:]] + [len(merged) - 1]
    return [(merged[first][0], merged[last][1]) for first, last in zip(starts, ends, strict=True)]
