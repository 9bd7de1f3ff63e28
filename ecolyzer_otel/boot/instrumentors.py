"""All of our instrumentors at once: applied and undone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from ecolyzer_otel.boot.activation import activate

__all__ = ["instrument", "instrumentors", "is_uninstrumented", "uninstrument"]


def instrumentors() -> Iterator[Any]:
    """Every installed instrumentor of ours."""
    for entry_point in entry_points(group="opentelemetry_instrumentor"):
        if entry_point.name.startswith("ecolyzer_"):
            with contextlib.suppress(ImportError):
                yield entry_point.load()()


_uninstrumented = False


def is_uninstrumented() -> bool:
    """Whether :func:`uninstrument` was called: nothing is patched any more."""
    return _uninstrumented


def instrument() -> None:
    """Patch every supported framework, imported or yet to be imported."""
    global _uninstrumented
    _uninstrumented = False
    activate()
    for one in instrumentors():
        if not one.is_instrumented_by_opentelemetry:
            one.instrument(skip_dep_check=True)


def uninstrument() -> None:
    """Restore every framework exactly as it was."""
    global _uninstrumented
    _uninstrumented = True
    for one in instrumentors():
        if one.is_instrumented_by_opentelemetry:
            one.uninstrument()
