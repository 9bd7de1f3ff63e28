"""Facts of a function: its name, what it holds, its device."""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any, Final

__all__ = ["device_of", "function_name", "measure", "stem"]

#: Names of files and folders that do not identify a model; the folder around them does.
_GENERIC: Final = frozenset(("model", "saved_model", "savedmodel", "export", "exported", "final", "best", "tflite"))


def stem(path: str) -> str:
    """Returns ``classifier`` of ``classifier.tflite`` and of ``classifier/1/``, a version in a server's folder."""
    path = os.path.abspath(path)
    name = first = _stem(path)
    while name.isdecimal() or name.lower() in _GENERIC:
        path = os.path.dirname(path)
        name = _stem(path)
    return name or first


def _stem(path: str) -> str:
    name, ending = os.path.splitext(os.path.basename(path))
    return name + ending if ending[1:].isdecimal() else name  # resnet_v1.5


def function_name(function: Any) -> str:
    """Returns the name of the Python function; of the class for ``__call__``, ``call`` and callable objects."""
    python = getattr(function, "_python_function", None)
    if python is None:
        return str(function.graph.name)
    name = getattr(function, "_name", None) or getattr(python, "__name__", None)
    while hasattr(python, "__wrapped__"):
        python = python.__wrapped__
    owner = getattr(python, "__self__", None)
    if name == "<lambda>":
        return "lambda"
    if owner is not None and name in ("__call__", "call"):
        return type(getattr(owner, "target", owner)).__name__  # the self of a tf.Module's method is a proxy
    return str(name) if hasattr(python, "__code__") or owner is not None else type(python).__name__


def measure(function: Any) -> tuple[int | None, str | None, str]:
    """Returns the size of a function's variables and captured tensors, the dtype of most, and the device."""
    concrete = _concrete(function)
    sizes: Counter[str] = Counter()
    device = ""
    for held in {id(one): one for each in concrete for one in _held(each)}.values():
        sizes[str(held.dtype.base_dtype.name)] += int(held.shape.num_elements() or 0)
        device = device or str(getattr(held, "device", ""))
    if not concrete:  # functions run eagerly
        return None, None, _default_device()
    dtype = sizes.most_common(1)[0][0] if sizes else None
    return sizes.total(), dtype, device_of(device) if device else _default_device()


def _concrete(function: Any) -> list[Any]:
    cache = getattr(function, "_function_cache", None)
    if cache is None:
        return [function]
    return list(getattr(function, "concrete_functions", None) or cache.values())


def _held(concrete: Any) -> list[Any]:
    """Variables, and floating-point tensors of the enclosing scope."""
    tensors = [one for one in concrete.captured_inputs if getattr(one, "dtype", None) is not None]
    return [*concrete.variables, *(one for one in tensors if one.dtype.is_floating)]


def device_of(device: str) -> str:
    """``gpu:0`` of ``/job:localhost/replica:0/task:0/device:GPU:0``; ``cpu`` of any CPU."""
    kind, _, index = device.rpartition("device:")[2].lower().partition(":")
    return f"{kind}:{index or 0}" if kind not in ("", "cpu") else "cpu"


def _default_device() -> str:
    """The device of functions without variables: the first GPU, if there is one."""
    context = sys.modules["tensorflow.python.eager.context"].context()
    return "gpu:0" if any(one.device_type == "GPU" for one in context.list_logical_devices()) else "cpu"
