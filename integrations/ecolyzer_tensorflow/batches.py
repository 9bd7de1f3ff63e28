"""Batch sizes: the first dimension of the first array, wherever it is among the arguments."""

from __future__ import annotations

from typing import Any

__all__ = ["first_leaf", "first_size", "size_of"]


def first_leaf(value: Any) -> Any:
    """The first array in lists, tuples and dictionaries; of what holds none, what comes first."""
    while True:
        if isinstance(value, dict):
            value = next(iter(value.values()), None)
        elif isinstance(value, (list, tuple)) and value:
            value = value[0]
        else:
            return value


def size_of(value: Any) -> Any:
    """First dimension of the first array in ``value``, length of a list without any; None where neither is."""
    shape = getattr(first_leaf(value), "shape", None)
    if shape is not None:
        return shape[0] if len(shape) else 1
    return len(value) if isinstance(value, (list, tuple)) else None


def first_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of the first argument that has one, by position or by name; 1 where nothing tells."""
    try:
        for value in (*args, *kwargs.values()):
            size = size_of(value)
            if size is not None:
                return size
    except Exception:  # noqa: BLE001 - a tensor of unknown rank
        return 1
    return 1
