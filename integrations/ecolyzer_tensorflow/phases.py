"""What shows while a call runs, or just after: that it compiles, or that it is training."""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

from ecolyzer_otel.instrumentor import (
    CallView,
    counts_training,
    enclosing_request,
    mark_training,
    may_be_training,
)

__all__ = ["note_tape", "noting_gradient", "noting_tracing"]

_RECORD: Final = "tensorflow.python.eager.record"


def noting_tracing(original: Any) -> Any:
    """Wrap what TensorFlow calls after each call that traced: the open request is a warm-up."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = enclosing_request()
        if call is not None:
            call.ensure_details().warmup = True
        return original(*args, **kwargs)

    return wrapper


def noting_gradient(original: Any) -> Any:
    """Wrap ``GradientTape.gradient(target, sources)``: a gradient with respect to variables is training.

    Then the open request, where a function is traced or run, is training; else the calls that this thread has just
    made under the tape. A gradient with respect to inputs explains a prediction.
    """

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        sources = args[1] if len(args) > 1 else kwargs.get("sources")
        if not counts_training() and _has_variable(sources):
            _mark_training()
        return original(self, *args, **kwargs)

    return wrapper


def note_tape(call: CallView, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """For ``CallSpec.started``: a call made under a tape may turn out to be training."""
    record = sys.modules.get(_RECORD)
    if record is not None and record.could_possibly_record():
        may_be_training(call)


def _mark_training() -> None:
    call = enclosing_request()
    if call is not None:
        call.ensure_details().training = True
    else:
        mark_training(this_thread=True)


def _has_variable(sources: Any) -> bool:
    if isinstance(sources, dict):
        sources = list(sources.values())
    if isinstance(sources, (list, tuple)):
        return any(_has_variable(source) for source in sources)
    return hasattr(sources, "assign")
