"""Generation in a thread of its own, for a request that waits elsewhere: it is told whose it is.

``transformers serve`` hands its work to such a thread, and so does everybody who reads a ``TextIteratorStreamer``
while ``Thread(target=model.generate)`` writes to it. A thread begins without a context, and with it without a
parent span and a route; what was handed over brings that of its maker.
"""

from __future__ import annotations

import contextlib
import functools
from contextvars import Context, copy_context
from typing import Any, Final

__all__ = ["context_of", "noting_context", "submitted"]

_NOTED: Final = "_ecolyzer_context"


def submitted(original: Any) -> Any:
    """Wrap ``InferenceThread.submit(fn, ...)``: ``fn`` runs in the context of who asked."""

    @functools.wraps(original)
    def submit(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, functools.partial(copy_context().run, fn), *args, **kwargs)

    return submit


def noting_context(original: Any) -> Any:
    """Wrap a streamer's ``__init__``."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        context = copy_context()
        if len(context):
            with contextlib.suppress(Exception):
                setattr(self, _NOTED, context)

    return __init__


def context_of(streamer: Any) -> Context | None:
    """A copy of the context in which ``streamer`` was made, where this thread has none of its own."""
    if streamer is None or len(copy_context()):
        return None
    context = getattr(streamer, _NOTED, None)
    return context.copy() if isinstance(context, Context) else None
