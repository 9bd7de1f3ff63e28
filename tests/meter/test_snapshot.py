"""Whoever takes a snapshot of the store, and when: what it shows adds up."""

from __future__ import annotations

import time

import pytest
from support.waiting import PATIENCE

pytestmark = pytest.mark.slow


def totals(store) -> tuple[float, float, float]:
    """Joules on requests, joules in the share of the requests, and how many requests."""
    found = {"ecolyzer_energy": 0.0, "ecolyzer_device_energy": 0.0, "ecolyzer_requests": 0.0}
    for family in store.snapshot():
        for point in family.points:
            labels = dict(zip(family.spec.labels, point.labels, strict=True))
            if family.spec.stem == "ecolyzer_device_energy_joules" and labels["share"] == "requests":
                found["ecolyzer_device_energy"] += point.value
            elif family.spec.stem == "ecolyzer_energy_joules" and labels["share"] == "active":
                found["ecolyzer_energy"] += point.value
            elif family.spec.stem == "ecolyzer_requests":
                found["ecolyzer_requests"] += point.value
    return found["ecolyzer_energy"], found["ecolyzer_device_energy"], found["ecolyzer_requests"]


def test_joules_and_requests_of_each_snapshot_belong_together(meter):
    running = meter()
    peer = running.peer()
    peer.hello()
    store = running.setup.meter.store
    seen = set()
    deadline = time.monotonic() + PATIENCE
    for number in range(10_000):
        if number >= 60 and (len(seen) > 3 or time.monotonic() > deadline):
            break
        peer.say(peer.batch(peer.done(3, milliseconds=3.0)))
        time.sleep(0.02)
        # As an exporter does it: at any moment, between ticks, and without a word to the meter.
        requests, share, count = totals(store)
        assert requests == pytest.approx(share, rel=1e-9, abs=1e-9)
        seen.add(count)
    assert len(seen) > 3, "it was looked at while requests were settled"
