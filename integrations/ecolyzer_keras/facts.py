"""Facts of a Keras model."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import weakref
from collections import Counter
from math import prod
from typing import Any, Final

from ecolyzer_otel.instrumentor import ModelFacts
from ecolyzer_tensorflow.facts import device_of, stem

__all__ = ["describe", "noting_file"]

#: Name of each loaded model, after its file.
_files: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def noting_file(original: Any) -> Any:
    """Wrap ``load_model(filepath, ...)`` of one of the file formats."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        model = original(*args, **kwargs)
        with contextlib.suppress(Exception):  # a name is not worth the model
            path = os.fspath(args[0] if args else kwargs["filepath"])
            _files[model] = path[5:] if path.startswith("hf://") else stem(path)
        return model

    return wrapper


def describe(model: Any) -> ModelFacts:
    """Facts of a model: name of its file, its own or its class; number, dominant dtype, device of its weights."""
    counted: Counter[str] = Counter()
    device = ""
    packed = _packed(model)
    for variable in model.weights:
        dtype, size = packed.get(id(variable)) or (str(variable.dtype), prod(variable.shape))
        counted[dtype] += int(size)
        device = device or _device(variable)
    most = counted.most_common(1)[0][0] if counted else None
    return ModelFacts(_name(model), counted.total(), most, device or "cpu")


def _name(model: Any) -> str:
    """The file's name, or a given one; the class's where Keras generated one with a counter."""
    kind = type(model).__name__
    own = str(model.name)
    given = re.fullmatch(rf"{re.escape(_snake(kind))}(_\d+)?", own) is None
    return _files.get(model) or (own if given else kind)


def _snake(name: str) -> str:
    """As ``keras.src.utils.naming.to_snake_case``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _packed(model: Any) -> dict[int, tuple[str, int]]:
    """Returns dtype and size of kernels of four bits, two in each element of a variable of eight bits."""
    found: dict[int, tuple[str, int]] = {}
    for layer in model._flatten_layers():
        if getattr(layer, "quantization_mode", None) not in ("int4", "gptq", "awq"):
            continue
        for name in ("_kernel", "_embeddings", "quantized_kernel"):
            variable = getattr(layer, name, None)
            if variable is not None and str(variable.dtype) in ("int8", "uint8"):
                size = _unpacked(layer, variable.shape)
                if size > prod(variable.shape):
                    found[id(variable)] = "int4", size
    return found


def _unpacked(layer: Any, shape: Any) -> int:
    """Number of weights of a layer, by the shape of its kernel before packing, or by the side that was halved."""
    shape_before = getattr(layer, "original_kernel_shape", None) or getattr(layer, "kernel_shape", None)
    if shape_before:
        return prod(shape_before)
    return int(getattr(layer, "_orig_input_dim", shape[0]) * getattr(layer, "_orig_output_dim", shape[-1]))


def _device(variable: Any) -> str:
    """Returns ``cpu``, or kind and number; the first device of a value that JAX spread over several."""
    value = variable.value
    devices = getattr(value, "devices", None)
    device = str(min(devices(), key=lambda one: one.id) if callable(devices) else getattr(value, "device", ""))
    if "device:" in device:  # TensorFlow's
        return device_of(device)
    kind, _, index = device.partition(":")
    return kind if kind in ("", "cpu") else f"{kind}:{index or 0}"
