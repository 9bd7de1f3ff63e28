"""What a call turns out to be while it runs, or just after: compiling, or training."""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallView, counts_training, enclosing, get_ident, mark_training

__all__ = ["learning", "note_tape", "tracing"]

_RECORD: Final = "tensorflow.python.eager.record"


def tracing(original: Any) -> Any:
    """Wrap what TensorFlow tells of every call that traced: the request in which it happens is a warm-up."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = enclosing()
        if call is not None:
            call.ensure_details().warmup = True
        return original(*args, **kwargs)

    return wrapper


def learning(original: Any) -> Any:
    """Wrap ``GradientTape.gradient(target, sources)``: with respect to variables it is training.

    That is the function being traced or run, or the calls that this thread has just made under the tape. Gradients
    with respect to inputs only explain a prediction.
    """

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        sources = args[1] if len(args) > 1 else kwargs.get("sources")
        if not counts_training() and _has_variable(sources):
            _it_was_training()
        return original(self, *args, **kwargs)

    return wrapper


def note_tape(call: CallView, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """For ``CallSpec.started``: a call made under a tape may turn out to be training."""
    record = sys.modules.get(_RECORD)
    if record is not None and record.could_possibly_record() and not counts_training():
        call.may_be_training()


def _it_was_training() -> None:
    call = enclosing()
    if call is not None:
        call.ensure_details().training = True
        return
    mark_training(get_ident())


def _has_variable(sources: Any) -> bool:
    if isinstance(sources, dict):
        sources = list(sources.values())
    if isinstance(sources, (list, tuple)):
        return any(_has_variable(source) for source in sources)
    return hasattr(sources, "assign")
