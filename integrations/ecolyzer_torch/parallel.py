"""``DataParallel``: the replicas run in threads of their own, on behalf of the call that split its batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ecolyzer_otel.instrumentor import current_call, lending

__all__ = ["applied"]


def applied(original: Any) -> Any:
    """Wrap ``parallel_apply(modules, inputs, ...)``."""

    @functools.wraps(original)
    def parallel_apply(modules: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        call = current_call.get()
        if call is not None and call.open:
            modules = [_lent(module, call) for module in modules]
        return original(modules, *args, **kwargs)

    return parallel_apply


def _lent(module: Any, call: Any) -> Callable[..., Any]:
    def replica(*args: Any, **kwargs: Any) -> Any:
        with lending(call):
            return module(*args, **kwargs)

    return replica
