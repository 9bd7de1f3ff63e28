"""Generation in a thread of its own, for a web request that waits elsewhere: the thread gets its context.

``transformers serve`` hands its work to such a thread, and so does code that reads a ``TextIteratorStreamer`` while
``Thread(target=model.generate)`` writes to it. A thread starts with an empty context: without a parent span and a
route. So the work takes along the context in which it, or its streamer, was created.
"""

from __future__ import annotations

import contextlib
import functools
from contextvars import Context, copy_context
from typing import Any, Final

__all__ = ["context_of", "keeping_context", "noting_context"]

_NOTED: Final = "_ecolyzer_context"


def keeping_context(original: Any) -> Any:
    """Wrap ``InferenceThread.submit(fn, ...)``: ``fn`` runs in the context of the caller."""

    @functools.wraps(original)
    def submit(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, functools.partial(copy_context().run, fn), *args, **kwargs)

    return submit


def noting_context(original: Any) -> Any:
    """Wrap a streamer's ``__init__``: it keeps the context in which it was created."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        context = copy_context()
        if len(context):
            with contextlib.suppress(Exception):
                setattr(self, _NOTED, context)

    return __init__


def context_of(streamer: Any) -> Context | None:
    """Returns a copy of the context in which ``streamer`` was created; None if this thread has its own."""
    if streamer is None or len(copy_context()):
        return None
    context = getattr(streamer, _NOTED, None)
    return context.copy() if isinstance(context, Context) else None
