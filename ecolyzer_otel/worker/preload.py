"""Imports that the first request would otherwise wait for."""

from __future__ import annotations

from ecolyzer_otel.worker import hot_path

__all__ = ["preload"]


def preload() -> None:
    """Import, while a framework is patched, what the first request and the background thread need."""
    from ecolyzer_otel.worker import spans

    hot_path.open_span = spans.open_span
    # A fork while the background thread imports a module would leave the child with an import lock that is never
    # released.
    import ecolyzer_otel.wire.link
    import ecolyzer_otel.worker.background_thread  # noqa: F401 - for the effect
