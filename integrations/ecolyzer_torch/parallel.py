"""``DataParallel``: replicas run in threads of their own, as parts of the call that split its batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ecolyzer_otel.instrumentor import enclosing_call, lending

__all__ = ["applied"]


def applied(original: Any) -> Any:
    """Wrap ``parallel_apply(modules, inputs, ...)``."""

    @functools.wraps(original)
    def parallel_apply(modules: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        call = enclosing_call()
        if call is not None:
            modules = [_lent(module, call) for module in modules]
        return original(modules, *args, **kwargs)

    return parallel_apply


def _lent(module: Any, call: Any) -> Callable[..., Any]:
    def replica(*args: Any, **kwargs: Any) -> Any:
        with lending(call):
            return module(*args, **kwargs)

    return replica
