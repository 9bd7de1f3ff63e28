"""The OpenTelemetry SDK of an instrumented process, set up by the standard ``OTEL_*`` variables.

Importing the SDK takes longer than everything else at start-up, and web frameworks that trace do so as soon as
there is a provider, for far more than all that measuring costs. Where nothing is exported nobody needs one, until
an instrumentor is loaded that knows routes by its spans alone, or the service itself looks at the SDK; it is set up
then. Until it is, the API hands out proxies that follow.
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

__all__ = ["ensure", "expect", "is_set_up", "when_set_up"]

_LOG = logging.getLogger(__name__)
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS: Final = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
_SET_ONCE: Final = (
    ("opentelemetry.trace", "_TRACER_PROVIDER_SET_ONCE"),
    ("opentelemetry.metrics._internal", "_METER_PROVIDER_SET_ONCE"),
    ("opentelemetry._logs._internal", "_LOGGER_PROVIDER_SET_ONCE"),
)
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"

_expected: dict[str, Any] | None = None
_waiting: list[Callable[[], None]] = []
_lock = threading.RLock()


def expect(**kwargs: Any) -> None:
    """Remember how the SDK is to be set up; do so at once when something is to be exported."""
    global _expected
    _expected = kwargs
    _prepare_environment()
    if _exporting() or "opentelemetry.sdk.trace" in sys.modules:
        ensure()
    else:
        wrapt.register_post_import_hook(lambda _: ensure(), "opentelemetry.sdk.trace")


def _exporting() -> bool:
    return any(os.environ.get(key, "none").strip().lower() not in ("", "none") for key in _EXPORTERS)


def ensure() -> None:
    """Set the SDK up now, if it was expected and has not been yet."""
    global _expected
    with _lock:
        kwargs, _expected = _expected, None
        if kwargs is None:
            return
        _configure(kwargs)
        waiting = _waiting[:]
        _waiting.clear()
    for then in waiting:
        then()


def is_set_up() -> bool:
    """Whether nothing is left to be set up here."""
    return _expected is None


def when_set_up(then: Callable[[], None]) -> None:
    """Call ``then`` once the SDK is set up: now, unless it is still to come."""
    with _lock:
        if _expected is not None:
            _waiting.append(then)
            return
    then()


def _prepare_environment() -> None:
    # With an endpoint configured, spans go there; with nothing configured, nothing is exported.
    if any(os.environ.get(key) for key in _ENDPOINTS):
        os.environ.setdefault("OTEL_TRACES_EXPORTER", "otlp")
    # The SDK's default is gRPC; what our extra installs is HTTP.
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
        _let_others_set_theirs()


def _let_others_set_theirs() -> None:
    """A service that sets up its own providers does so: ours, which nobody exports from, give way.

    OpenTelemetry takes the first that is set and warns of others. What remembers that is private, and is replaced
    where it goes by the name that we know; elsewhere ours stay, as upstream's would.
    """
    from importlib import import_module

    from opentelemetry.util._once import Once

    for module, name in _SET_ONCE:
        try:
            place = import_module(module)
            if isinstance(getattr(place, name), Once):
                setattr(place, name, Once())
        except (ImportError, AttributeError):
            _LOG.debug("ecolyzer: %s has no %s; providers set by the service are not taken", module, name)


def _without_exporters(sampler: Sampler) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from ecolyzer_otel.worker.server_spans import RouteProcessor

    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(RouteProcessor())
    trace.set_tracer_provider(provider)
