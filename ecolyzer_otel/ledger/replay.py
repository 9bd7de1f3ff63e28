"""Replay: the ledger's input from a file, for bug reports, offline analysis and accuracy tests (docs/replay.md)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ecolyzer_otel.ledger.document import Timeline, load_activity, read
from ecolyzer_otel.ledger.ledger import Ledger
from ecolyzer_otel.ledger.types import Settlement, Shares

__all__ = ["replay"]

#: How often intervals are closed, in recorded time: as often as a meter does under load.
_TICK_NS = 100_000_000


def replay(document: Any) -> dict[str, Any]:
    """Run the ledger on a replay document.

    Args:
        document: the parsed JSON.

    Returns:
        ``{"version": 1, "requests": {id: ...}, "sensors": {id: ...}}``, all in joules.

    Raises:
        ReplayError: the document does not have the format; the message names the key.
    """
    with _no_collector():
        timeline = read(document)
        ledger = Ledger(spec for spec, _ in timeline.sensors)
        load_activity(ledger.activity, timeline.activity)
        for record in timeline.records:
            ledger.activity.owners.add(record.pid)
            ledger.activity.declared.update(record.device_busy)
        settled = _run(ledger, timeline)
        return {
            "version": 1,
            "requests": {record.id: _request_result(settled[record.id]) for record in timeline.records},
            "sensors": {name: _sensor_result(sensor.shares) for name, sensor in ledger.sensors.items()},
        }


@contextmanager
def _no_collector() -> Iterator[None]:
    """Pause the garbage collector, which would scan the document again and again; nothing here has cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _run(ledger: Ledger, timeline: Timeline) -> dict[Any, Settlement]:
    """Run the ledger in the order of time, so that it only holds the requests in flight."""
    # Events sort before samples of the same instant: a reset announced at t concerns the reading at t.
    steps: list[tuple[int, int, str, Any]] = [(t, 0, sensor, kind) for t, kind, sensor in timeline.events]
    steps += [(t, 1, spec.id, joules) for spec, samples in timeline.sensors for t, joules in samples]
    steps.sort(key=lambda step: step[:2])
    settled: dict[Any, Settlement] = {}
    records = sorted(timeline.records, key=lambda record: record.start_ns)
    coming = iter(records)
    record = next(coming, None)
    tick_ns = steps[0][0] if steps else 0
    for t_ns, order, sensor, value in steps:
        while record is not None and record.start_ns < t_ns:
            ledger.record(record)
            record = next(coming, None)
        if order == 0:
            ledger.announce(sensor, value)
            continue
        ledger.sample(sensor, t_ns, value)
        if t_ns >= tick_ns:
            for one in ledger.advance(t_ns):
                settled[one.id] = one
            tick_ns = t_ns + _TICK_NS
    while record is not None:
        ledger.record(record)
        record = next(coming, None)
    ledger.flush()
    last = max([one.end_ns or 0 for one in records] + [t_ns for t_ns, *_ in steps[-1:]], default=0)
    for one in ledger.advance(last, overdue_ns=last):
        settled[one.id] = one
    return settled


def _request_result(settlement: Settlement) -> dict[str, Any]:
    result: dict[str, Any] = {
        "active_joules": settlement.active_joules,
        "idle_joules": settlement.idle_joules,
        "uncertainty_joules": settlement.uncertainty_joules,
        "method": settlement.method,
        "sensors": {name: {"active": active, "idle": idle} for name, (active, idle) in settlement.sensors.items()},
    }
    if settlement.basis != "activity":
        result["basis"] = settlement.basis
    if settlement.members:
        result["members"] = {
            str(name): {"active_joules": active, "idle_joules": idle} for name, active, idle in settlement.members
        }
    return result


def _sensor_result(shares: Shares) -> dict[str, float]:
    result = {
        "measured_joules": shares.measured,
        "requests": shares.requests,
        "process": shares.process,
        "host": shares.host,
        "idle": shares.idle,
        "pending": shares.pending,
    }
    if shares.modelled:
        result["modelled_joules"] = shares.modelled
    return result
