"""The OpenTelemetry distro and configurator: what runs in every Python process of an instrumented service.

Nothing here opens a thread, a socket or a device: auxiliary processes (supervisors, resource trackers, any
subprocess) come through here as well and must stay silent. That waits for the first request.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from ecolyzer_otel import runtime
from ecolyzer_otel.telemetry import provider

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["EcolyzerConfigurator", "EcolyzerDistro"]

_LOG = logging.getLogger(__name__)
#: What :mod:`ecolyzer_starlette` is for.
_ROUTES_KNOWN: Final = frozenset({"fastapi", "starlette"})
#: Servers of which only the SERVER span tells the route: they need a provider, also where nothing is exported.
_ROUTES_BY_SPANS: Final = frozenset({
    "aiohttp-server", "django", "falcon", "flask", "pyramid", "tornado",
})  # fmt: skip


class EcolyzerDistro(BaseDistro):  # type: ignore[misc]
    """Chosen by ``OTEL_PYTHON_DISTRO=ecolyzer``, which ``ecolyzer-instrument`` sets."""

    def _configure(self, **kwargs: Any) -> None:
        runtime.activate()

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load an instrumentor when the library that it is named after is imported.

        Most upstream instrumentors import their library; a process that never uses it must not pay for that.
        """
        if entry_point.name in _ROUTES_KNOWN and not provider.is_set_up():
            # Of their spans only the route is needed where nobody sees them, and that is known without.
            provider.when_set_up(lambda: self._load_deferred(entry_point, kwargs))
        else:
            self._load_with_library(entry_point, kwargs)

    def _load_with_library(self, entry_point: EntryPoint, kwargs: dict[str, Any]) -> None:
        name = entry_point.name
        library = name.isidentifier() and not name.startswith("ecolyzer_") and name not in sys.stdlib_module_names
        if library and name not in sys.modules and _installed(name):
            wrapt.register_post_import_hook(lambda _: self._load_late(entry_point, kwargs), name)
        else:
            self._load(entry_point, kwargs)

    def _load_late(self, entry_point: EntryPoint, kwargs: dict[str, Any]) -> None:
        try:
            self._load(entry_point, kwargs)
        except Exception:  # noqa: BLE001 - an import of the service must not fail because of us
            _LOG.warning("ecolyzer: instrumenting %s failed", entry_point.name, exc_info=True)

    def _load(self, entry_point: EntryPoint, kwargs: dict[str, Any]) -> None:
        if entry_point.name in _ROUTES_BY_SPANS:
            provider.ensure()
        super().load_instrumentor(entry_point, **kwargs)

    def _load_deferred(self, entry_point: EntryPoint, kwargs: dict[str, Any]) -> None:
        """The SDK is there after all; the library may have been imported before it."""
        library = sys.modules.get(entry_point.name)
        kind = getattr(library, "FastAPI", None)
        if library is None:
            self._load_with_library(entry_point, kwargs)
            return
        self._load_late(entry_point, kwargs)
        if kind is not None and "fastapi.telemetry" not in sys.modules:  # from 0.165 on it traces by itself
            _instrument_when_built(kind)


def _instrument_when_built(kind: Any) -> None:
    """Instrument also the applications of a class that the service imported before its name was replaced."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    original = kind.build_middleware_stack

    @functools.wraps(original)
    def build(app: Any) -> Any:
        if not getattr(app, "_is_instrumented_by_opentelemetry", False):
            FastAPIInstrumentor.instrument_app(app)
            if "build_middleware_stack" in vars(app):
                return app.build_middleware_stack()
        return original(app)

    kind.build_middleware_stack = build


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
