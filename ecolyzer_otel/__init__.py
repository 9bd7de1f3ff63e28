"""The energy meter of live ML inference.

Without a change to the code::

    ecolyzer-instrument python serve.py

From a notebook or a script::

    import ecolyzer_otel

    ecolyzer_otel.start(zone="FR")
    model.predict(X)
    ecolyzer_otel.flush()   # http://127.0.0.1:9465/metrics now tells of it
    ecolyzer_otel.stop()

What no instrumentor knows can be told: ``with ecolyzer_otel.request("my-model") as r:``, then ``r.energy``; and
``with ecolyzer_otel.batch(requests):`` for a call that serves several of them (:mod:`ecolyzer_otel.api`).

Importing this package imports no framework and opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecolyzer_otel.version import __version__

if TYPE_CHECKING:
    from ecolyzer_otel.api import Energy, batch, current, request
    from ecolyzer_otel.model_names import name_model
    from ecolyzer_otel.runtime import Running, counts, flush, instrument, start, stop, uninstrument

__all__ = [
    "Energy", "Running", "__version__", "batch", "counts", "current", "flush", "instrument", "name_model",
    "request", "start", "stop", "uninstrument",
]  # fmt: skip
_API = frozenset({"Energy", "batch", "current", "request"})


def __getattr__(name: str) -> Any:
    # Late, so that a command-line tool or a worker that needs one module does not pay for all.
    if name in _API:
        from ecolyzer_otel import api

        return getattr(api, name)
    if name == "name_model":
        from ecolyzer_otel.model_names import name_model

        return name_model
    if name in __all__:
        from ecolyzer_otel import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
