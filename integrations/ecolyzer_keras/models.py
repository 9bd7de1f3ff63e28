"""How a model is called: the request, its batch size, and what only looks like a request."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any, Final

from ecolyzer_keras.facts import describe
from ecolyzer_otel import call as hot
from ecolyzer_otel.call import Call, current_call, forget_model
from ecolyzer_otel.wrap import CallSpec, leaf, training
from ecolyzer_tensorflow.batches import first_leaf, size_of
from ecolyzer_tensorflow.phases import note_tape

__all__ = ["called", "forgetting", "predicted", "sized", "sizes"]


def sizes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """First dimension of the first input; None for a dataset or a generator."""
    try:
        return size_of(args[0] if args else next(iter(kwargs.values())))
    except Exception:  # noqa: BLE001 - a tensor of unknown rank, or nothing
        return None


def predicted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of ``predict(x, batch_size, verbose, steps, callbacks)``: None where the input does not tell."""
    limited = kwargs.get("steps") is not None or len(args) > 3
    return None if limited else sizes(args, kwargs)


def sized(call: Call, result: Any) -> None:
    """The batch size of what came out, where the input did not tell."""
    if call.items is None:
        call.items = size_of(result)


def called(original: Any, backend: Any) -> Any:
    """Wrap ``Model.__call__``.

    ``Layer.__call__`` is left alone: it is called for every layer.
    """
    compiling = _COMPILING[backend.backend()]() if backend.backend() in _COMPILING else None
    symbolic = backend.KerasTensor
    building: Callable[[], bool] = sys.modules["keras.src.backend.common.symbolic_scope"].in_symbolic_scope
    ended = _doubt if backend.backend() == "torch" else None
    counted = leaf(original, CallSpec("keras", "call", describe, sizes, started=note_tape, ended=ended))
    trained = training(original)

    @functools.wraps(original)
    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if compiling is not None and compiling():
            return original(self, *args, **kwargs)
        outer = current_call.get()
        if outer is not None and outer.open:
            return counted(self, *args, **kwargs)
        if building() or isinstance(_first(args, kwargs), symbolic):
            return original(self, *args, **kwargs)
        if kwargs.get("training") is True:
            return trained(self, *args, **kwargs)
        return counted(self, *args, **kwargs)

    return __call__


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    for value in args or kwargs.values():
        return first_leaf(value)
    return None


def _tensorflow_traces() -> Callable[[], bool]:
    eagerly: Callable[[], bool] = sys.modules["tensorflow.python.eager.context"].executing_eagerly
    return lambda: not eagerly()


def _torch_compiles() -> Callable[[], bool]:
    # The compiler's question first, and asked of itself: it folds to a constant.
    compiling: Callable[[], bool] = sys.modules["torch"].compiler.is_compiling
    return compiling


#: How each backend tells that a call becomes part of a graph.
_COMPILING: Final = {"tensorflow": _tensorflow_traces, "torch": _torch_compiles}


def _doubt(call: Call, result: Any) -> None:
    """Torch keeps what gradients need: it may turn out to be training."""
    if not hot.counts_training and getattr(first_leaf(result), "requires_grad", False):
        call.note().doubtful = True
        call.state.doubtful.append(call)


def forgetting(original: Any) -> Any:
    """Wrap ``Model._post_quantize``: the weights are others now."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(Exception):
            forget_model(self)
        return original(self, *args, **kwargs)

    return wrapper
