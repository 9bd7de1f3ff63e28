"""Training: framework calls inside it are not requests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ecolyzer_otel.worker.call import Call, current_call
from ecolyzer_otel.worker.details import CallView
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.state import state
from ecolyzer_otel.worker.thread_ids import get_ident

__all__ = ["count_training", "counts_training", "mark_training", "may_be_training", "training"]

F = TypeVar("F", bound=Callable[..., Any])

_counts = False


def counts_training() -> bool:
    """Whether forward passes of training count as requests (``ECOLYZER_COUNT_TRAINING``)."""
    return _counts


def count_training(counts: bool) -> None:
    """Set whether forward passes of training count as requests."""
    global _counts
    _counts = counts


def may_be_training(call: CallView) -> None:
    """Delay the report of ``call``: it may turn out to be training. Does nothing where training counts."""
    if not _counts:
        call.may_be_training()


def mark_training(*, this_thread: bool = False) -> None:
    """Mark calls that may be training as training: all, or this thread's. Does nothing where training counts."""
    if _counts:
        return
    waiting = state().maybe_training
    if not this_thread:
        while waiting:
            try:
                waiting.popleft().ensure_details().training = True
            except IndexError:  # taken meanwhile
                return
        return
    thread = get_ident()
    for call in list(waiting):
        if call.thread == thread and call.details is not None and call.details.maybe_training:
            call.details.training = True


class _Training(Call):
    __slots__ = ()
    training = True


_TRAINING_SPEC: Final = CallSpec("custom", "training", describe=lambda model: ModelFacts("training"))


def training(original: F, after: Callable[[Any], None] | None = None) -> F:
    """Wrap a function inside which framework calls are training, not requests.

    Args:
        original: a method or a function.
        after: called with the first positional argument when ``original`` has returned or raised, within other
            training too.
    """

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        guard = None
        if outer is None or not outer.open:
            guard = _Training(_TRAINING_SPEC, None, state())
            guard.encloses = True
            token = current_call.set(guard)
        try:
            return original(*args, **kwargs)
        finally:
            if guard is not None:
                guard.open = guard.encloses = False
                current_call.reset(token)
            if after is not None and args:
                after(args[0])

    return wrapper  # type: ignore[return-value]
