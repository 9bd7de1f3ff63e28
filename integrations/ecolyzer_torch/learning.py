"""Training told apart from inference.

A forward pass in training mode that keeps what gradients need is training if the process has made an optimizer or
run a backward pass before. Otherwise it may still turn out to be training, and its report is delayed by half a
second. Passes in evaluation mode or without gradients are requests in any case.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ecolyzer_otel.instrumentor import counts_training, enclosing_call, mark_training

__all__ = ["noting_backward", "noting_optimizer", "reset", "trains"]

_trains = False


def trains() -> bool:
    """Whether this process is found to train models, and training does not count."""
    return _trains and not counts_training()


def reset() -> None:
    """Forget that this process trains models."""
    global _trains
    _trains = False


def noting_optimizer(original: Any) -> Any:
    """Wrap ``Optimizer.__init__``: a process that makes one trains models."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        global _trains
        _trains = True
        original(self, *args, **kwargs)

    return __init__


def noting_backward(original: Any, compiling: Callable[[], bool]) -> Any:
    """Wrap ``torch.autograd.backward``: the passes that may be training were training."""

    @functools.wraps(original)
    def backward(*args: Any, **kwargs: Any) -> Any:
        if not compiling():
            _note_backward()
        return original(*args, **kwargs)

    return backward


def _note_backward() -> None:
    global _trains
    _trains = True
    if enclosing_call() is None:  # within a request it explains a prediction
        mark_training()
