"""OpenTelemetry instrumentor for PyTorch: every outermost module call is a request.

Usage::

    from ecolyzer_torch import TorchInstrumentor

    TorchInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. Torch is patched when it is imported, not imported by us. While
``torch.compile``, ``torch.export`` or ``torch.jit`` trace, the patch steps aside before it does anything: it breaks
and changes no graph. A compiled *function* that calls a module shows no outer call: it is no request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import FrameworkInstrumentor
from ecolyzer_otel.wrap import CallSpec, ModelFacts, leaf

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


class TorchInstrumentor(FrameworkInstrumentor):
    """Patches ``torch.nn.Module.__call__``; inner modules find the outer call open and pass through."""

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"torch": self._patch}

    def _patch(self, torch: Any) -> None:
        module = torch.nn.Module
        compiling, tracing = torch.compiler.is_compiling, torch.jit.is_tracing

        # The compiler's question first: it folds to a constant. A tracer would record that we look at shapes.
        def aside() -> bool:
            return bool(compiling() or tracing())

        self.patches.replace(module, "__call__", leaf(module.__call__, _FORWARD, aside))
