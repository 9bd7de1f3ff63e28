"""Wait for settlements, and count the requests of this process."""

from __future__ import annotations

from ecolyzer_otel.worker.state import state

__all__ = ["counts", "flush"]


def flush(timeout: float = 5.0) -> bool:
    """Wait until every request finished so far is settled.

    Returns:
        Whether they were settled within ``timeout`` seconds. True when nothing was ever measured.
    """
    worker = state().worker
    return True if worker is None else worker.flush(timeout)


def counts() -> dict[str, int]:
    """Requests of this process: ``served`` = ``accounted`` (settled or unsettled) + ``dropped`` + ``pending``."""
    worker = state().worker
    if worker is None:
        return {"served": 0, "accounted": 0, "dropped": state().dropped, "pending": 0}
    return worker.counts()
