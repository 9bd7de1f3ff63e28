"""Calls of a model: which are requests, and their batch sizes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Final

from ecolyzer_keras.facts import describe
from ecolyzer_otel.instrumentor import (
    CallSpec,
    CallView,
    counts_training,
    enclosing_call,
    leaf,
    may_be_training,
    training,
)
from ecolyzer_tensorflow.batches import first_leaf, size_of
from ecolyzer_tensorflow.phases import note_tape

__all__ = ["called", "predicted", "sized", "sizes"]


def sizes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """First dimension of the first input; None for a dataset or a generator."""
    try:
        return size_of(_input(args, kwargs))
    except Exception:  # noqa: BLE001 - a tensor of unknown rank
        return None


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the first input: ``x`` of a model's methods; its ``call`` may name it otherwise."""
    if args:
        return args[0]
    return kwargs["x"] if "x" in kwargs else next(iter(kwargs.values()), None)


def predicted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of ``predict(x, batch_size, verbose, steps, callbacks)``: None where the input does not show it."""
    limited = kwargs.get("steps") is not None or len(args) > 3
    return None if limited else sizes(args, kwargs)


def sized(call: CallView, result: Any) -> None:
    """For ``CallSpec.ended``: the batch size of the result, where the input did not show it."""
    if call.items is None:
        call.items = size_of(result)


def called(original: Any, backend: Any) -> Any:
    """Wrap ``Model.__call__``.

    ``Layer.__call__`` is left alone: it is called for every layer.
    """
    compiling = _COMPILING[backend.backend()]() if backend.backend() in _COMPILING else None
    symbolic = backend.KerasTensor
    building = _building()
    ended = _note_gradients if backend.backend() == "torch" else None
    counted = leaf(original, CallSpec("keras", "call", describe, sizes, started=note_tape, ended=ended))
    trained = training(original)

    @functools.wraps(original)
    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if compiling is not None and compiling():
            return original(self, *args, **kwargs)
        if enclosing_call() is not None:
            return counted(self, *args, **kwargs)
        if building() or isinstance(first_leaf(_input(args, kwargs)), symbolic):
            return original(self, *args, **kwargs)
        if kwargs.get("training") is True and not counts_training():
            return trained(self, *args, **kwargs)
        return counted(self, *args, **kwargs)

    return __call__


def _building() -> Callable[[], bool]:
    """Returns what shows that only the shapes of outputs are computed; before Keras 3.4 a stateless scope."""
    module = sys.modules.get("keras.src.backend.common.symbolic_scope")
    if module is None:
        return sys.modules["keras.src.backend.common.stateless_scope"].in_stateless_scope  # type: ignore[no-any-return]
    return module.in_symbolic_scope  # type: ignore[no-any-return]


def _tensorflow_traces() -> Callable[[], bool]:
    eagerly: Callable[[], bool] = sys.modules["tensorflow.python.eager.context"].executing_eagerly
    return lambda: not eagerly()


def _torch_compiles() -> Callable[[], bool]:
    # The compiler's own function: it folds to a constant in compiled code.
    compiling: Callable[[], bool] = sys.modules["torch"].compiler.is_compiling
    return compiling


def _jax_transforms() -> Callable[[], bool]:
    clean: Callable[[], bool] | None = getattr(sys.modules["jax._src.core"], "trace_state_clean", None)
    return (lambda: not clean()) if clean is not None else (lambda: False)


#: What shows, on each backend, that a call becomes part of a graph.
_COMPILING: Final = {"tensorflow": _tensorflow_traces, "torch": _torch_compiles, "jax": _jax_transforms}


def _note_gradients(call: CallView, result: Any) -> None:
    """For ``CallSpec.ended`` on torch: a result with gradients may turn out to be training."""
    if getattr(first_leaf(result), "requires_grad", False):
        may_be_training(call)
