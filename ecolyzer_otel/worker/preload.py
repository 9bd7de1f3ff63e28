"""What the first request would otherwise wait for."""

from __future__ import annotations

from ecolyzer_otel.worker import hot_path

__all__ = ["make_ready"]


def make_ready() -> None:
    """Do now, while a framework is being patched, what the first request would otherwise wait for."""
    from ecolyzer_otel.worker import spans

    hot_path.open_span = spans.open_span
    # All that the background thread will need as well: a fork in the middle of an import of it would leave the
    # child with a lock that nobody gives back.
    import ecolyzer_otel.wire.link
    import ecolyzer_otel.worker.background_thread  # noqa: F401 - for the effect
