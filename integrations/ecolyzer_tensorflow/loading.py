"""SavedModels: a loaded model has the name of its folder; its signatures and functions are operations."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

from ecolyzer_otel.instrumentor import training
from ecolyzer_tensorflow.facts import stem
from ecolyzer_tensorflow.functions import register

__all__ = ["naming"]


def naming(original: Any) -> Any:
    """Wrap ``load_partial(export_dir, ...)``. Calls within it (restoring, initialising) are no requests."""
    guarded = training(original)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        loaded = guarded(*args, **kwargs)
        with contextlib.suppress(Exception):  # a name is not worth the model
            name = stem(os.fsdecode(args[0] if args else kwargs["export_dir"]))
            for root in loaded.values():
                for operation, function in _functions(root):
                    register(function, operation, name)
        return loaded

    return wrapper


def _functions(root: Any) -> Iterator[tuple[str, Any]]:
    """Yields the signatures, and the functions of all parts, by attribute."""
    yield from root.signatures.items() if hasattr(root, "signatures") else ()
    todo, seen = [root], set()
    while todo:
        part = todo.pop()
        seen.add(id(part))
        for attribute, value in part._trackable_children().items():
            if hasattr(value, "concrete_functions"):
                yield "call" if attribute == "__call__" else attribute, value
            elif hasattr(value, "_trackable_children") and id(value) not in seen:
                todo.append(value)
