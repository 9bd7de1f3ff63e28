"""Runs in each Python process of an instrumented service, at its first import from outside the standard library.

The same as OpenTelemetry's auto-instrumentation with our distro, for a third of the time: an instrumentor is loaded
when the library is imported that it is for, and with it what OpenTelemetry needs to load instrumentors. Another
distro or configurator, asked for by the standard variables, is left to OpenTelemetry's.

Nothing here opens a thread, a socket or a device: auxiliary processes (supervisors, resource trackers, any
subprocess) come through here as well and must stay silent. That waits for the first request.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import wrapt

from ecolyzer_otel.boot.activation import activate
from ecolyzer_otel.boot.instrumentors import is_uninstrumented
from ecolyzer_otel.worker import sdk

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["HOOKED", "initialize", "load_when_needed"]

_LOG = logging.getLogger(__name__)

#: The modules whose import each of our instrumentors waits for; equal to its ``hooks()``.
HOOKED: Final[dict[str, tuple[str, ...]]] = {
    "ecolyzer_keras": ("keras",),
    "ecolyzer_lightgbm": ("lightgbm",),
    "ecolyzer_onnxruntime": ("onnxruntime.capi.onnxruntime_inference_collection",),
    "ecolyzer_sentence_transformers": ("sentence_transformers",),
    "ecolyzer_sklearn": (
        "sklearn.base", "sklearn.inspection._partial_dependence", "sklearn.inspection._permutation_importance",
        "sklearn.model_selection._validation", "sklearn.utils.parallel",
    ),
    "ecolyzer_starlette": ("fastapi.routing", "starlette.routing"),
    "ecolyzer_tensorflow": ("ai_edge_litert.interpreter", "tensorflow", "tflite_runtime.interpreter"),
    "ecolyzer_torch": ("torch", "torch._dynamo", "torch._inductor.package.package"),
    "ecolyzer_transformers": (
        "transformers.cli.serving.systemone", "transformers.cli.serving.utils",
        "transformers.generation.continuous_batching.continuous_api", "transformers.generation.streamers",
        "transformers.generation.utils", "transformers.modeling_utils", "transformers.pipelines.base",
        "transformers.trainer",
    ),
    "ecolyzer_xgboost": ("xgboost",),
}  # fmt: skip

#: Where no span is exported, these are only needed for the route, which :mod:`ecolyzer_starlette` provides.
_ROUTES_KNOWN: Final = frozenset({"fastapi", "starlette"})
#: Servers whose route only their SERVER span has: they need a provider, also where nothing is exported.
_ROUTES_BY_SPANS: Final = frozenset({"aiohttp-server", "django", "falcon", "flask", "pyramid", "tornado"})
_loaded: Final[set[str]] = set()
_UPSTREAM: Final = ("OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR")
_GEVENT: Final = "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH"


def initialize() -> None:
    """Instrument this process. Never raises: a failure is logged, and the service runs uninstrumented."""
    try:
        if any(os.environ.get(key, "ecolyzer") != "ecolyzer" for key in _UPSTREAM) or _GEVENT in os.environ:
            from opentelemetry.instrumentation.auto_instrumentation import initialize

            initialize()
            return
        from opentelemetry.instrumentation.version import __version__

        activate()
        sdk.set_up_when_needed(auto_instrumentation_version=__version__)
        _load_all()
    except Exception:  # noqa: BLE001 - never hurt the service
        _LOG.exception("ecolyzer: this process cannot be instrumented")


def _load_all() -> None:
    disabled = {name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    for entry_point in entry_points(group="opentelemetry_pre_instrument"):
        entry_point.load()()
    for entry_point in entry_points(group="opentelemetry_instrumentor"):
        if not disabled & {entry_point.name, "*"}:
            load_when_needed(entry_point, functools.partial(_load, entry_point))
    for entry_point in entry_points(group="opentelemetry_post_instrument"):
        entry_point.load()()


def _load(entry_point: EntryPoint) -> None:
    """Load an instrumentor and apply it, unless its library is installed in an unsupported version."""
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    conflict = entry_point.dist and get_dist_dependency_conflicts(entry_point.dist)
    if conflict:
        _LOG.debug("ecolyzer: %s is not loaded: %s", entry_point.name, conflict)
        return
    entry_point.load()().instrument(skip_dep_check=True)


def load_when_needed(entry_point: EntryPoint, load: Callable[[], None]) -> None:
    """Load and apply an instrumentor when its library is imported; at once where the library is not identified.

    Most instrumentors import their library, and OpenTelemetry's own machinery; a process that never uses a library
    must not pay for that.

    Args:
        entry_point: the instrumentor's.
        load: how it is loaded and applied where it is not one of ours.
    """
    name = entry_point.name
    if name in HOOKED:
        for module in HOOKED[name]:
            wrapt.register_post_import_hook(functools.partial(_imported, entry_point), module)
    elif name in _ROUTES_KNOWN and not sdk.is_set_up():
        sdk.when_set_up(lambda: _load_after_all(entry_point, load))
    else:
        _load_with_library(entry_point, load)


def _imported(entry_point: EntryPoint, module: Any) -> None:
    """A module that one of our instrumentors patches has been imported.

    It is called for each module, and does not hook them itself: modules that import each other are partly loaded.
    """
    try:
        if entry_point.name not in _loaded:
            if is_uninstrumented():
                return
            _loaded.add(entry_point.name)
            instrumentor = entry_point.load()()
            if not instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.instrument(skip_dep_check=True, hooked=True)
        entry_point.load()().imported(module)
    except Exception:  # noqa: BLE001 - an import of the service must not fail because of us
        _LOG.warning("ecolyzer: instrumenting %s failed", entry_point.name, exc_info=True)


def _load_with_library(entry_point: EntryPoint, load: Callable[[], None]) -> None:
    name = entry_point.name
    # An instrumentor named after its own package, as ours are, is not named after the library.
    own = entry_point.value.partition(":")[0].partition(".")[0] == name
    library = name.isidentifier() and name not in sys.stdlib_module_names and not own
    if library and name not in sys.modules and _installed(name):
        wrapt.register_post_import_hook(lambda _: _load_safely(entry_point, load), name)
    else:
        _load_safely(entry_point, load)


def _load_safely(entry_point: EntryPoint, load: Callable[[], None]) -> None:
    try:
        if entry_point.name in _ROUTES_BY_SPANS:
            sdk.set_up()
        load()
    except ModuleNotFoundError as error:
        _LOG.debug("ecolyzer: %s is not loaded: %s", entry_point.name, error)
    except Exception:  # noqa: BLE001 - as above
        _LOG.warning("ecolyzer: instrumenting %s failed", entry_point.name, exc_info=True)


def _load_after_all(entry_point: EntryPoint, load: Callable[[], None]) -> None:
    """The SDK is set up although nothing was to be exported; the library may have been imported before."""
    kind = getattr(sys.modules.get(entry_point.name), "FastAPI", None)
    _load_with_library(entry_point, load)
    if kind is not None and "fastapi.telemetry" not in sys.modules:  # from 0.165 on it traces by itself
        _instrument_when_built(kind)


def _instrument_when_built(kind: Any) -> None:
    """Instrument also applications of the original class, which the service imported before it was replaced."""
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


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
