"""``transformers serve`` generates in a thread of its own; that is told whose request it works for."""

from __future__ import annotations

import functools
from contextvars import copy_context
from typing import Any

__all__ = ["submitted"]


def submitted(original: Any) -> Any:
    """Wrap ``InferenceThread.submit(fn, ...)``: ``fn`` runs in the context of who asked, for its parent span."""

    @functools.wraps(original)
    def submit(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, functools.partial(copy_context().run, fn), *args, **kwargs)

    return submit
