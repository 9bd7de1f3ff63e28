"""OpenTelemetry instrumentor for PyTorch: every outermost module call is a request.

Usage::

    from ecolyzer_torch import TorchInstrumentor

    TorchInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. Torch is patched when it is imported, not imported by us. Requests
are calls of modules (eager, compiled, scripted, exported, in ``DataParallel`` and ``DistributedDataParallel``), of
functions made by ``torch.compile`` and TorchScript, and of packages made ahead of time. A plain function that calls
several modules in turn makes one request of each; ``ecolyzer_otel.request`` makes it one. Activations, losses,
observers and transforms on their own (modules of torch, torchvision and torchmetrics without parameters) are none.

``torch.compile``, ``torch.export`` and ``torch.jit`` do not trace the patch: it breaks and changes no graph. A call
in which something was compiled is marked as warm-up. Forward passes of training are no requests
(:mod:`ecolyzer_torch.learning`). On CUDA, events time the kernels of a call (:mod:`ecolyzer_torch.kernels`).

Verified with torch 2.13; before 2.5 each inner module asks whether it is being compiled, which costs more.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallSpec, FrameworkInstrumentor, enclosing_request, forget_model, leaf
from ecolyzer_torch.facts import describe_module
from ecolyzer_torch.forward import called, folding, spec
from ecolyzer_torch.functions import compiling, describe_method, describe_package, describe_script, note_package
from ecolyzer_torch.learning import noting_backward, noting_optimizer, reset
from ecolyzer_torch.parallel import applied

__all__ = ["TorchInstrumentor", "describe"]

describe = describe_module

_FORWARD: Final = spec("forward", describe_module)


def _compiling(original: Any) -> Any:
    """Wrap what Dynamo calls when it begins to compile: the open request is a warm-up."""

    @functools.wraps(original)
    def run_start_callbacks(*args: Any, **kwargs: Any) -> Any:
        call = enclosing_request()
        if call is not None:
            call.ensure_details().warmup = True
        return original(*args, **kwargs)

    return run_start_callbacks


class TorchInstrumentor(FrameworkInstrumentor):
    """Patches ``torch.nn.Module.__call__``, and the other callables of torch."""

    supported = {"torch": ("2.1", "3")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {
            "torch": self._patch,
            "torch._dynamo": self._patch_dynamo,
            "torch._inductor.package.package": self._patch_packages,
        }

    def _patch(self, torch: Any) -> None:
        module = torch.nn.Module
        original = module.__call__
        folds = all(hasattr(module, name) for name in ("_call_impl", "_compiled_call_impl")) and hasattr(
            torch.compiler, "substitute_in_graph"
        )
        self.patches.replace(module, "__call__", called(torch, original, _forward(torch), folds=folds))
        self.wrap(module, "_apply", _forgetting)
        self.wrap(torch, "compile", compiling, torch, lambda: self._active)
        self.wrap(torch.optim.Optimizer, "__init__", noting_optimizer)
        self.wrap(torch.autograd, "backward", noting_backward, torch.compiler.is_compiling)
        for kind, operation, facts in (
            (torch._C.ScriptFunction, "call", describe_script),
            (torch._C.ScriptMethod, "call", describe_method),
        ):
            self.wrap(kind, "__call__", leaf, spec(operation, facts), bypass=torch.jit.is_tracing)
        data_parallel = sys.modules["torch.nn.parallel.data_parallel"]  # the package has a function of that name
        self.wrap(data_parallel, "parallel_apply", applied)
        reset()

    def _patch_dynamo(self, dynamo: Any) -> None:
        import torch

        if hasattr(torch.compiler, "substitute_in_graph"):
            folding(torch)
        handler: Any = getattr(getattr(dynamo, "callback", None), "CompilationCallbackHandler", None)
        # Not a callback of our own: torch._dynamo.reset() removes those.
        self.wrap_present(handler, "run_start_callbacks", _compiling)

    def _patch_packages(self, module: Any) -> None:
        kind = getattr(module, "AOTICompiledModel", None)
        if kind is not None:
            self.wrap(kind, "__call__", leaf, spec("call", describe_package))
            self.wrap(module, "load_package", note_package)


def _forward(torch: Any) -> CallSpec:
    """Returns the spec of a module's call; it has no kernels in a build of torch without GPU support."""
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
        if _kind(self) != before:  # some encoders move to their device at every call
            forget_model(self)
        return result

    return _apply
