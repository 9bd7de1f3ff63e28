"""The OpenTelemetry distro and configurator: what runs in every Python process of an instrumented service.

Nothing here opens a thread, a socket or a device: auxiliary processes (supervisors, resource trackers, any
subprocess) come through here as well and must stay silent. That waits for the first request.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.sdk._configuration import (
    _get_sampler,
    _import_sampler,
    _initialize_components,
    _OTelSDKConfigurator,
)
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from ecolyzer_otel import runtime
from ecolyzer_otel.telemetry.routes import RouteProcessor, RouteSampler

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["EcolyzerConfigurator", "EcolyzerDistro"]

_LOG = logging.getLogger(__name__)
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class EcolyzerDistro(BaseDistro):  # type: ignore[misc]
    """Chosen by ``OTEL_PYTHON_DISTRO=ecolyzer``, which ``ecolyzer-instrument`` sets."""

    def _configure(self, **kwargs: Any) -> None:
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return
        # With an endpoint configured, spans go there; with nothing configured, nothing is exported.
        if any(os.environ.get(key) for key in _ENDPOINTS):
            os.environ.setdefault("OTEL_TRACES_EXPORTER", "otlp")
        # The SDK's default is gRPC; what our extra installs is HTTP.
        if _PROTOCOL not in os.environ and not _installed("opentelemetry.exporter.otlp.proto.grpc"):
            os.environ[_PROTOCOL] = "http/protobuf"
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
            super().load_instrumentor(entry_point, **kwargs)
        except Exception:  # noqa: BLE001 - an import of the service must not fail because of us
            _LOG.warning("ecolyzer: instrumenting %s failed", entry_point.name, exc_info=True)


class EcolyzerConfigurator(_OTelSDKConfigurator):
    """Sets up the SDK by the standard ``OTEL_*`` variables, and sees to it that routes are known."""

    def _configure(self, **kwargs: Any) -> None:
        sampler = kwargs.pop("sampler", None) or _import_sampler(_get_sampler()) or DEFAULT_ON
        kwargs["sampler"] = RouteSampler(sampler)
        kwargs["span_processors"] = [RouteProcessor(), *kwargs.pop("span_processors", ())]
        try:
            _initialize_components(**kwargs)
        except Exception as error:  # noqa: BLE001 - a wrong exporter must not cost the measurement
            _LOG.error("ecolyzer: OTEL_*: the exporters cannot be set up (%s); nothing is exported", error)
            _without_exporters(kwargs["sampler"])


def _without_exporters(sampler: RouteSampler) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(RouteProcessor())
    trace.set_tracer_provider(provider)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
