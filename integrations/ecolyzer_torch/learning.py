"""Training told apart from inference.

A forward pass in training mode that keeps what gradients need is training once the process has made an optimizer or
gone backward; until then it may still turn out to be, and is held back for half a second. Passes in evaluation mode
or without gradients are requests, whatever else the process does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ecolyzer_otel.instrumentor import CallView, counts_training, current_call, state

__all__ = ["doubt", "learns", "optimizing", "reset", "went_backward"]

_learns = False


def learns() -> bool:
    """Whether this process trains models, as far as known, and that is not to be counted."""
    return _learns and not counts_training()


def reset() -> None:
    """Nothing is known yet."""
    global _learns
    _learns = False


def doubt(call: CallView) -> None:
    """``call`` may turn out to be training."""
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
    """Wrap ``torch.autograd.backward``: the passes in doubt were training."""

    @functools.wraps(original)
    def backward(*args: Any, **kwargs: Any) -> Any:
        if not compiling():
            _it_was_training()
        return original(*args, **kwargs)

    return backward


def _it_was_training() -> None:
    global _learns
    _learns = True
    here, call = state(), current_call.get()
    if counts_training() or (call is not None and call.open):
        return  # within a request: an explanation of a prediction
    while here.maybe_training:
        try:
            one = here.maybe_training.popleft()
        except IndexError:
            return
        one.ensure_details().training = True
