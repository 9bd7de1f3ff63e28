"""The process's OpenTelemetry TracerProvider: our tracer of it, whether it exports spans, its service name."""

from __future__ import annotations

import os
import sys
from typing import Any, Final
from urllib.parse import unquote

from opentelemetry import trace

from ecolyzer_otel.version import __version__

__all__ = ["records_spans", "service_of_spans", "spans_are_exported", "tracer"]

_WITHOUT_SPANS: Final = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
_tracers: dict[int, tuple[Any, trace.Tracer]] = {}


def tracer() -> trace.Tracer:
    """Returns our tracer of the present provider; kept, because the API takes half a span's time to return it."""
    provider = trace.get_tracer_provider()
    cached = _tracers.get(0)
    if cached is None or cached[0] is not provider:
        cached = _tracers[0] = provider, trace.get_tracer("ecolyzer_otel", __version__)
    return cached[1]


def records_spans() -> bool:
    """Whether there is a provider that may record spans."""
    return not isinstance(trace.get_tracer_provider(), _WITHOUT_SPANS)


def spans_are_exported() -> bool:
    """Whether spans of this process may be exported, so that an exemplar may point at one."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, _WITHOUT_SPANS):
        return False
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", None)
    if processors is None:
        return True  # of another implementation: it may export
    return any(not getattr(one, "only_notes", False) for one in processors)


def service_of_spans() -> str:
    """``service.name`` of the spans of this process, so that metrics and spans carry the same."""
    resource = getattr(trace.get_tracer_provider(), "resource", None)
    name = getattr(resource, "attributes", {}).get("service.name")
    if isinstance(name, str) and name:
        return name
    # Not by the SDK's Resource.create(): it starts a pool of threads, which is not safe in a process that ends or
    # forks at this moment, and without a provider nothing else would need its import.
    return _configured_service() or f"unknown_service:{os.path.basename(sys.executable or 'python')}"


def _configured_service() -> str:
    """``service.name`` of the standard variables, in the order and encoding that OpenTelemetry specifies."""
    name = os.environ.get("OTEL_SERVICE_NAME", "")
    for pair in () if name else os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name":
            name = unquote(value.strip())
    return name
