"""Training told apart from inference.

A forward pass in training mode that keeps what gradients need is training once the process has made an optimizer or
gone backward; until then it may still turn out to be, and is held back for half a second. Passes in evaluation mode
or without gradients are requests, whatever else the process does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ecolyzer_otel.instrumentor import (
    OUTERMOST,
    CallView,
    counts_training,
    current_call,
    mark_training,
    placement_of,
)

__all__ = ["learns", "may_be_training", "optimizing", "reset", "went_backward"]

_learns = False


def learns() -> bool:
    """Whether this process trains models, as far as known, and that is not to be counted."""
    return _learns and not counts_training()


def reset() -> None:
    """Nothing is known yet."""
    global _learns
    _learns = False


def may_be_training(call: CallView) -> None:
    """Delay the report of ``call``: it may turn out to be training."""
    if not counts_training():
        call.may_be_training()


def optimizing(original: Any) -> Any:
    """Wrap ``Optimizer.__init__``."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        global _learns
        _learns = True
        original(self, *args, **kwargs)

    return __init__


def went_backward(original: Any, compiling: Callable[[], bool]) -> Any:
    """Wrap ``torch.autograd.backward``: the passes that may be training were training."""

    @functools.wraps(original)
    def backward(*args: Any, **kwargs: Any) -> Any:
        if not compiling():
            _it_was_training()
        return original(*args, **kwargs)

    return backward


def _it_was_training() -> None:
    global _learns
    _learns = True
    if not counts_training() and placement_of(current_call.get()) is OUTERMOST:
        mark_training()  # within a request: an explanation of a prediction
