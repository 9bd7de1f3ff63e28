"""The OpenTelemetry SDK of an instrumented process, set up by the standard ``OTEL_*`` variables.

Importing the SDK takes longer than everything else at start-up, and web frameworks start to trace as soon as there
is a provider, which costs far more than measuring. So the SDK is set up at once only where something is exported.
Elsewhere it is set up when an instrumentor is loaded that provides routes by its spans alone, or when the service
imports the SDK. Until then the API returns proxies, which use the provider once it is set.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import wrapt

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["is_set_up", "set_up", "set_up_when_needed", "when_set_up"]

_LOG = logging.getLogger(__name__)
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS: Final = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
_SET_ONCE: Final = (
    ("opentelemetry.trace", "_TRACER_PROVIDER_SET_ONCE"),
    ("opentelemetry.metrics._internal", "_METER_PROVIDER_SET_ONCE"),
    ("opentelemetry._logs._internal", "_LOGGER_PROVIDER_SET_ONCE"),
)
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"

_pending: dict[str, Any] | None = None
_waiting: list[Callable[[], None]] = []
_lock = threading.RLock()


def set_up_when_needed(**kwargs: Any) -> None:
    """Set the SDK up with these arguments: at once where something is exported, else when it is needed."""
    global _pending
    _pending = kwargs
    _prepare_environment()
    if _exporting() or "opentelemetry.sdk.trace" in sys.modules:
        set_up()
    else:
        wrapt.register_post_import_hook(lambda _: set_up(), "opentelemetry.sdk.trace")


def _exporting() -> bool:
    return any(os.environ.get(key, "none").strip().lower() not in ("", "none") for key in _EXPORTERS)


def set_up() -> None:
    """Set the SDK up now, if that is pending."""
    global _pending
    with _lock:
        kwargs, _pending = _pending, None
        if kwargs is None:
            return
        _configure(kwargs)
        waiting = _waiting[:]
        _waiting.clear()
    for then in waiting:
        then()


def is_set_up() -> bool:
    """Whether no set-up is pending."""
    return _pending is None


def when_set_up(then: Callable[[], None]) -> None:
    """Call ``then`` when the SDK is set up: now, if no set-up is pending."""
    with _lock:
        if _pending is not None:
            _waiting.append(then)
            return
    then()


def _prepare_environment() -> None:
    # With an endpoint configured, spans go there; with nothing configured, nothing is exported.
    if any(os.environ.get(key) for key in _ENDPOINTS):
        os.environ.setdefault("OTEL_TRACES_EXPORTER", "otlp")
    # The SDK's default is gRPC; our extra installs the exporter for HTTP.
    if "OTEL_TRACES_EXPORTER" in os.environ and _PROTOCOL not in os.environ and not _has_grpc():
        os.environ[_PROTOCOL] = "http/protobuf"


def _has_grpc() -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.grpc") is not None
    except (ImportError, ValueError):
        return False


def _configure(kwargs: dict[str, Any]) -> None:
    # Private names, but the only ones that take a sampler and processors; opentelemetry-distro uses them too.
    from opentelemetry.sdk._configuration import _get_sampler, _import_sampler, _initialize_components
    from opentelemetry.sdk.trace.sampling import DEFAULT_ON

    from ecolyzer_otel.worker.server_spans import RouteProcessor, RouteSampler

    kwargs = dict(kwargs)
    sampler = RouteSampler(kwargs.pop("sampler", None) or _import_sampler(_get_sampler()) or DEFAULT_ON)
    processors = [RouteProcessor(), *kwargs.pop("span_processors", ())]
    try:
        _initialize_components(sampler=sampler, span_processors=processors, **kwargs)
    except Exception as error:  # noqa: BLE001 - a wrong exporter must not cost the measurement
        _LOG.error("ecolyzer: OTEL_*: the exporters cannot be set up (%s); nothing is exported", error)
        _without_exporters(sampler)
    if not _exporting():
        _let_service_set_its_own()


def _let_service_set_its_own() -> None:
    """Let the service set its own providers in place of ours, from which nothing is exported.

    OpenTelemetry keeps the first provider that is set and logs a warning for others. The private object that
    remembers this is replaced where it has the expected name; elsewhere our providers stay, as upstream's would.
    """
    from importlib import import_module

    from opentelemetry.util._once import Once

    for module, name in _SET_ONCE:
        try:
            place = import_module(module)
            if isinstance(getattr(place, name), Once):
                setattr(place, name, Once())
        except (ImportError, AttributeError):
            _LOG.debug("ecolyzer: %s has no %s; providers set by the service are not used", module, name)


def _without_exporters(sampler: Sampler) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from ecolyzer_otel.worker.server_spans import RouteProcessor

    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(RouteProcessor())
    trace.set_tracer_provider(provider)
