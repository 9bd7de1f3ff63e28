"""The energy meter of live ML inference.

Without a change to the code::

    ecolyzer-instrument python serve.py

From a notebook or a script::

    import ecolyzer_otel

    ecolyzer_otel.start(zone="FR")
    model.predict(X)
    ecolyzer_otel.flush()   # http://127.0.0.1:9465/metrics now shows it
    ecolyzer_otel.stop()

For anything that no instrumentor covers, mark requests yourself: ``with ecolyzer_otel.request("my-model") as r:``,
then ``r.energy`` (:mod:`ecolyzer_otel.worker.request`); and ``with ecolyzer_otel.batch(requests):`` for a call that
serves several of them (:mod:`ecolyzer_otel.worker.batch`).

Importing this package imports no framework and opens nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ecolyzer_otel.version import __version__

if TYPE_CHECKING:
    from ecolyzer_otel.boot.instrumentors import instrument, uninstrument
    from ecolyzer_otel.boot.start import Running, start, stop
    from ecolyzer_otel.worker.batch import batch
    from ecolyzer_otel.worker.energy import Energy
    from ecolyzer_otel.worker.flush import counts, flush
    from ecolyzer_otel.worker.model_names import name_model
    from ecolyzer_otel.worker.request import current, request

__all__ = [
    "Energy", "Running", "__version__", "batch", "counts", "current", "flush", "instrument", "name_model",
    "request", "start", "stop", "uninstrument",
]  # fmt: skip
_HOMES = {
    "Energy": "worker.energy", "Running": "boot.start", "batch": "worker.batch", "counts": "worker.flush",
    "current": "worker.request", "flush": "worker.flush", "instrument": "boot.instrumentors",
    "name_model": "worker.model_names", "request": "worker.request", "start": "boot.start", "stop": "boot.start",
    "uninstrument": "boot.instrumentors",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # Late, so that a command-line tool or a worker that needs one module does not pay for all.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
