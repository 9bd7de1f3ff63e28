"""OpenTelemetry instrumentor for PyTorch: every outermost module call is a request.

Usage::

    from ecolyzer_torch import TorchInstrumentor

    TorchInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. Torch is patched when it is imported, not imported by us. While
``torch.compile``, ``torch.export`` or ``torch.jit`` trace, the patch steps aside before it does anything: it breaks
and changes no graph. A compiled *function* that calls a module shows no outer call: it is no request.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from ecolyzer_otel import runtime
from ecolyzer_otel.wrap import CallSpec, ModelFacts, Patches, leaf

__all__ = ["TorchInstrumentor"]

_MODULE: Final = "torch"


def describe(module: Any) -> ModelFacts:
    """Class name (of the original of a compiled module), exact number of parameters, dominant dtype, device."""
    module = getattr(module, "_orig_mod", module)
    config = getattr(module, "config", None)
    name = getattr(config, "_name_or_path", None) or type(module).__name__
    sizes: Counter[Any] = Counter()
    device = "cpu"
    for parameter in module.parameters():
        if not sizes:
            device = str(parameter.device)
        sizes[parameter.dtype] += parameter.numel()
    dtype = str(sizes.most_common(1)[0][0]).removeprefix("torch.") if sizes else None
    return ModelFacts(str(name), sizes.total(), dtype, "cuda:0" if device == "cuda" else device)


_FORWARD: Final = CallSpec("torch", "forward", describe)


class TorchInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Patches ``torch.nn.Module.__call__``; inner modules find the outer call open and pass through."""

    _patches = Patches()
    _active = False
    _hooked = False

    def instrumentation_dependencies(self) -> Collection[str]:
        """None by name: torch comes in many builds."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        runtime.activate()
        type(self)._active = True
        if not self._hooked:
            type(self)._hooked = True
            wrapt.register_post_import_hook(self._patch, _MODULE)
        elif _MODULE in sys.modules:
            self._patch(sys.modules[_MODULE])

    def _patch(self, torch: Any) -> None:
        if self._active:
            module = torch.nn.Module
            compiling, tracing = torch.compiler.is_compiling, torch.jit.is_tracing

            # The compiler's question first: it folds to a constant. A tracer would record that we look at shapes.
            def aside() -> bool:
                return bool(compiling() or tracing())

            self._patches.replace(module, "__call__", leaf(module.__call__, _FORWARD, aside))

    def _uninstrument(self, **kwargs: Any) -> None:
        type(self)._active = False
        self._patches.undo()
