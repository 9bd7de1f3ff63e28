"""Batch sizes: the first dimension of the first input, however it is passed to the session."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Final

from ecolyzer_otel.instrumentor import batch_of

__all__ = ["bound_items", "fed_items", "forgetting", "noting", "vector_items"]

#: Attribute of an ``IOBinding`` with the batch sizes of its inputs, by name: it has no method for its inputs.
_NOTED: Final = "_ecolyzer_batches"


def fed_items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of ``run(output_names, input_feed)``, ``run_async`` and ``run_with_ort_values``."""
    try:
        feed = args[1] if len(args) > 1 else kwargs.get("input_feed") or kwargs["input_dict_ort_values"]
        for value in feed.values():
            return _batch(value)
    except Exception:  # noqa: BLE001 - no feed: the runtime will raise
        return 1
    return 1


def vector_items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of ``run_with_ortvaluevector(run_options, feed_names, feeds, ...)``."""
    try:
        return _batch((args[2] if len(args) > 2 else kwargs["feeds"])[0])
    except Exception:  # noqa: BLE001 - no feeds, or no tensors
        return 1


def bound_items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of ``run_with_iobinding(iobinding)``: that of the input that was bound first."""
    try:
        for batch in vars(args[0] if args else kwargs["iobinding"])[_NOTED].values():
            return batch
    except Exception:  # noqa: BLE001 - bound before it was patched
        return 1
    return 1


def _batch(value: Any) -> Any:
    shape = getattr(value, "shape", None)
    if callable(shape):  # an OrtValue
        dimensions = shape()
        return dimensions[0] if dimensions else 1
    return batch_of(value)


def noting(original: Any) -> Any:
    """Wrap one of ``IOBinding``'s ``bind_*input(name, value)`` or ``bind_input(name, ..., shape, buffer_ptr)``."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        with contextlib.suppress(Exception):  # a note is not worth a failed request
            name = args[0] if args else kwargs["name"]
            vars(self).setdefault(_NOTED, {})[name] = _bound(args, kwargs)
        return result

    return wrapper


def _bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if "shape" in kwargs or len(args) > 4:
        shape = kwargs["shape"] if "shape" in kwargs else args[4]
        return int(shape[0]) if len(shape) else 1
    for name in ("arr_on_cpu", "ortvalue"):
        if name in kwargs:
            return _batch(kwargs[name])
    return _batch(args[1])


def forgetting(original: Any) -> Any:
    """Wrap ``IOBinding.clear_binding_inputs``."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        with contextlib.suppress(Exception):
            vars(self).pop(_NOTED, None)
        return result

    return wrapper
