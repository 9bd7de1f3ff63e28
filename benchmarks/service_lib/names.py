"""Many settlements for the metric store: of a fixed set of models, or of ever new names."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache

from ecolyzer_otel.common.metrics import METRICS
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.impact.embodied import Embodied
from ecolyzer_otel.impact.impact import Impact, compute_impact
from ecolyzer_otel.impact.place import resolve_place
from ecolyzer_otel.ledger import Charge, Settlement
from ecolyzer_otel.meter.impacts import Assessment
from ecolyzer_otel.meter.record import Recorder
from ecolyzer_otel.wire.protocol import Done, Model

#: Requests of each new name in :func:`record_new`.
REQUESTS_PER_NAME = 1
_PHASES = {"prefill": 0.6, "decode": 1.4}
_MS = 1_000_000


@cache
def _bill(step: int) -> Assessment:
    place = resolve_place("FR")
    impact = compute_impact(2.0 + step / 7, place, embodied_grams=1e-4)
    full = Impact(
        impact.operational_grams, 1e-4, impact.onsite_liters, impact.offsite_liters, impact.operational_grams / 2,
        impact.operational_grams * 3,
    )  # fmt: skip
    return Assessment(full, place, None, Embodied())


@cache
def _settlement(step: int) -> Settlement:
    charges = [
        Charge("cpu0", "cpu", 0.5 + step / 10, 0.1, "measured"),
        Charge("gpu0", "gpu", 1.5 + step / 7, 0.3, "measured"),
    ]
    return Settlement(0, 2.0, 0.4, 0.1, "measured", charges, "learned")


@cache
def _model(name: str) -> Model:
    return Model(0, name, "transformers", 10**8, "float16", "cuda:0", "gpu0")


def _settle(recorder: Recorder, name: str, route: str, number: int, error: str = "") -> None:
    end, step = time.monotonic_ns(), number % 5
    start = end - (3 + 20 * step) * _MS
    trace, span = f"{number + 1:032x}", f"{number + 1:016x}"
    done = Done(number, 0, "generate", start, end, _MS, 4, error, route, trace, span, False, tokens=(100, 20),
                first_token_ns=start + _MS)  # fmt: skip
    recorder.settled("shop", _model(name), done, _settlement(step), _bill(step), None, 0.2, name, route, _PHASES)


def settle_all(recorder: Recorder, numbers: Iterable[int]) -> None:
    """Settle one more request of each of these models."""
    for number in numbers:
        _settle(recorder, f"model-{number:04}", f"/models/{number:04}/generate", number)
    recorder.flush()  # as at the end of a tick


def fill(recorder: Recorder, sets: int) -> None:
    """Settle requests of so many models, some of them failed, with values in several buckets."""
    for shift in range(5):
        for number in range(sets):
            error = "ValueError" if shift == 4 else ""
            _settle(recorder, f"model-{number:04}", f"/models/{number:04}/generate", number + shift, error)
    recorder.refresh(time.process_time())


def other_metrics(store: MetricStore, sets: int) -> None:
    """Fill the metrics that are by device, place or sensor, not by request."""
    filled = {family.spec.stem for family in store.snapshot() if family.points}
    for spec in METRICS:
        if spec.stem in filled:
            continue
        for number in range(sets if spec.labels else 1):
            labels = tuple(f"{label}-{number}" for label in spec.labels)
            if spec.type == "counter":
                store.counter(spec, labels).inc(number + 0.5)
            elif spec.type == "gauge":
                store.gauge(spec, labels).set(number + 0.5)
            else:
                store.histogram(spec, labels).observe(number + 0.5)


def record_new(recorder: Recorder, numbers: Iterable[int]) -> None:
    """Settle a request of a new model and a new route for each number."""
    for number in numbers:
        for _ in range(REQUESTS_PER_NAME):
            name = f"tenant-{number}"
            _settle(recorder, name, f"/tenants/{number}", number)
        recorder.flush()
    _model.cache_clear()
