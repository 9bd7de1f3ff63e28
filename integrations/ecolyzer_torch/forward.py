"""``Module.__call__``: the outermost is a request; those inside pass with one look at a context variable.

Dynamo never sees that look: it is told to take what is inside for enclosed, which folds to a constant. So the
graphs are those of the unpatched module, and compiled code pays nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from ecolyzer_otel.instrumentor import (
    INSIDE,
    CallSpec,
    begin,
    current_call,
    finish,
    lending,
    placement_of,
    training,
    within,
)
from ecolyzer_torch.kernels import kernels_of, record_end, record_start
from ecolyzer_torch.learning import learns, may_be_training

__all__ = ["called", "current", "folding", "items_of", "spec"]

#: One object, which Dynamo knows by its identity.
current: Final[Callable[[], Any]] = current_call.get


#: Packages whose modules without parameters are tools around a model: activations, losses, observers, transforms,
#: metrics; and one whose modules are parts of a model that are called while it is made (parametrizations).
_TOOLS: Final = (
    "torch.nn.modules.", "torch.nn.utils.", "torch.ao.quantization.", "torchvision.transforms.", "torchmetrics.",
)  # fmt: skip


class _Enclosed:
    encloses = True


_ENCLOSED: Final = _Enclosed()
_folded = False


def _enclosed(*default: Any) -> Any:
    return _ENCLOSED


def _is_tool(module: Any) -> bool:
    part = type(module).__module__.startswith("torch.nn.utils.")
    return part or (not module._modules and not module._parameters)


def folding(torch: Any) -> None:
    """Tell Dynamo what :data:`current` gives in what it compiles; once, for it cannot be told otherwise again."""
    global _folded
    if not _folded:
        torch.compiler.substitute_in_graph(current, skip_signature_check=True)(_enclosed)
        _folded = True


def items_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """First dimension of the first tensor, wherever it is; the length of a list of them (images of many sizes)."""
    if args:  # as good as always: a tensor
        shape = getattr(args[0], "shape", None)
        if shape:
            return shape[0]
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, dict) or hasattr(value, "keys"):
            value = next(iter(value.values()), None)
        shape = getattr(value, "shape", None)
        if shape is not None:
            return shape[0] if len(shape) else 1
        if isinstance(value, (list, tuple)) and value:
            return len(value)
    return 1


def spec(operation: str, describe: Callable[[Any], Any], framework: str = "torch") -> CallSpec:
    """A call of torch, its kernels told by events where it runs on CUDA."""
    return CallSpec(
        framework, operation, describe, items_of, kernels=kernels_of, started=record_start, ended=record_end
    )


def called(torch: Any, original: Any, forward: CallSpec, *, folds: bool) -> Any:
    """Wrap ``Module.__call__``.

    Args:
        torch: the module.
        original: what it was.
        forward: what a call is.
        folds: whether Dynamo has been, or will be, told of :data:`current`; otherwise it is asked first.
    """
    # What is_compiling() looks at once TorchScript is ruled out, which calls no Python: two calls less.
    flag = torch.compiler if hasattr(torch.compiler, "_is_compiling_flag") else None
    compiling, tracing = torch.compiler.is_compiling, getattr(torch._C, "_is_tracing", torch.jit.is_tracing)
    graded = torch.is_grad_enabled
    trained = training(original)

    def outermost(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A tracer would record that we look at shapes.
        if (compiling() if flag is None else flag._is_compiling_flag) or tracing():
            return original(module, *args, **kwargs)
        outer = current()
        if outer is not None and outer.open:
            if outer.training:
                return original(module, *args, **kwargs)
            if placement_of(outer) is INSIDE:
                with within(outer):
                    return original(module, *args, **kwargs)
            with lending(outer), within(outer):  # its context came along to this thread
                return original(module, *args, **kwargs)
        if type(module).__module__.startswith(_TOOLS) and _is_tool(module):
            return original(module, *args, **kwargs)
        maybe_training = module.training and graded()
        if maybe_training and learns():
            return trained(module, *args, **kwargs)
        call = begin(forward, module, args, kwargs, True)
        if call is None:
            return original(module, *args, **kwargs)
        if maybe_training:
            may_be_training(call)
        # As measured(), without its frame: a small model's call takes some 100 us.
        try:
            result = original(module, *args, **kwargs)
        except BaseException as error:
            finish(call, error)
            raise
        finish(call, None, result)
        return result

    def asking(self: Any, *args: Any, **kwargs: Any) -> Any:
        if compiling():
            return original(self, *args, **kwargs)
        outer = current()
        if outer is not None and outer.encloses:
            return original(self, *args, **kwargs)
        return outermost(self, args, kwargs)

    # As Module._wrapped_call_impl, without a frame between a module and what it calls. Each inner module of a model
    # comes through here, so one attribute decides: a call that encloses runs in one thread, where placement_of() is
    # always INSIDE.
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer = current()
        if outer is not None and outer.encloses:
            if self._compiled_call_impl is not None:
                return self._compiled_call_impl(*args, **kwargs)
            return self._call_impl(*args, **kwargs)
        return outermost(self, args, kwargs)

    return functools.wraps(original)(__call__ if folds else asking)
