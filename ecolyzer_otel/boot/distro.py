"""The OpenTelemetry distro and configurator, for ``opentelemetry-instrument`` with ``OTEL_PYTHON_DISTRO=ecolyzer``.

``ecolyzer-instrument`` does the same without OpenTelemetry's own loader
(:mod:`ecolyzer_otel.boot.auto_instrumentation`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from ecolyzer_otel.boot.activation import activate
from ecolyzer_otel.boot.auto_instrumentation import load_when_needed
from ecolyzer_otel.worker import sdk

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["EcolyzerConfigurator", "EcolyzerDistro"]


class EcolyzerDistro(BaseDistro):  # type: ignore[misc]
    """Chosen by ``OTEL_PYTHON_DISTRO=ecolyzer``."""

    def _configure(self, **kwargs: Any) -> None:
        activate()

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load an instrumentor when its library is imported."""
        load = super().load_instrumentor
        load_when_needed(entry_point, lambda: load(entry_point, **kwargs))


class EcolyzerConfigurator:
    """Sets up the SDK as late as possible, and makes sure that routes are available."""

    def configure(self, **kwargs: Any) -> None:
        """Called once per process by OpenTelemetry's auto-instrumentation."""
        sdk.set_up_when_needed(**kwargs)
