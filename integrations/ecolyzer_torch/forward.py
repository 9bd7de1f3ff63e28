"""``Module.__call__``: the outermost call is a request; inner calls only read a context variable.

Dynamo does not trace that read: for compiled code it is replaced by a constant (the call is enclosed). So graphs
are those of the unpatched module, and compiled code pays nothing.
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
    may_be_training,
    placement_of,
    training,
    within,
)
from ecolyzer_torch.kernels import kernels_of, record_end, record_start
from ecolyzer_torch.learning import trains

__all__ = ["called", "current", "folding", "items_of", "spec"]

#: One object: Dynamo recognises it by its identity.
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
    """Let Dynamo replace :data:`current` by a constant in compiled code; once, since it cannot be undone."""
    global _folded
    if not _folded:
        torch.compiler.substitute_in_graph(current, skip_signature_check=True)(_enclosed)
        _folded = True


def items_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """First dimension of the first tensor, wherever it is; the length of a list of them (images of many sizes)."""
    if args:  # almost always a tensor
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
    """Returns the spec of a call of torch; on CUDA, events time its kernels."""
    return CallSpec(
        framework, operation, describe, items_of, kernels=kernels_of, started=record_start, ended=record_end
    )


def called(torch: Any, original: Any, forward: CallSpec, *, folds: bool) -> Any:
    """Wrap ``Module.__call__``.

    Args:
        torch: the package.
        original: the unpatched ``Module.__call__``.
        forward: the spec of a call.
        folds: whether Dynamo replaces :data:`current` (:func:`folding`); otherwise each call asks whether it is
            traced.
    """
    compiling = torch.compiler.is_compiling
    outermost = _outermost(torch, original, forward)

    def asking(self: Any, *args: Any, **kwargs: Any) -> Any:
        if compiling():
            return original(self, *args, **kwargs)
        outer = current()
        if outer is not None and outer.encloses:
            return original(self, *args, **kwargs)
        return outermost(self, args, kwargs)

    # The fast variant of the rule in enclosing_call(), for each inner module of a model: a call that encloses is
    # open and runs in one thread, so one attribute decides. As Module._wrapped_call_impl, without a frame between a
    # module and what it calls.
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer = current()
        if outer is not None and outer.encloses:
            if self._compiled_call_impl is not None:
                return self._compiled_call_impl(*args, **kwargs)
            return self._call_impl(*args, **kwargs)
        return outermost(self, args, kwargs)

    return functools.wraps(original)(__call__ if folds else asking)


def _outermost(torch: Any, original: Any, forward: CallSpec) -> Callable[..., Any]:
    """Returns what runs a call that no open call encloses for certain."""
    # What is_compiling() reads where it is not in TorchScript, which calls no Python: two function calls less.
    flag = torch.compiler if hasattr(torch.compiler, "_is_compiling_flag") else None
    compiling, tracing = torch.compiler.is_compiling, getattr(torch._C, "_is_tracing", torch.jit.is_tracing)
    graded = torch.is_grad_enabled
    trained = training(original)

    def outermost(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A tracer would record that we read shapes.
        if (compiling() if flag is None else flag._is_compiling_flag) or tracing():
            return original(module, *args, **kwargs)
        # As nested(), without its frame, and with within(): the modules inside run in this thread.
        outer = current()
        if outer is not None and outer.open:
            if outer.training:
                return original(module, *args, **kwargs)
            if placement_of(outer) is INSIDE:
                with within(outer):
                    return original(module, *args, **kwargs)
            with lending(outer), within(outer):  # this thread received its context
                return original(module, *args, **kwargs)
        if type(module).__module__.startswith(_TOOLS) and _is_tool(module):
            return original(module, *args, **kwargs)
        maybe_training = module.training and graded()
        if maybe_training and trains():
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

    return outermost
