"""The OpenTelemetry distro and configurator: what runs in every Python process of an instrumented service.

Nothing here opens a thread, a socket or a device: auxiliary processes (supervisors, resource trackers, any
subprocess) come through here as well and must stay silent. That waits for the first request.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from ecolyzer_otel import runtime
from ecolyzer_otel.telemetry import provider

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["EcolyzerConfigurator", "EcolyzerDistro"]

_LOG = logging.getLogger(__name__)


class EcolyzerDistro(BaseDistro):  # type: ignore[misc]
    """Chosen by ``OTEL_PYTHON_DISTRO=ecolyzer``, which ``ecolyzer-instrument`` sets."""

    def _configure(self, **kwargs: Any) -> None:
        runtime.activate()

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load an instrumentor when the library that it is named after is imported.

        Most upstream instrumentors import their library; a process that never uses it must not pay for that.
        """
        name = entry_point.name
        library = name.isidentifier() and not name.startswith("ecolyzer_") and name not in sys.stdlib_module_names
        if library and name not in sys.modules and _installed(name):
            wrapt.register_post_import_hook(lambda _: self._load_late(entry_point, kwargs), name)
        else:
            super().load_instrumentor(entry_point, **kwargs)

    def _load_late(self, entry_point: EntryPoint, kwargs: dict[str, Any]) -> None:
        try:
            provider.ensure()
            super().load_instrumentor(entry_point, **kwargs)
        except Exception:  # noqa: BLE001 - an import of the service must not fail because of us
            _LOG.warning("ecolyzer: instrumenting %s failed", entry_point.name, exc_info=True)


class EcolyzerConfigurator:
    """Sets up the SDK, as late as nobody can tell the difference, and sees to it that routes are known."""

    def configure(self, **kwargs: Any) -> None:
        """Called once per process by OpenTelemetry's auto-instrumentation."""
        provider.expect(**kwargs)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
