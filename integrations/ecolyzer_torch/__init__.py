"""OpenTelemetry instrumentor for PyTorch: every outermost module call is a request.

Usage::

    from ecolyzer_torch import TorchInstrumentor

    TorchInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. Torch is patched when it is imported, not imported by us. Requests
are calls of modules (eager, compiled, scripted, exported, in ``DataParallel`` and ``DistributedDataParallel``), of
functions made by ``torch.compile`` and TorchScript, and of packages made ahead of time. A plain function that calls
several modules in turn makes one request of each; ``ecolyzer_otel.request`` makes it one. Activations, losses,
observers and transforms on their own (modules of torch, torchvision and torchmetrics without parameters) are none.

While ``torch.compile``, ``torch.export`` or ``torch.jit`` trace, the patch does not show: it breaks and changes no
graph. The call in which something was compiled is marked as warm-up. Forward passes of training are no requests
(:mod:`ecolyzer_torch.learning`). On CUDA the kernels of a call are told by events (:mod:`ecolyzer_torch.kernels`).

Verified with torch 2.13; before 2.5 the compiler is asked at each inner module, which costs more.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallSpec, FrameworkInstrumentor, enclosing, forget_model, leaf
from ecolyzer_torch.facts import describe_module
from ecolyzer_torch.forward import called, folding, spec
from ecolyzer_torch.functions import compiling, describe_method, describe_package, describe_script, note_package
from ecolyzer_torch.learning import optimizing, reset, went_backward
from ecolyzer_torch.parallel import applied

__all__ = ["TorchInstrumentor", "describe"]

describe = describe_module

_FORWARD: Final = spec("forward", describe_module)


def _compiling(original: Any) -> Any:
    """Wrap what Dynamo calls when it begins to compile: the call that is open is a warm-up."""

    @functools.wraps(original)
    def run_start_callbacks(*args: Any, **kwargs: Any) -> Any:
        call = enclosing()
        if call is not None:
            call.ensure_details().warmup = True
        return original(*args, **kwargs)

    return run_start_callbacks


class TorchInstrumentor(FrameworkInstrumentor):
    """Patches ``torch.nn.Module.__call__``, and what else can be called."""

    supported = {"torch": ("2.1", "3")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {
            "torch": self._patch,
            "torch._dynamo": self._patch_dynamo,
            "torch._inductor.package.package": self._patch_packages,
        }

    def _patch(self, torch: Any) -> None:
        module, replace = torch.nn.Module, self.patches.replace
        original = module.__call__
        folds = all(hasattr(module, name) for name in ("_call_impl", "_compiled_call_impl")) and hasattr(
            torch.compiler, "substitute_in_graph"
        )
        replace(module, "__call__", called(torch, original, _forward(torch), folds=folds))
        replace(module, "_apply", _forgetting(module._apply))
        replace(torch, "compile", compiling(torch.compile, torch, lambda: self._active))
        replace(torch.optim.Optimizer, "__init__", optimizing(torch.optim.Optimizer.__init__))
        autograd = torch.autograd
        replace(autograd, "backward", went_backward(autograd.backward, torch.compiler.is_compiling))
        for kind, operation, facts in (
            (torch._C.ScriptFunction, "call", describe_script),
            (torch._C.ScriptMethod, "call", describe_method),
        ):
            aside = torch.jit.is_tracing
            replace(kind, "__call__", leaf(kind.__call__, spec(operation, facts), aside))
        data_parallel = sys.modules["torch.nn.parallel.data_parallel"]  # the package shows a function by that name
        replace(data_parallel, "parallel_apply", applied(data_parallel.parallel_apply))
        reset()

    def _patch_dynamo(self, dynamo: Any) -> None:
        import torch

        if hasattr(torch.compiler, "substitute_in_graph"):
            folding(torch)
        handler: Any = getattr(getattr(dynamo, "callback", None), "CompilationCallbackHandler", None)
        if hasattr(handler, "run_start_callbacks"):
            # Not a callback of its own: torch._dynamo.reset() forgets those.
            self.patches.replace(handler, "run_start_callbacks", _compiling(handler.run_start_callbacks))

    def _patch_packages(self, module: Any) -> None:
        kind = getattr(module, "AOTICompiledModel", None)
        if kind is not None:
            self.patches.replace(kind, "__call__", leaf(kind.__call__, spec("call", describe_package)))
            self.patches.replace(module, "load_package", note_package(module.load_package))


def _forward(torch: Any) -> CallSpec:
    """What a call of a module is: without a look for kernels where this torch can have none."""
    if torch.version.cuda or getattr(torch.version, "hip", None):
        return _FORWARD
    return dataclasses.replace(_FORWARD, kernels=None, started=None, ended=None)


def _kind(module: Any) -> Any:
    first = next(module.parameters(), None)
    return None if first is None else (first.dtype, first.device)


def _forgetting(original: Any) -> Any:
    """Wrap ``Module._apply``, by which a module changes its dtype or device."""

    @functools.wraps(original)
    def _apply(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = _kind(self)
        result = original(self, *args, **kwargs)
        if _kind(self) != before:  # some encoders ask for their device at every call
            forget_model(self)
        return result

    return _apply
