"""Batch sizes: the first dimension of the first array among the arguments."""

from __future__ import annotations

from typing import Any

__all__ = ["first_leaf", "first_size", "size_of"]


def first_leaf(value: Any) -> Any:
    """Returns the first array in lists, tuples and dictionaries; the first value where they hold no array."""
    while True:
        if isinstance(value, dict):
            value = next(iter(value.values()), None)
        elif isinstance(value, (list, tuple)) and value:
            value = value[0]
        else:
            return value


def size_of(value: Any) -> Any:
    """Returns the first dimension of the first array in ``value``, or the length of a list without any, or None."""
    shape = getattr(first_leaf(value), "shape", None)
    if shape is not None:
        return shape[0] if len(shape) else 1
    return len(value) if isinstance(value, (list, tuple)) else None


def first_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the size of the first argument that has one, by position or by name; else 1."""
    try:
        for value in (*args, *kwargs.values()):
            size = size_of(value)
            if size is not None:
                return size
    except Exception:  # noqa: BLE001 - a tensor of unknown rank
        return 1
    return 1
